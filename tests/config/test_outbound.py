"""Requests to addresses that people gave: where they may go, and that they cannot be led elsewhere."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from config import outbound
from config.outbound import NoAnswer, NotAllowed, check_url, post
from tests.receiver import Receiver


def sent(url: str) -> outbound.Answer:
    return asyncio.run(post(url, b"{}", {"X-Own": "1"}))


def names(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names lead to these addresses, one list after another; which names were asked for."""
    asked: list[str] = []
    rest = list(answers)

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        found = rest.pop(0) if len(rest) > 1 else rest[0]
        return [
            (socket.AF_INET6 if ":" in at else socket.AF_INET, socket.SOCK_STREAM, 6, "", (at, port)) for at in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_nothing_is_sent_anywhere_unless_the_operator_says_where(settings: Settings, receiver: Receiver) -> None:
    settings.OUTBOUND = []
    with pytest.raises(NotAllowed, match="setting OUTBOUND"):
        sent(receiver.url)
    settings.OUTBOUND = ["example.org"]
    with pytest.raises(NotAllowed, match="does not have the host"):
        sent(receiver.url)
    settings.OUTBOUND = ["127.0.0.0/8"]
    answer = sent(receiver.url)
    assert (answer.status, answer.body) == (200, b"fine")
    [(headers, body)] = receiver.got
    assert (headers["host"], headers["x-own"], body) == (f"127.0.0.1:{receiver.server_port}", "1", b"{}")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[ff02::1]"),
        *("[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
    ],
)
def test_no_private_address_is_reached_where_all_public_ones_are_allowed(settings: Settings, host: str) -> None:
    settings.OUTBOUND = ["*"]
    with pytest.raises(NotAllowed, match="public address|nothing is sent"):
        sent(f"http://{host}/")


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "localhost", "LOCALHOST."])
def test_no_other_spelling_of_this_machine_helps(settings: Settings, host: str) -> None:
    settings.OUTBOUND = ["*"]
    with pytest.raises((NotAllowed, NoAnswer), match="public address|not known"):
        sent(f"http://{host}/")


def test_metadata_addresses_are_closed_even_where_they_are_listed(settings: Settings) -> None:
    settings.OUTBOUND = ["169.254.0.0/16", "metadata.example", "*"]
    with pytest.raises(NotAllowed, match="nothing is sent"):
        sent("http://169.254.169.254/latest/meta-data/")


def test_a_name_is_asked_for_once_and_the_connection_goes_to_what_was_checked(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OUTBOUND = ["127.0.0.1"]
    asked = names(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    assert sent(f"http://rebinding.example:{receiver.server_port}/").status == 200
    assert asked == ["rebinding.example"]
    assert receiver.got[0][0]["host"] == f"rebinding.example:{receiver.server_port}"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::1"], ["169.254.169.254"]])
def test_a_public_name_that_leads_inside_is_not_followed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    settings.OUTBOUND = ["hooks.example"]
    names(monkeypatch, addresses)
    with pytest.raises(NotAllowed, match="public address|nothing is sent"):
        sent("http://hooks.example/")


def test_redirects_are_answers_and_long_answers_are_cut(settings: Settings, receiver: Receiver) -> None:
    settings.OUTBOUND = ["127.0.0.1"]
    receiver.answers = [(302, {"Location": "http://169.254.169.254/"}, b""), (200, {}, b"x" * 1_000_000)]
    assert sent(receiver.url).status == 302
    assert len(sent(receiver.url).body) == outbound.MOST_BYTES
    assert len(receiver.got) == 2


def test_a_server_that_does_not_answer_is_left(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OUTBOUND = ["127.0.0.1"]
    monkeypatch.setattr(outbound, "DEADLINE", 0.3)
    receiver.answers = [(0, {}, b"")]
    with pytest.raises(NoAnswer):
        sent(receiver.url)
    receiver.slow.set()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NoAnswer):
        sent(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://",
        "https://u:p@example.org/",
        "http://[::1",
        "http://x:99999/",
    ],
)
def test_what_is_no_plain_web_address_is_refused(settings: Settings, url: str) -> None:
    settings.OUTBOUND = ["*"]
    with pytest.raises(NotAllowed):
        check_url(url)

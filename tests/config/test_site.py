from __future__ import annotations

import os

import httpx
import pytest
from django.core.management import call_command
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from accounts.models import User
from tests.conftest import Site, client_for


def test_the_health_check_names_the_versions(site: Site) -> None:
    answer = httpx.get(f"{site.url}/healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert set(answer.json()["versions"]) == {"prefloop", "django", "postgresql"}
    assert len(answer.headers["X-Request-ID"]) == 32


def test_a_websocket_from_another_site_is_refused(site: Site, annotator: User) -> None:
    cookie = f"sessionid={client_for(annotator).cookies['sessionid'].value}"
    with pytest.raises(InvalidStatus, match="403"):
        connect(
            f"{site.ws_url}/ws/nowhere", origin=Origin("http://evil.example"), additional_headers={"Cookie": cookie}
        )


def test_an_unknown_websocket_path_is_closed_with_404(site: Site) -> None:
    with connect(f"{site.ws_url}/ws/nowhere", origin=Origin(site.url)) as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 4404


def test_the_schema_of_the_api_is_complete_and_valid() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", os.devnull)


def test_pages_carry_the_strict_policy_and_headers(site: Site) -> None:
    headers = httpx.get(f"{site.url}/accounts/login/").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "object-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_health_check_says_when_the_database_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"host": "127.0.0.1", "port": 1, "dbname": "none"}
    monkeypatch.setattr("config.push.connection_parameters", lambda: nowhere)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "database unreachable"

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from config.logs import IdsFilter, JsonFormatter, run_id
from tests.conftest import Site


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the console handler would write."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(IdsFilter())
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger("test"), logging.getLogger("django")]
    for logger in loggers:
        logger.addHandler(handler)
    yield stream
    for logger in loggers:
        logger.removeHandler(handler)


def test_a_line_is_one_json_object_with_the_run_it_is_about(lines: io.StringIO) -> None:
    token = run_id.set("k3v9")
    logging.getLogger("test").warning("one\ntwo %s", "three")
    run_id.reset(token)
    logging.getLogger("test").warning("no run")
    first, second = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert first["message"] == "one\ntwo three"
    assert first["run_id"] == "k3v9"
    assert first["level"] == "warning"
    assert "run_id" not in second


def test_an_exception_stays_on_its_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("test").exception("It failed.")
    (line,) = lines.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_a_request_and_its_log_lines_share_an_id(site: Site, lines: io.StringIO) -> None:
    answers = [httpx.get(f"{site.url}/no-such-page-{number}") for number in range(2)]
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert len(set(ids)) == 2
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["request_id"] for line in logged if "no-such-page" in line["message"]] == ids


@pytest.mark.parametrize(("given", "kept"), [("proxy-made-id-1", True), ("x" * 100, False), ("a\\nb; injected", False)])
def test_an_id_from_a_proxy_is_kept_when_it_looks_like_one(site: Site, given: str, kept: bool) -> None:
    answer = httpx.get(f"{site.url}/healthz", headers={"X-Request-ID": given})
    assert (answer.headers["X-Request-ID"] == given) is kept

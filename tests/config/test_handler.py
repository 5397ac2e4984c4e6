"""A request is served in one thread of a few, whose connections to the database are kept, and replaced when dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from django.db import connection
from django.http import StreamingHttpResponse

from accounts.models import User
from config.handler import Handler
from tests.conftest import Site, client_for

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def ask(site: Site, user: User) -> int:
    cookies = {"sessionid": client_for(user).cookies["sessionid"].value}
    return httpx.get(f"{site.url}/campaigns/", cookies=cookies, timeout=60).status_code


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_died_meanwhile_is_replaced_and_nobody_notices(site: Site, annotator: User) -> None:
    assert ask(site, annotator) == 200
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(pg_terminate_backend(pid)) {OTHERS}")
        assert cursor.fetchone()[0] > 0
    assert [ask(site, annotator) for _ in range(10)] == [200] * 10


@pytest.mark.django_db(transaction=True)
def test_connections_are_kept_and_there_are_few(site: Site, annotator: User, settings: Any) -> None:
    for _ in range(3 * settings.WEB_THREADS):
        assert ask(site, annotator) == 200
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) {OTHERS}")
        assert 0 < cursor.fetchone()[0] <= 2 * settings.WEB_THREADS


def test_a_download_that_nobody_waits_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, ended = 0, False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces, ended
        try:
            while True:
                pieces += 1
                yield b"x"
                await asyncio.sleep(0.001)
        finally:
            ended = True

    handler = Handler()
    monkeypatch.setattr(handler, "get_response", lambda request: StreamingHttpResponse(endless()))
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not asked:
            asked.append(True)
            return {"type": "http.request", "body": b""}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        if pieces == 5:
            gone.set()

    asked: list[bool] = []
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "server": ("x", 80)}
    asyncio.run(asyncio.wait_for(handler(scope, receive, send), 30))
    assert ended
    assert 5 <= pieces < 1000

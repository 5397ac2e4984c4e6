from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from channels.sessions import SessionMiddlewareStack
from django.db import connection, transaction
from django.http import Http404
from django.urls import path

from accounts.models import User
from config import push
from config.consumers import BAD_MESSAGE, NOT_FOUND, SIGNED_OUT, TOO_LARGE, TOO_OFTEN, TopicConsumer
from tests.sockets import Socket

pytestmark = pytest.mark.django_db(transaction=True)


class Echo(TopicConsumer):
    """Sends a growing count; open to everybody named in `allowed`."""

    policy = "test"
    allowed: set[str] = set()
    interval = 0.2

    def authorize(self, user: User) -> str:
        if user.username not in self.allowed:
            raise Http404
        return f"echo.{self.route['name']}"

    def handle(self, message: dict[str, Any]) -> None:
        self.count = int(message["count"])

    def changes(self, user: User) -> list[dict[str, Any]]:
        self.count = getattr(self, "count", 0) + 1
        return [{"count": self.count}]


application = SessionMiddlewareStack(URLRouter([path("ws/echo/<str:name>", Echo.as_asgi())]))


def socket_of(user: User | None) -> Socket:
    return Socket.of(user, "/ws/echo/x", application=application)


in_thread = database_sync_to_async


@pytest.fixture
def followed(annotator: User) -> Socket:
    Echo.allowed = {"annotator"}
    return socket_of(annotator)


async def test_a_notification_reaches_the_socket(followed: Socket) -> None:
    await followed.open()
    assert await followed.receive() == {"count": 1}
    await in_thread(push.notify)("echo.x")
    assert await followed.receive() == {"count": 2}
    await in_thread(push.notify)("echo.other")
    assert await followed.receive_nothing(timeout=0.5)
    await followed.close()


async def test_a_notification_leaves_with_its_transaction(followed: Socket) -> None:
    def notify_and_roll_back() -> None:
        with transaction.atomic():
            push.notify("echo.x")
            transaction.set_rollback(True)

    await followed.open()
    await followed.receive()
    await in_thread(notify_and_roll_back)()
    assert await followed.receive_nothing(timeout=0.5)
    await followed.close()


async def test_hints_that_come_fast_are_sent_together(followed: Socket) -> None:
    await followed.open()
    await followed.receive()
    for _ in range(200):
        await push.hint("echo.x")
    messages = [await followed.receive()]
    while not await followed.receive_nothing(timeout=1):
        messages.append(await followed.receive())
    assert len(messages) < 20
    await followed.close()


async def test_the_listener_comes_back_and_hints_at_what_it_missed(followed: Socket) -> None:
    def cut() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN prefloop'")

    await followed.open()
    await followed.receive()
    await in_thread(cut)()
    assert await followed.receive() == {"count": 2}
    await followed.close()


async def test_whoever_may_not_follow_is_closed_with_404(outsider: User) -> None:
    Echo.allowed = {"annotator"}
    socket = await in_thread(socket_of)(outsider)
    await socket.open()
    assert await socket.close_code() == NOT_FOUND


async def test_nobody_gets_in_without_a_session(db: None) -> None:
    socket = await in_thread(socket_of)(None)
    await socket.open()
    assert await socket.close_code() == SIGNED_OUT


async def test_a_removed_member_hears_nothing_more(followed: Socket) -> None:
    await followed.open()
    await followed.receive()
    Echo.allowed = set()
    await push.hint("echo.x")
    assert await followed.close_code() == NOT_FOUND


async def test_signing_out_or_a_new_password_ends_the_socket(followed: Socket, annotator: User) -> None:
    await followed.open()
    await followed.receive()
    annotator.set_password("another long password")
    await annotator.asave(update_fields=["password"])
    await push.hint("echo.x")
    assert await followed.close_code() == SIGNED_OUT


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", BAD_MESSAGE),
        ("[1]", BAD_MESSAGE),
        (json.dumps({"count": "many"}), BAD_MESSAGE),
        ("[" * 4000, BAD_MESSAGE),
        (json.dumps({"count": 1, "padding": "x" * 5000}), TOO_LARGE),
    ],
)
async def test_a_hostile_message_closes_the_socket(followed: Socket, text: str, code: int) -> None:
    await followed.open()
    await followed.receive()
    await followed.send(text)
    assert await followed.close_code() == code


async def test_a_flood_of_messages_closes_the_socket(followed: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Echo, "rate_limit", 3)
    monkeypatch.setattr(Echo, "changes", lambda *_: [])
    await followed.open()
    for _ in range(10):
        await followed.send('{"count": 1}')
    assert await followed.close_code() == TOO_OFTEN


async def test_a_message_is_answered_at_once(followed: Socket) -> None:
    await followed.open()
    await followed.receive()
    await followed.send('{"count": 41}')
    assert await followed.receive() == {"count": 42}
    await followed.close()


async def test_listeners_end_with_their_loop(db: None) -> None:
    assert set(push._listeners) <= {asyncio.get_running_loop()}

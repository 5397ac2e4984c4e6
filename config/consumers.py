"""The one kind of websocket Prefloop has: it follows a topic and sends what is new, to somebody who may see it."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import Http404
from django.utils import translation

from accounts.language import language_of
from accounts.models import User
from config import push

logger = logging.getLogger(__name__)

SIGNED_OUT, NOT_FOUND, BAD_MESSAGE, TOO_LARGE, TOO_OFTEN = 4401, 4404, 4400, 4413, 4429


class TopicConsumer(AsyncWebsocketConsumer):
    """Follow one topic. A subclass gives `policy`, `authorize`, `changes` and, where clients may speak, `handle`.

    All three run in a worker thread with database access. Before anything is sent, on connect as well as after every
    hint and every message, the session and `authorize` are checked again: a removed member hears nothing more. Hints
    that come faster than `interval` are sent as one. Close codes: 4401 signed out, 4404 not theirs, 4400 and 4413 for
    messages that make no sense or are too large, 4429 for more than `rate_limit` of them in a second.
    """

    policy = ""  # the name that the route test looks for, as on views
    interval = 0.1
    message_limit = 4096
    rate_limit = 20

    @property
    def route(self) -> dict[str, Any]:
        """Arguments of the URL pattern."""
        arguments: dict[str, Any] = self.scope["url_route"]["kwargs"]
        return arguments

    @property
    def query(self) -> dict[str, str]:
        """Query string of the connection; the last value of each name."""
        return {name: values[-1] for name, values in parse_qs(self.scope["query_string"].decode("latin-1")).items()}

    def authorize(self, user: User) -> str:
        """The topic this person may follow here. Raises Http404."""
        raise NotImplementedError

    def changes(self, user: User) -> list[dict[str, Any]]:
        """Messages this socket does not have yet (called after `authorize`; remember on `self` what was sent)."""
        raise NotImplementedError

    def handle(self, message: dict[str, Any]) -> None:
        """Take a client's message, e.g. `{"after": 12}`; ValueError, KeyError or TypeError if it makes no sense."""
        raise ValueError("This socket takes no messages.")

    async def connect(self) -> None:
        self._topic = ""
        self._pump: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._second, self._heard = 0, 0
        await self.accept()  # first accepted, then closed: a browser cannot read the code of a refused handshake
        try:
            topic, _ = await self._in_thread(self._check)
        except _Refused as refused:
            await self.close(refused.code)
            return
        await push.ensure_listening()
        await self.channel_layer.group_add(topic, self.channel_name)
        self._topic = topic
        self._due.set()
        self._pump = asyncio.create_task(self._send_when_due())

    async def disconnect(self, code: int) -> None:
        if self._pump is not None:
            self._pump.cancel()
        if self._topic:
            await self.channel_layer.group_discard(self._topic, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if len(text_data or bytes_data or "") > self.message_limit:
            await self.close(TOO_LARGE)
            return
        second = int(asyncio.get_running_loop().time())
        self._heard = self._heard + 1 if second == self._second else 1
        self._second = second
        if self._heard > self.rate_limit:
            await self.close(TOO_OFTEN)
            return
        try:
            message = json.loads(text_data or "")
            if not isinstance(message, dict):
                raise ValueError("A message is a JSON object.")
            await self._in_thread(self.handle, message)
        except (ValueError, KeyError, TypeError, RecursionError):
            await self.close(BAD_MESSAGE)
            return
        self._due.set()

    async def changed(self, event: dict[str, Any]) -> None:
        """A hint from `config.push`."""
        self._due.set()

    async def _send_when_due(self) -> None:
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                for message in await self._in_thread(self._authorized_changes):
                    await self.send(json.dumps(message))
                await asyncio.sleep(self.interval)
        except _Refused as refused:
            await self.close(refused.code)
        except Exception:
            logger.exception("A websocket on %s failed.", self._topic)
            await self.close(1011)

    def _check(self) -> tuple[str, User]:
        session = self.scope.get("session")
        # Read again rather than cached on the scope: signing out or a new password ends open sockets too.
        fresh = SessionStore(session.session_key) if session is not None else SessionStore()
        user = get_user(SimpleNamespace(session=fresh))  # type: ignore[arg-type]
        if not isinstance(user, User) or not user.is_active:
            raise _Refused(SIGNED_OUT)
        try:
            return self.authorize(user), user
        except Http404:
            raise _Refused(NOT_FOUND) from None

    def _authorized_changes(self) -> list[dict[str, Any]]:
        _, user = self._check()
        accepted = dict(self.scope["headers"]).get(b"accept-language", b"").decode("latin-1")
        with translation.override(language_of(user, accepted)):
            return self.changes(user)

    @staticmethod
    async def _in_thread(function: Any, *arguments: Any) -> Any:
        # Not "thread sensitive": that would put every socket of the process behind one thread.
        return await database_sync_to_async(function, thread_sensitive=False)(*arguments)


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class NotFoundConsumer(AsyncWebsocketConsumer):
    """Any websocket path that no route knows."""

    policy = "public"

    async def connect(self) -> None:
        await self.accept()
        await self.close(NOT_FOUND)

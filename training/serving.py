"""Serve the models of live chats: an engine process for each base that somebody wants, for as long as they want it.

What is wanted, waits and was written are rows (`labeling.chats.requests`); the engine knows no database, it gets
requests and gives answers through pipes. Anything may die: a dead engine is started again and asked again what it had
not answered; a dead worker leaves rows that the next one finds, and its engines end with their pipes; without
PostgreSQL the engine goes on, and what it wrote meanwhile is stored when it can be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from config import push
from labeling.chats import requests
from labeling.chats.requests import ReplyRequest
from labeling.chats.sessions import REQUESTS
from labeling.models import ChatReply, ChatServer
from training.models import ModelArtifact
from training.runs import weights_of
from training.serving_engine import Answer, ServingEngine

logger = logging.getLogger(__name__)
State = ChatReply.State

BUSY, QUIET = 0.15, 1.0  # seconds between looks, while something is written and while nothing is
HEARTBEAT = 3.0
AT_ONCE = 16  # replies that one engine writes at the same time
CRASHES = 3  # in a row, without a reply in between
AWAY = (OperationalError, InterfaceError)


async def serve_chats() -> None:
    """Serve until cancelled. A hint wakes it; without any it looks every second."""
    serving = Serving(f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(4)}")
    # One thread of its own: the worker's others may all be busy with runs, and `stop` comes after the last look.
    thread = ThreadPoolExecutor(1, "chats")

    async def call(function: Callable[[], bool]) -> bool:
        done: bool = await database_sync_to_async(function, thread_sensitive=False, executor=thread)()
        return done

    layer = get_channel_layer()
    assert layer is not None
    channel = await layer.new_channel()
    await layer.group_add(REQUESTS, channel)
    push.start_listening()
    try:
        while True:
            is_busy = await call(serving.look)
            with suppress(TimeoutError):
                await asyncio.wait_for(layer.receive(channel), BUSY if is_busy else QUIET)
    finally:
        await call(serving.stop)
        thread.shutdown()


class Serving:
    """The servers of one worker."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self._servers: dict[int, Server] = {}

    def look(self) -> bool:
        """Take what is wanted, and go on with what is served. Whether anything is being written or loaded."""
        try:
            now = timezone.now()
            for row in requests.wanted_servers(now=now):
                if row.pk not in self._servers and requests.take_server(row, self.worker, now=now):
                    self._servers[row.pk] = Server(row, self.worker)
            self._servers = {key: server for key, server in self._servers.items() if server.go_on()}
        except AWAY as error:
            logger.warning(
                "The database cannot be reached (%s); what is written is stored later.", type(error).__name__
            )
            connection.close()
            return False
        except Exception:
            logger.exception("Serving chats failed.")
            return False
        return any(server.is_busy for server in self._servers.values())

    def stop(self) -> bool:
        """End the engines; what they were writing waits for another worker."""
        for server in self._servers.values():
            with suppress(*AWAY):
                server.leave()
        self._servers.clear()
        return False


class Server:
    """One base that this worker serves: its row, its engine, and the replies that it writes."""

    def __init__(self, row: ChatServer, worker: str) -> None:
        self.row, self.worker = row, worker
        self._engine = ServingEngine(row.key)
        self._writing: dict[int, ReplyRequest] = {}
        self._unstored: dict[int, Answer] = {}
        self._crashes, self._beat_at, self._used_at = 0, 0.0, time.monotonic()

    @property
    def is_busy(self) -> bool:
        return bool(self._writing) or not self._engine.is_ready

    def go_on(self) -> bool:
        """Store what was written, take what waits. False when this worker does not serve the base any more."""
        now = time.monotonic()
        has_ended = self._engine.has_ended  # before reading: what it wrote until then can be read
        was_ready = self._engine.is_ready
        if not self._beat(now):
            logger.warning("Another worker serves %s now.", self.row.key)
            self._engine.stop()
            return False
        self._store()
        if has_ended:
            return self._start_again()
        if was_ready:
            self._take()
        if self._writing:
            self._used_at = now
        elif now - self._used_at > requests.IDLE.total_seconds() and not self._is_wanted():
            self.leave()
            return False
        return True

    def leave(self, failure: str = "") -> None:
        """End the engine and give the row back."""
        self._engine.stop()
        requests.leave_server(self.row, self.worker, failure=failure)

    def _beat(self, now: float) -> bool:
        ready = self._engine.is_ready
        if now - self._beat_at < HEARTBEAT and ready == (self.row.state == ChatServer.State.READY):
            return True
        self._beat_at = now
        self.row.state = ChatServer.State.READY if ready else ChatServer.State.LOADING
        return requests.beat(self.row, self.worker, ready=ready, now=timezone.now())

    def _store(self) -> None:
        """Newest state of each reply. What the database could not take stays for the next time."""
        self._unstored |= self._engine.take()
        for number, answer in list(self._unstored.items()):
            if request := self._writing.get(number):
                requests.write(request, self.worker, answer.text, state=answer.state, is_cut=answer.is_cut)
                if answer.state == State.FAILED:
                    logger.warning("A chat's request failed: %s", answer.error)
                if answer.state != State.WRITING:
                    del self._writing[number]
                    self._crashes = 0
            del self._unstored[number]

    def _take(self) -> None:
        room = AT_ONCE - len(self._writing)
        for request in requests.take_replies(self.row, self.worker, room, now=timezone.now()) if room else ():
            self._writing[request.id] = request
            model = ModelArtifact.objects.filter(public_id=request.model).first()
            if model is None:
                self._unstored[request.id] = Answer(State.FAILED, error="The model is not there any more.")
                continue
            self._engine.ask(
                {
                    "id": request.id,
                    "adapter": weights_of(model)["adapter"],
                    "messages": request.messages,
                    "max_new_tokens": request.max_new_tokens,
                    "temperature": request.temperature,
                }
            )

    def _start_again(self) -> bool:
        """After a crash. Its replies wait again; an engine that says why it cannot serve is not started again."""
        if self._engine.failure or self._crashes + 1 >= CRASHES:
            self.leave(self._engine.failure or f"The engine crashed {CRASHES} times in a row, see {self._engine.log}.")
            return False
        logger.warning("The engine of %s ended; it starts again.", self.row.key)
        requests.put_back(self.row)
        self._writing.clear()
        self._crashes += 1
        self._engine = ServingEngine(self.row.key)
        return True

    def _is_wanted(self) -> bool:
        """Somebody began a chat meanwhile, without having said anything yet."""
        return ChatServer.objects.filter(pk=self.row.pk, wanted_at__gt=timezone.now() - requests.IDLE).exists()

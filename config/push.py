"""Wake-up line between processes: PostgreSQL NOTIFY in, channel-layer groups of this process out.

A push is a hint ("run.k3v9 changed"), never data: whoever hears it reads rows after the last one it has. A hint that is
lost loses nothing, because every page also polls slowly and every reconnect reads from where it stood.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import psycopg
from asgiref.sync import sync_to_async
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import connection

logger = logging.getLogger(__name__)

CHANNEL = "prefloop"
FIRST_DELAY, LAST_DELAY = 0.1, 5.0  # seconds between attempts to reconnect
CONNECTION_KEYS = ("host", "port", "user", "password", "dbname", "sslmode", "sslrootcert", "service")


def notify(topic: str) -> None:
    """Say that `topic` (letters, digits, `.`, `-`, `_`) changed. Leaves when the current transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, topic])


_listeners: dict[asyncio.AbstractEventLoop, tuple[asyncio.Task[None], asyncio.Event]] = {}


def start_listening() -> asyncio.Event:
    """Start the listener of this event loop unless it runs; the event is set while it hears."""
    loop = asyncio.get_running_loop()
    if loop not in _listeners:
        ready = asyncio.Event()
        task = loop.create_task(_listen(ready), name="prefloop-listen")
        _listeners[loop] = (task, ready)
        task.add_done_callback(lambda _: _listeners.pop(loop, None))
    return _listeners[loop][1]


async def ensure_listening(timeout: float = 5.0) -> None:
    """Start listening, and wait until it hears (or `timeout` seconds pass)."""
    try:
        await asyncio.wait_for(start_listening().wait(), timeout)
    except TimeoutError:
        logger.warning("No connection for pushes yet; pages fall back to polling.")


async def stop_listening() -> None:
    """End the listener of this event loop."""
    if found := _listeners.get(asyncio.get_running_loop()):
        found[0].cancel()
        await asyncio.wait([found[0]])


async def _listen(ready: asyncio.Event) -> None:
    delay = FIRST_DELAY
    while True:
        try:
            parameters = await sync_to_async(connection_parameters, thread_sensitive=False)()
            async with await psycopg.AsyncConnection.connect(**parameters, autocommit=True) as listening:
                await listening.execute(f"LISTEN {CHANNEL}")
                await _hint_everybody()  # whatever was said while nobody listened
                ready.set()
                delay = FIRST_DELAY
                async for notification in listening.notifies():
                    await hint(notification.payload)
        except (psycopg.Error, OSError) as error:
            logger.warning("Lost the connection for pushes (%s); trying again in %.1f s.", type(error).__name__, delay)
        ready.clear()
        await asyncio.sleep(delay)
        delay = min(2 * delay, LAST_DELAY)


def connection_parameters() -> dict[str, Any]:
    """How to reach the database by a connection of one's own."""
    parameters = connection.get_connection_params()
    return {key: parameters[key] for key in CONNECTION_KEYS if key in parameters} | {"connect_timeout": 5}


def _layer() -> InMemoryChannelLayer:
    layer = get_channel_layer()
    if not isinstance(layer, InMemoryChannelLayer):
        raise TypeError("Each process fans out to its own sockets; CHANNEL_LAYERS must stay in memory.")
    return layer


async def hint(topic: str) -> None:
    """Pass a hint on to the sockets of this process that follow `topic`."""
    layer = _layer()
    if topic in layer.groups:
        await layer.group_send(topic, {"type": "changed", "topic": topic})


async def _hint_everybody() -> None:
    for topic in list(_layer().groups):
        await hint(topic)

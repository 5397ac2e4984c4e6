"""What a web process does when it starts and before it ends."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from config import push
from config.embedded import server


async def lifespan(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Listen for pushes from the start; at the end let the embedded PostgreSQL go.

    uvicorn ends its process by the signal it was sent, so this is the last code that runs.
    """
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            push.start_listening()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await push.stop_listening()  # else it would connect again, and start the server again
            await sync_to_async(server.leave_all, thread_sensitive=False)()
            await send({"type": "lifespan.shutdown.complete"})
            return

"""A websocket client without a network (`channels.testing` would pull in daphne). For a real network use `site`."""

from __future__ import annotations

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator

from accounts.models import User
from tests.conftest import client_for


class Socket(ApplicationCommunicator):
    """One websocket of an ASGI application."""

    @classmethod
    def of(cls, user: User | None, path: str, *, application: Any = None, host: str = "testserver") -> Socket:
        """A socket with the session of `user`; needs the database, so call it outside of coroutines."""
        if application is None:
            from config.asgi import application
        headers = [(b"host", host.encode()), (b"origin", f"http://{host}".encode())]
        if user is not None:
            headers.append((b"cookie", f"sessionid={client_for(user).cookies['sessionid'].value}".encode()))
        path, _, query = path.partition("?")
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": query.encode(),
            "headers": headers,
            "subprotocols": [],
        }
        return cls(application, scope)

    async def open(self) -> None:
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(timeout=10)
        assert answer["type"] == "websocket.accept", answer

    async def send(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def receive(self) -> Any:
        """The next message, as JSON."""
        answer = await self.receive_output(timeout=10)
        assert answer["type"] == "websocket.send", answer
        return json.loads(answer["text"])

    async def close_code(self) -> int:
        """The code with which the server closes; nothing may be sent before."""
        answer = await self.receive_output(timeout=10)
        assert answer["type"] == "websocket.close", answer
        return int(answer.get("code", 1000))

    async def close(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(timeout=10)

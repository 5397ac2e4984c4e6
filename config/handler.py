"""Django behind ASGI with one change of threads for a request.

Django's own handler goes from the event loop to a thread and back for every piece of middleware (36 times for an answer
of an annotator) and starts a thread, with a connection to the database, for every request. Here middleware and view run
as under WSGI, one after another in one of a few threads, which keep their connections; no view of ours is asynchronous.
Few, because Python computes in one thread at a time: more would only make everybody wait for everybody.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import IO, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.db import connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix


class Handler(ASGIHandler):
    def __init__(self) -> None:
        self.load_middleware(is_async=False)
        self._threads = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="request")

    async def handle(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        context = copy_context()  # the request's id is kept there
        loop = asyncio.get_running_loop()
        with body:
            answer = partial(context.run, self._respond, scope, body)
            response = await loop.run_in_executor(self._threads, answer)
            if response.streaming:
                await self._stream(response, receive, send)
            else:
                await loop.create_task(self.send_response(response, send), context=context)

    def _respond(self, scope: dict[str, Any], body: IO[bytes]) -> HttpResponseBase:
        """Middleware and view, in this thread. What does not stream is finished here, with its connection at hand."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=type(self), scope=scope)
        request, refusal = self.create_request(scope, body)
        response: HttpResponseBase = self._answer(request) if request else refusal  # type: ignore[assignment]
        if not response.streaming:
            response.close()
        return response

    def _answer(self, request: ASGIRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response._handler_class = type(self)  # type: ignore[attr-defined]  # for the signal at its end
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        return response

    async def _stream(self, response: HttpResponseBase, receive: Any, send: Any) -> None:
        """Send until the end, or until nobody listens any more."""
        sending = asyncio.ensure_future(self.send_response(response, send))
        leaving = asyncio.ensure_future(self.listen_for_disconnect(receive))
        await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        leaving.cancel()
        results = await asyncio.gather(sending, leaving, return_exceptions=True)
        await sync_to_async(_finish)(response)
        if isinstance(results[0], Exception):
            raise results[0]


def _finish(response: HttpResponseBase) -> None:
    """In the thread that read what was streamed, which ends with the request."""
    response.close()
    connections.close_all()

"""Files to keep, streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse
from rest_framework.request import Request

STREAMED = 200  # lines per hop between the event loop and the thread that reads


def download(request: Request, lines: Iterator[bytes], name: str, mime: str) -> StreamingHttpResponse:
    """A streamed file to keep."""
    # Under ASGI Django would collect a plain iterator in memory before sending any of it.
    content = _from_thread(lines) if isinstance(request._request, ASGIRequest) else lines
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(content, content_type=mime, headers=headers)


async def _from_thread(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    def joined() -> bytes:
        return b"".join(islice(lines, STREAMED))

    while block := await sync_to_async(joined)():
        yield block

"""Structured logs: one JSON object per line, with the request id and the run id where there is one."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

request_id: ContextVar[str] = ContextVar("request_id", default="")
run_id: ContextVar[str] = ContextVar("run_id", default="")


class IdsFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.run_id = run_id.get()
        return True


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key in ("request_id", "run_id"):
            if value := getattr(record, key, ""):
                line[key] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


@sync_and_async_middleware
def request_id_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Takes `X-Request-ID` from a proxy when it looks like an id, else makes one; answers with it."""

    def choose(request: HttpRequest) -> str:
        given = request.headers.get("X-Request-ID", "")
        chosen = given if re.fullmatch(r"[A-Za-z0-9-]{8,64}", given) else uuid.uuid4().hex
        request_id.set(chosen)
        return chosen

    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            chosen = choose(request)
            response: HttpResponseBase = await get_response(request)
            response["X-Request-ID"] = chosen
            return response

        return middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        chosen = choose(request)
        response: HttpResponseBase = get_response(request)
        response["X-Request-ID"] = chosen
        return response

    return sync_middleware

"""One connection to a server: the token, retries of what may be sent twice, refusals as errors."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from prefloop_client.errors import ConnectionFailed, error_of

AGAIN = {429, 502, 503, 504}
ATTEMPTS = 5
FIRST_DELAY, LAST_DELAY = 0.25, 8.0  # seconds


class Transport:
    """Requests below `/api/` of one server."""

    def __init__(self, base_url: str, token: str, *, timeout: float, attempts: int = ATTEMPTS) -> None:
        url = httpx.URL(base_url)
        if url.scheme != "https" and not _is_local(url.host):
            raise ValueError(f"The token would travel unprotected to {url.host}; use https.")
        self.attempts = attempts
        self.http = httpx.Client(
            base_url=url.join("/api/"), headers={"Authorization": f"Bearer {token}"}, timeout=timeout
        )

    def json(self, method: str, path: str, *, again: bool = False, **options: Any) -> Any:
        """The answer's JSON. `again` says that the request may be sent twice; a GET always may."""
        with self.open(method, path, again=again, **options) as response:
            response.read()
            return response.json() if response.content else None

    @contextmanager
    def open(self, method: str, path: str, *, again: bool = False, **options: Any) -> Iterator[httpx.Response]:
        """An answer whose body is read inside the block. Raises ApiError, ConnectionFailed."""
        response = self._send(self.http.build_request(method, path, **options), again or method == "GET")
        try:
            yield response
        except httpx.TransportError as error:
            raise ConnectionFailed(f"The connection broke: {error}") from error
        finally:
            response.close()

    def _send(self, request: httpx.Request, again: bool) -> httpx.Response:
        for left in reversed(range(self.attempts)):
            delay = min(FIRST_DELAY * 2 ** (self.attempts - 1 - left), LAST_DELAY) * (0.5 + random.random())
            try:
                response = self.http.send(request, stream=True)
            except httpx.TransportError as error:
                # What never arrived may be sent again, whatever it is.
                if not left or not (again or isinstance(error, httpx.ConnectError)):
                    raise ConnectionFailed(f"{self.http.base_url.host} cannot be reached: {error}") from error
            else:
                if response.is_success:
                    return response
                response.read()
                if not (left and again and response.status_code in AGAIN):
                    raise error_of(response.status_code, _detail(response))
                delay = max(delay, _seconds(response.headers.get("Retry-After", "")))
            time.sleep(delay)
        raise AssertionError("unreachable")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The server answered {response.status_code} {response.reason_phrase}."


def _seconds(text: str) -> float:
    return min(float(text), 60.0) if text.isascii() and text.isdigit() else 0.0

"""Simulated annotators over HTTP, as lean as they can be: on two cores whoever makes the load takes from the server.

Each has a kept-alive connection and signs in through the form. `python -m benchmarks._annotators` reads an `Order` as
JSON from standard input and writes a `Shift` to standard output; it is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlencode

TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')
COOKIE = re.compile(rb"^set-cookie: (\w+)=([^;]+)", re.IGNORECASE | re.MULTILINE)
LENGTH = re.compile(rb"^content-length: (\d+)", re.IGNORECASE | re.MULTILINE)
LEASE = {
    "api": re.compile(rb'"lease": ?"([0-9a-f-]{36})"'),
    "page": re.compile(rb'data-lease="([0-9a-f-]{36})"'),
}
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PAGE = "text/html"
# As browsers ask: for a page, for a part of one.
ACCEPT = {JSON: "", PAGE: "Accept: text/html\r\n", FORM: "Accept: text/html\r\nHX-Request: true\r\n"}


@dataclass(frozen=True)
class Person:
    name: str
    session: str
    csrf: str


@dataclass(frozen=True)
class Order:
    """Who shall work how. With `think`, everybody takes about so many seconds for an answer."""

    port: int
    campaign: str
    interface: str
    people: list[Person]
    seconds: float
    think: float = 0.0


@dataclass
class Shift:
    """What came of it: milliseconds of each request, answers refused, processor seconds spent here."""

    next: list[float] = field(default_factory=list)
    submit: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0
    cpu: float = 0.0


class Connection:
    """One kept-alive HTTP/1.1 connection of one person."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        self._reader, self._writer, self._address = reader, writer, address
        self.cookies: dict[str, str] = {}

    @classmethod
    async def open(cls, port: int, address: str) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port), address)

    async def request(self, method: str, path: str, body: str = "", kind: str = JSON) -> tuple[int, bytes]:
        """Status and body of the answer. Cookies are kept."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {self._address}\r\n"
            f"{ACCEPT[kind]}Cookie: {cookies}\r\nX-CSRFToken: {self.cookies.get('csrftoken', '')}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write((head + body).encode())
        answer = await self._reader.readuntil(b"\r\n\r\n")
        for name, value in COOKIE.findall(answer):
            self.cookies[name.decode()] = value.decode()
        length = LENGTH.search(answer)
        content = await self._reader.readexactly(int(length[1])) if length else b""
        return int(answer[9:12]), content

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def sign_in(port: int, name: str, password: str, address: str) -> Person:
    """Through the form. `address` is where a proxy says that the person is: sign-ins are limited for each."""
    connection = await Connection.open(port, address)
    _, page = await connection.request("GET", "/accounts/login/", kind=PAGE)
    token = TOKEN.search(page)
    assert token is not None, page
    form = urlencode({"login": name, "password": password, "csrfmiddlewaretoken": token[1].decode()})
    status, page = await connection.request("POST", "/accounts/login/", form, FORM)
    assert "sessionid" in connection.cookies, (status, page)
    await connection.close()
    return Person(name, connection.cookies["sessionid"], connection.cookies["csrftoken"])


async def work(order: Order) -> Shift:
    shift = Shift()
    started, computing = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_annotate(order, person, shift) for person in order.people))
    shift.seconds, shift.cpu = time.perf_counter() - started, time.process_time() - computing
    return shift


async def _annotate(order: Order, person: Person, shift: Shift) -> None:
    """Take an item; then submit and take the next with one request, until the time is up."""
    connection = await _connect(order, person)
    rng = random.Random(person.name)  # noqa: S311
    until = time.perf_counter() + order.seconds
    await asyncio.sleep(rng.random() * order.think)
    step = shift.next
    path, body, kind = _next(order)
    while time.perf_counter() < until:
        begun = time.perf_counter()
        if order.think:  # meanwhile the server has closed it, and browsers open another one, too
            connection = await _connect(order, person)
        status, content = await connection.request("POST", path, body, kind)
        step.append(1000 * (time.perf_counter() - begun))
        lease = LEASE[order.interface].search(content)
        if status != 200 or lease is None:
            shift.refused += 1
            path, body, kind = _next(order)
            continue
        step = shift.submit
        path, body, kind = _submit(order, lease[1].decode(), rng.random() < 0.5)
        if order.think:
            await connection.close()
            await asyncio.sleep(rng.uniform(0.5, 1.5) * order.think)
    await connection.close()


async def _connect(order: Order, person: Person) -> Connection:
    connection = await Connection.open(order.port, "127.0.0.1")
    connection.cookies = {"sessionid": person.session, "csrftoken": person.csrf}
    return connection


def _next(order: Order) -> tuple[str, str, str]:
    if order.interface == "api":
        return f"/api/campaigns/{order.campaign}/next", "{}", JSON
    return f"/campaigns/{order.campaign}/label/next", "", FORM


def _submit(order: Order, lease: str, first: bool) -> tuple[str, str, str]:
    if order.interface == "api":
        tiers = [["A"], ["B"]] if first else [["B"], ["A"]]
        return f"/api/leases/{lease}/submit", json.dumps({"tiers": tiers, "active_ms": 5000, "next": True}), JSON
    form = urlencode({"choice": "A" if first else "B", "active_ms": 5000})
    return f"/campaigns/{order.campaign}/label/{lease}/submit", form, FORM


async def visit(port: int, person: Person, path: str, times: int) -> list[float]:
    """Milliseconds that a page takes, again and again."""
    connection, waits = await Connection.open(port, "127.0.0.1"), []
    connection.cookies = {"sessionid": person.session, "csrftoken": person.csrf}
    for _ in range(times):
        begun = time.perf_counter()
        status, page = await connection.request("GET", path, kind=PAGE)
        waits.append(1000 * (time.perf_counter() - begun))
        assert status == 200, (path, status, page)
    await connection.close()
    return waits


def main() -> None:
    order: dict[str, Any] = json.load(sys.stdin)
    people = [Person(**person) for person in order.pop("people")]
    json.dump(asdict(asyncio.run(work(Order(people=people, **order)))), sys.stdout)


if __name__ == "__main__":
    main()

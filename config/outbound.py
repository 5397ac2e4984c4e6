"""The only way out: requests to addresses that people gave, which may try to reach what only this machine can.

Off unless `OUTBOUND` says where to: `*` is every host with public addresses, a name that host alone, an address or a
network (`10.1.2.0/24`) what has such an address, which then need not be public. A name is resolved once, all its
addresses are checked, and the connection goes to one of them, so an answer that changes in between leads nowhere.
Redirects are not followed, proxies not asked, answers cut off, and all of it has a deadline.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.utils.translation import gettext_noop

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DEADLINE = 10.0  # seconds for everything: name, connection, request, answer
MOST_BYTES = 16 * 1024  # read of an answer
PORTS = {"http": 80, "https": 443}
OFF = gettext_noop("Requests to other servers are off here; the setting OUTBOUND says where they may go.")


class NotAllowed(Exception):
    """The address is not one to send to; the message says why."""


class NoAnswer(Exception):
    """The other side could not be reached, or did not answer in time; the message says how."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


def is_off() -> bool:
    """Whether nothing may be sent anywhere."""
    return not settings.OUTBOUND


def check_url(url: str) -> None:
    """Whether a URL may be sent to, as far as can be told without asking for its name. Raises NotAllowed."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise NotAllowed("This is not a URL.") from None
    if parts.scheme not in PORTS or not host:
        raise NotAllowed("Give a URL that begins with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        raise NotAllowed("Leave the user name and the password out of the URL.")
    if is_off():
        raise NotAllowed(OFF)
    address = _literal(host)
    if address is not None:
        _check_addresses(host, [address])
    elif not _may_name(host) and not _networks():
        raise NotAllowed(f"The setting OUTBOUND does not have the host {host}.")


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send a body. Raises NotAllowed or NoAnswer."""
    check_url(url)
    try:
        async with asyncio.timeout(DEADLINE):
            return await _post(httpx.URL(url), body, headers)
    except TimeoutError:
        raise NoAnswer(f"There was no answer within {DEADLINE:.0f} seconds.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}"[:300]) from None


async def _post(url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> Answer:
    address = await resolve(url.host, url.port or PORTS[url.scheme])
    # The connection goes to the address that was checked; the name is in the header and in the certificate.
    client = httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=DEADLINE)
    async with client:
        request = client.build_request(
            "POST",
            url.copy_with(host=str(address)),
            content=body,
            headers={**headers, "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        response = await client.send(request, stream=True)
        read = b""
        async for chunk in response.aiter_raw():  # as it is: what unpacks may unpack to far too much
            read += chunk
            if len(read) >= MOST_BYTES:
                break
        await response.aclose()
    return Answer(response.status_code, read[:MOST_BYTES])


async def resolve(host: str, port: int) -> Address:
    """An address of the host, all of whose addresses may be sent to. Raises NotAllowed or NoAnswer."""
    literal = _literal(host)
    if literal is not None:
        found = [literal]
    else:
        try:
            entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NoAnswer(f"The name {host} is not known.") from None
        found = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
    if not found:
        raise NoAnswer(f"The name {host} has no address.")
    _check_addresses(host, found)
    return found[0]


def _check_addresses(host: str, addresses: list[Address]) -> None:
    networks, may_name = _networks(), _may_name(host)
    for address in map(_plain, addresses):
        listed = any(address in network for network in networks)
        if not listed and not may_name:
            raise NotAllowed(f"The setting OUTBOUND does not have the host {host}.")
        # Never, whoever lists it: there is where clouds keep the credentials of their machines.
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise NotAllowed(f"{host} leads to {address}, where nothing is sent.")
        if not (listed or address.is_global):
            raise NotAllowed(f"{host} leads to {address}, which is not a public address.")


def _plain(address: Address) -> Address:
    """An IPv4 address in the dress of an IPv6 one, undressed."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _may_name(host: str) -> bool:
    return "*" in settings.OUTBOUND or host.lower().rstrip(".") in settings.OUTBOUND


def _networks() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for entry in settings.OUTBOUND:
        try:
            found.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            continue  # a name
    return found

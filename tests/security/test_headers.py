"""Every page of every route under the strict policy, and nothing in it that the policy would have to allow."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from tests.accounts.routes import World, all_routes, make_world, own_routes
from tests.conftest import client_for

pytestmark = pytest.mark.django_db
INLINE = re.compile(r"<script(?![^>]*\ssrc=)(?![^>]*application/json)[^>]*>|<style|\sstyle=|\son[a-z]+=", re.IGNORECASE)
# Pages of Django's admin site: rows of its models are not among our routes.
ADMIN = (
    "admin:index",
    "admin:accounts_user_changelist",
    "admin:accounts_user_add",
    "admin:accounts_apitoken_changelist",
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def weak(response: Any) -> list[str]:
    """What is missing from a response."""
    headers, found = response.headers, []
    policy = headers.get("Content-Security-Policy", "")
    if "default-src 'self'" not in policy or "unsafe" in policy or "*" in policy:
        found.append(f"policy {policy!r}")
    wanted = {"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
    found += [name for name, value in wanted.items() if headers.get(name) != value]
    if headers.get("Content-Type", "").startswith("text/html") and (inline := INLINE.search(response.content.decode())):
        found.append(f"inline {inline[0]}")
    return found


def test_every_page_carries_the_strict_policy(db: None) -> None:
    world: World = make_world()
    clients = [Client(), client_for(world.people["admin"]), client_for(world.near.annotator)]
    wrong, pages = {}, 0
    for route in own_routes():
        url = next(url for url, near in world.urls(route) if near)
        for client in clients:
            response = client.get(url)
            pages += response.headers.get("Content-Type", "").startswith("text/html")
            if found := weak(response):
                wrong[f"{route.name} {response.status_code}"] = found
    assert wrong == {}
    assert pages > 60


def test_sign_in_and_admin_pages_carry_it_too(admin: User) -> None:
    clients = [Client(), client_for(admin)]
    plain = [route for route in all_routes() if not route.arguments]
    foreign = [route for route in plain if route.path.startswith("accounts/") or route.name in ADMIN]
    assert len(foreign) > 10
    wrong = {
        route.name: found for route in foreign for client in clients if (found := weak(client.get(f"/{route.path}")))
    }
    assert wrong == {}


def test_what_people_entered_is_in_no_cache_but_their_own(annotator: User, campaign: Any) -> None:
    page = client_for(annotator).get(f"/campaigns/{campaign.public_id}/label/")
    assert "no-store" in page.headers["Cache-Control"]
    assert "private" in page.headers["Cache-Control"]

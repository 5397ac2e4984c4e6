"""Walks every route x role x near and far objects, and every websocket. What one may not know of is 404.

The expectations come from the policy a view carries and from `holds` below, not from the view's own code: a view whose
policy says one thing and which does another fails here, and so does a new route without a policy.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from django.db import transaction
from django.test import Client
from django.urls import URLPattern

from accounts.models import User
from config.routing import websocket_urlpatterns
from tests.accounts.routes import ROLES, THIRD_PARTY, Route, World, all_routes, make_world, own_routes, where
from tests.conftest import client_for
from tests.sockets import Socket

IN_CAMPAIGN = {"annotator": "annotator", "reviewer": "reviewer", "manager": "manager", "lead": "manager"}
RESEARCHERS = {"researcher", "lead", "admin"}
MASKED = re.compile(r'("X-CSRFToken": |csrfmiddlewaretoken" value=)"[^"]+"')  # drawn anew for each page
# Where a method asks for more than the class's policy says.
BY_METHOD = {("api_campaigns", "POST"): "researcher"}
# Near objects that only some may know of, whatever the policy of the route.
HOLDERS = {
    "lease": {"annotator"},
    "lease_id": {"annotator"},
    "own_ranking_id": {"annotator"},
    "token_id": {"annotator"},
    "invitation_id": {"manager", "lead", "admin"},
}


def holds(role: str, policy: str) -> bool:
    """Does somebody in this role pass this policy, for near objects?"""
    name, _, roles = policy.partition(":")
    if name == "public":
        return True
    if role == "anonymous":
        return False
    if name == "campaign":
        return role == "admin" or (role in IN_CAMPAIGN and (not roles or IN_CAMPAIGN[role] in roles.split(",")))
    return {
        "signed_in": True,
        "researcher": role in RESEARCHERS,
        "site_admin": role == "admin",
        "lease": role == "annotator",
        "webhook": role in ("manager", "lead", "admin"),
        "run": role in RESEARCHERS,
        "artifact": role in RESEARCHERS,
    }[name]


def expected(route: Route, role: str, method: str, near: bool) -> str:
    """open, closed (404) or read-only (403: seeing and steering a run differ)."""
    policy = BY_METHOD.get((route.name, method), route.policy)
    if route.is_api and policy == "campaign":  # DRF classes say the roles of each method
        roles = route.view.roles.get(method)
        if roles is None:
            return "wrong method"
        policy = f"campaign:{','.join(roles)}"
    if not near or not holds(role, policy):
        return "closed"
    if any(role not in HOLDERS.get(name, ROLES) for name in route.arguments):
        return "closed"
    return "read-only" if policy == "run:steer" and role == "lead" else "open"


def test_every_route_of_ours_has_a_policy_and_a_name() -> None:
    routes = own_routes()
    assert len(routes) > 50
    assert [route.path for route in routes if not route.policy] == []
    assert [route.path for route in routes if not route.name] == []
    names = [route.name for route in routes]
    assert len(names) == len(set(names))


def test_the_list_of_foreign_routes_names_only_what_is_there() -> None:
    places = {where(route) for route in all_routes()}
    assert [prefix for prefix in THIRD_PARTY if not any(place.startswith(prefix) for place in places)] == []


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of expected 404s would bury the one line that matters."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def world(db: None) -> World:
    return make_world()


def ask(client: Client, method: str, url: str, *, is_api: bool) -> Any:
    """The response; what the request changed is rolled back."""
    savepoint = transaction.savepoint()
    try:
        if method != "GET" and is_api:
            return client.generic(method, url, "{}", content_type="application/json")
        return client.generic(method, url)
    finally:
        transaction.savepoint_rollback(savepoint)


def methods(route: Route) -> list[str]:
    """What a page or an API view could answer."""
    return ["GET", "POST", *(name for name in ("PATCH", "PUT", "DELETE") if hasattr(route.view, name.lower()))]


def verdict(response: Any, route: Route, role: str, wanted: str) -> str:
    """Empty, or what is wrong with the answer."""
    status = response.status_code
    to_login = status == 302 and response.headers["Location"].startswith("/accounts/login/")
    if status >= 500:
        return f"{status}"
    if status == 405:  # the same for everybody and every id, so it tells nothing
        return ""
    if role == "anonymous" and route.policy != "public":
        return "" if to_login or (route.is_api and status == 401) else f"{status} without a session"
    if wanted == "closed":
        return "" if status == 404 else f"{status} instead of 404"
    if wanted == "read-only":
        return "" if status == 403 else f"{status} instead of 403"
    return f"{status} instead of an answer" if to_login or status in (401, 403, 404) else ""


@pytest.mark.parametrize("role", ROLES)
def test_every_route(world: World, role: str) -> None:
    client = client_for(world.people[role]) if role != "anonymous" else Client()
    wrong, asked = [], 0
    for route in own_routes():
        for url, near in world.urls(route):
            if not near and (role == "admin" or route.policy == "public"):
                continue  # admins know of everything, and an invitation link carries its own right
            for method in methods(route):
                response = ask(client, method, url, is_api=route.is_api)
                problem = verdict(response, route, role, expected(route, role, method, near))
                asked += 1
                if problem:
                    wrong.append(f"{method} {url} ({route.name}, {route.policy}): {problem}")
    assert wrong == []
    assert asked > 100


def test_an_admin_finds_nothing_at_an_address_that_mixes_campaigns(world: World) -> None:
    client = client_for(world.people["admin"])
    wrong = []
    for route in own_routes():
        if "campaign_id" not in route.arguments or len(route.arguments) < 2:
            continue
        mixed = [url for url, near in world.urls(route) if not near and self_contradicts(world, route, url)]
        assert mixed
        for url in mixed:
            for method in methods(route):
                status = ask(client, method, url, is_api=route.is_api).status_code
                if status not in (404, 405):
                    wrong.append(f"{method} {url}: {status}")
    assert wrong == []


def self_contradicts(world: World, route: Route, url: str) -> bool:
    parts = url.split("/")
    near = [str(world.near.ids[name]) in parts for name in route.arguments]
    far = [str(world.far.ids[name]) in parts for name in route.arguments]
    return any(near) and any(far)


@pytest.mark.parametrize("role", [role for role in ROLES if role not in ("anonymous", "admin")])
def test_a_far_object_looks_like_one_that_does_not_exist(world: World, role: str) -> None:
    """Same status and same text: nobody can find out that it exists."""
    client = client_for(world.people[role])
    campaign, run = world.far.campaign.public_id, world.far.ids["run_id"]
    for real, near_miss in ((campaign, "abcdefghjkmn"), (run, "abcdefghjkmn")):
        for pattern in ("/campaigns/{}/", "/runs/{}/", "/api/campaigns/{}", "/api/runs/{}"):
            answers = [client.get(pattern.format(key)) for key in (real, near_miss)]
            assert [answer.status_code for answer in answers] == [404, 404]
            texts = [MASKED.sub("", answer.content.decode()) for answer in answers]
            texts[0] = texts[0].replace(real, near_miss)
            assert texts[0] == texts[1]


@pytest.mark.parametrize("role", ["outsider", "manager", "researcher"])
def test_the_admin_site_is_closed_to_everybody_but_admins(world: World, role: str) -> None:
    client = client_for(world.people[role])
    plain = [route for route in all_routes() if route.path.startswith("admin/") and not route.arguments]
    assert len(plain) > 10
    for route in plain:
        answer = client.get(f"/{route.path}", follow=True)
        if route.name not in ("admin:logout", "admin:jsi18n"):
            assert answer.status_code == 404, route.path


def socket_paths(world: World, near: bool) -> list[tuple[str, str]]:
    """(path, policy) of every websocket route but the one that catches the rest."""
    corner = world.near if near else world.far
    found = []
    for pattern in websocket_urlpatterns:
        assert isinstance(pattern, URLPattern)
        policy = pattern.callback.consumer_class.policy  # type: ignore[attr-defined]
        assert policy, f"{pattern.pattern} has no policy"
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: str(corner.ids[match[1]]), str(pattern.pattern))
        if path and (near or path != str(pattern.pattern)):
            found.append((f"/{path}", policy))
    return found


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("role", ROLES)
async def test_every_websocket(transactional_db: None, role: str) -> None:
    world = await sync_to_async(make_world)()
    user: User | None = world.people.get(role)
    for near in (True, False):
        paths = socket_paths(world, near)
        assert paths
        for path, policy in paths:
            socket = await sync_to_async(Socket.of)(user, path)
            await socket.open()
            if role == "anonymous":
                assert await socket.close_code() == 4401, path
            elif not (holds(role, policy) and (near or role == "admin")):
                assert await socket.close_code() == 4404, path
            else:
                if not await socket.receive_nothing(timeout=0.3):
                    await socket.receive()
                await socket.close()


def test_the_router_of_the_site_is_made_of_these_websockets() -> None:
    from config.routing import router

    assert isinstance(router, URLRouter)
    assert router.routes == websocket_urlpatterns

"""What a token may do, at most: every API route with tokens of every scope, all of an admin who may do everything."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, Scope
from accounts.tokens import create_token
from tests.accounts.routes import Route, World, make_world, own_routes
from tests.accounts.test_every_route import ask, methods

pytestmark = pytest.mark.django_db
# What each route asks for is said here again, so that a view which forgets it is found.
LABEL = {
    "api_campaign_next",
    "api_campaign_undo",
    "api_lease_submit",
    "api_lease_heartbeat",
    "api_lease_release",
    "api_lease_skip",
    "api_own_answer",
    "api_campaign_chat",
    "api_campaign_chat_say",
    "api_chat_again",
    "api_chat_vote",
}


def needed(route: Route, method: str) -> Scope:
    if route.policy == "site_admin":
        return Scope.ADMIN
    if method == "GET":
        return Scope.READ
    return Scope.LABEL if route.name in LABEL else Scope.MANAGE


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.mark.parametrize("scope", Scope)
def test_a_token_does_nothing_beyond_its_scope(world: World, scope: Scope) -> None:
    order = list(Scope)
    _, token = create_token(world.people["admin"], name="script", scope=scope)
    client = Client(headers={"Authorization": f"Bearer {token}"})
    wrong, refused = [], 0
    for route in own_routes():
        if not route.is_api:
            continue
        url = next(url for url, near in world.urls(route) if near)
        for method in methods(route):
            answer = ask(client, method, url, is_api=True)
            within = order.index(needed(route, method)) <= order.index(scope)
            by_scope = answer.status_code == 403 and "its scope is" in answer.content.decode()
            refused += by_scope
            if answer.status_code != 405 and by_scope == within:
                wrong.append(f"{method} {route.name} with {scope}: {answer.status_code}")
    assert wrong == []
    assert (refused > 3) == (scope != Scope.ADMIN)


def test_tokens_open_no_pages_and_no_other_persons_work(world: World) -> None:
    _, token = create_token(world.people["admin"], name="script", scope=Scope.ADMIN)
    client = Client(headers={"Authorization": f"Bearer {token}"})
    assert client.get("/campaigns/").status_code == 302
    _, reader = create_token(world.people["outsider"], name="script", scope=Scope.ADMIN)
    campaign = world.near.campaign.public_id
    headers = {"Authorization": f"Bearer {reader}"}
    assert Client(headers=headers).get(f"/api/campaigns/{campaign}").status_code == 404
    assert (
        Client(headers=headers).get("/api/people/").status_code == 404
    )  # a scope gives no right that its person lacks


def test_a_token_says_when_it_was_last_used_and_ends_with_its_time(world: World) -> None:
    row, token = create_token(world.people["annotator"], name="used", scope=Scope.READ)
    client = Client(headers={"Authorization": f"Bearer {token}"})
    assert client.get("/api/me").status_code == 200
    row.refresh_from_db()
    assert row.last_used_at is not None
    ApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    assert client.get("/api/me").status_code == 401


def test_people_choose_the_scope_when_they_make_a_token(world: World) -> None:
    client = Client()
    client.force_login(world.people["annotator"])
    page = client.post("/profile/tokens", {"name": "reader", "days": "7", "scope": "read"})
    assert page.status_code == 200
    assert ApiToken.objects.get(name="reader").scope == "read"
    assert client.post("/profile/tokens", {"name": "x", "days": "7", "scope": "root"}).status_code == 422
    made = client.post("/api/me/tokens", {"name": "labeler", "scope": "label"}, "application/json")
    assert made.status_code == 201
    assert made.json()["scope"] == "label"

"""A script that runs wild is stopped; people are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tokens import create_token
from config import limits
from labeling.models import Campaign, Slot
from labeling.queue.assignment import claim_next
from tests.conftest import client_for
from tests.labeling.conftest import NOW, add_items

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[list[float]]:
    """Within one minute, unless a test moves it on; five changes a minute."""
    now = [600.0]
    monkeypatch.setattr("config.limits.time.time", lambda: now[0])
    settings.RATE_LIMIT = 5
    yield now


def test_changes_are_limited_for_each_sign_in_and_reading_is_not(
    campaign: Campaign, annotator: User, reviewer: User, clock: list[float]
) -> None:
    client, url = client_for(annotator), f"/campaigns/{campaign.public_id}/label/next"
    assert [client.post(url).status_code for _ in range(6)] == [302] * 5 + [429]
    refused = client.post(url)
    assert "Too many" in refused.content.decode()
    assert refused.headers["Retry-After"] == "60"
    assert client.get(f"/campaigns/{campaign.public_id}/label/").status_code == 200
    assert client_for(reviewer).post(url).status_code == 302
    clock[0] += 60
    assert client.post(url).status_code == 302


def test_the_api_says_so_in_its_own_shape(campaign: Campaign, annotator: User, settings: Any) -> None:
    _, token = create_token(annotator, name="script", scope="label")
    client = Client(headers={"Authorization": f"Bearer {token}"})
    url = f"/api/campaigns/{campaign.public_id}/next"
    assert [client.post(url).status_code for _ in range(6)] == [200] * 5 + [429]
    assert client.post(url).json() == {"detail": "Too many requests. Try again in 60 seconds."}
    _, other = create_token(annotator, name="another", scope="label")
    assert Client(headers={"Authorization": f"Bearer {other}"}).post(url).status_code == 200
    settings.RATE_LIMIT = 0
    assert client.post(url).status_code == 200


def test_imports_have_a_limit_of_their_own(
    campaign: Campaign, manager: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RATE_LIMIT = 1000
    monkeypatch.setattr(limits, "MOST_IMPORTS", 2)
    client, url = client_for(manager), f"/api/campaigns/{campaign.public_id}/imports"
    assert [client.post(url).status_code for _ in range(3)] == [400, 400, 429]
    assert client.post(f"/campaigns/{campaign.public_id}/label/next").status_code == 302


def test_asking_for_work_and_leaving_holds_one_item_only(campaign: Campaign, annotator: User) -> None:
    """A known denial of work elsewhere: whoever opens tasks and leaves hides them all from everybody."""
    add_items(campaign, 8)
    for _ in range(20):
        claim_next(annotator, campaign, now=NOW)
    assert Slot.objects.filter(state="leased").count() == 1


def test_counting_forgets_with_the_minute() -> None:
    counts = limits.Counts()
    assert [counts.allow("a", 2, 0.0) for _ in range(3)] == [True, True, False]
    assert counts.allow("b", 2, 59.9)
    assert counts.allow("a", 2, 60.0)

"""Items to label, brought in as anybody would bring them, and answers to them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from accounts.models import User
from labeling.access import get_lease
from labeling.data.importing import import_rows
from labeling.models import Campaign, Item, Ranking
from labeling.queue.annotation import submit_ranking
from labeling.queue.assignment import Task, claim_next
from tests.conftest import make_member, make_user

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def add_items(campaign: Campaign, count: int = 3, completions: int = 2) -> list[Item]:
    rows = [
        {"prompt": f"Question {n}?", "completions": [f"Answer {n}.{c}" for c in range(completions)]}
        for n in range(count)
    ]
    import_rows(campaign, rows, name="fixture")
    campaign.refresh_from_db()
    return list(campaign.items.order_by("pk"))


def claim(user: User, campaign: Campaign, now: datetime = NOW) -> Task:
    task = claim_next(user, campaign, now=now)
    assert task is not None
    return task


def submit(user: User, task: Task, tiers: Any = ((0,), (1,)), now: datetime = NOW, **answer: Any) -> Ranking:
    return submit_ranking(user, get_lease(user, task.lease), tiers=tiers, now=now, **answer)


@pytest.fixture
def anna(campaign: Campaign) -> User:
    return make_member(campaign, make_user("anna"), "annotator")


@pytest.fixture
def ben(campaign: Campaign) -> User:
    return make_member(campaign, make_user("ben"), "annotator")

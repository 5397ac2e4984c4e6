"""Newcomers train with explained gold items before they are given work."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.models import Campaign, Contribution, Gold, PracticeAnswer, Ranking
from labeling.quality.gold import mark_gold
from labeling.quality.rules import change_rules
from labeling.quality.watch import resume
from labeling.queue.assignment import claim_next
from labeling.queue.practice import is_due, task_of
from labeling.queue.progress import why_empty
from tests.conftest import client_for, make_member, make_user
from tests.labeling.conftest import add_items


@pytest.fixture
def training(campaign: Campaign, admin: User) -> Campaign:
    """Two items to train with, of which both must be right, and three for work."""
    items = add_items(campaign, 6)
    for item in items[:2]:
        mark_gold(item, tiers=[[0], [1]], user=admin, explanation="The **first** one is true.")
    mark_gold(items[2], tiers=[[0], [1]], user=admin)  # not explained: checks people, trains nobody
    change_rules(campaign, practice_items=2, practice_accuracy=100)
    return campaign


def train(user: User, campaign: Campaign, *right: bool) -> Any:
    """Answer as many items, each rightly or wrongly. The last page."""
    client, url = client_for(user), f"/campaigns/{campaign.public_id}/label/practice/"
    for answer in right:
        page = client.get(url)
        gold = Gold.objects.get(item__public_id=page.context["screen"].task.item)
        first = next(shown.label for shown in task_of(user, gold).completions if shown.index == 0)
        choice = first if answer else "AB".replace(first, "")
        page = client.post(page.context["apart"], {"choice": choice})
        assert page.status_code == 200
        assert ("Not quite" in page.text) is not answer
        assert "<strong>first</strong> one is true" in page.text
    return client.get(url)


def test_work_begins_after_the_training(training: Campaign, annotator: User) -> None:
    client, label = client_for(annotator), f"/campaigns/{training.public_id}/label/"
    assert client.get(label)["Location"].endswith("/label/practice/")
    assert client.post(f"{label}next")["Location"].endswith("/label/practice/")
    assert claim_next(annotator, training, now=timezone.now()) is None
    assert "First comes a short training" in why_empty(annotator, training, now=timezone.now())
    over = train(annotator, training, True, True)
    assert "You are ready" in over.text and "2 of 2 answers were right" in over.text
    assert client.get(label).status_code == 200
    task = claim_next(annotator, training, now=timezone.now())
    assert task is not None
    assert task.item not in PracticeAnswer.objects.values_list("item__public_id", flat=True)
    assert not Ranking.objects.exists()  # training is no work


def test_whoever_fails_waits_for_a_manager(training: Campaign, annotator: User, admin: User) -> None:
    over = train(annotator, training, True, False)
    assert "Let us talk first" in over.text and "1 of 2 answers were right; 100 % are needed" in over.text
    assert claim_next(annotator, training, now=timezone.now()) is None
    contribution = Contribution.objects.get(user=annotator)
    assert contribution.paused_because == "Training: 1 of 2 right, 100 % are needed."
    resume(contribution, by=admin)
    assert claim_next(annotator, training, now=timezone.now()) is not None


def test_the_first_answer_to_an_item_counts(training: Campaign, annotator: User) -> None:
    client, url = client_for(annotator), f"/campaigns/{training.public_id}/label/practice/"
    apart = client.get(url).context["apart"]
    for choice in ("A", "B"):
        client.post(apart, {"choice": choice})
    assert PracticeAnswer.objects.count() == 1
    assert client.post(apart, {"choice": "Z"}).status_code == 422
    unexplained = Gold.objects.get(explanation="").item.public_id
    assert client.post(f"{url}?item={unexplained}", {"choice": "A"}).status_code == 404


def test_whoever_was_there_before_goes_on_and_nobody_waits_for_nothing(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, 3)
    assert claim_next(annotator, campaign, now=timezone.now()) is not None
    change_rules(campaign, practice_items=5)
    assert not is_due(annotator, campaign)
    newcomer = make_member(campaign, make_user("newcomer"), "annotator")
    assert is_due(newcomer, campaign)
    assert "You are ready" in train(newcomer, campaign).text  # there is nothing explained to train with
    assert claim_next(newcomer, campaign, now=timezone.now()) is not None

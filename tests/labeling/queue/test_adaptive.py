"""Items that people disagree about get more answers, settled ones fewer, and the queue stays right."""

from __future__ import annotations

import pytest

from accounts.models import User
from labeling.models import Campaign, OverlapChange
from labeling.quality.gold import mark_gold
from labeling.quality.rules import change_rules
from labeling.queue.adaptive import adapt_overlaps, certainty_of, wanted_answers
from tests.conftest import make_member, make_user
from tests.labeling.conftest import add_items, claim, submit

A, B, TIE = [[0], [1]], [[1], [0]], [[0, 1]]


@pytest.mark.parametrize(
    ("answers", "low", "high"),
    [
        ([], 0, 0),
        ([A], 0.7, 0.9),
        ([A, A], 0.95, 1),
        ([A, B], 0.4, 0.55),
        ([A, A, B], 0.8, 0.95),
        ([TIE, TIE], 0.95, 1),
    ],
)
def test_certainty_grows_with_agreement(answers: list[list[list[int]]], low: float, high: float) -> None:
    assert low <= certainty_of([(number, tiers) for number, tiers in enumerate(answers)], {}) <= high


def test_certainty_knows_who_said_it() -> None:
    reliable = {1: 0.97, 2: 0.55}
    assert certainty_of([(1, A), (2, B)], reliable) > 0.65 > certainty_of([(3, A), (4, B)], reliable)
    assert certainty_of([(1, [[0], [1], [2]])], reliable) == pytest.approx(certainty_of([(1, A)], reliable))


def test_what_is_wanted_follows_from_it() -> None:
    def wanted(certainty: float, done: int, held: int, still_open: int) -> int:
        return wanted_answers(certainty, done, held, still_open, enough=0.95, most=5)

    assert wanted(0.6, 2, 0, 0) == 3  # one more
    assert wanted(0.6, 5, 0, 0) == 5  # not beyond the most
    assert wanted(0.6, 2, 1, 0) == 3  # somebody is on it already
    assert wanted(0.99, 2, 1, 2) == 3  # settled: what is held may come, what is open is not asked for
    assert wanted(0.99, 1, 0, 2) == 3  # one answer settles nothing


def test_a_worker_adapts_and_says_so(campaign: Campaign, anna: User, ben: User) -> None:
    campaign.overlap = 3
    campaign.save(update_fields=["overlap"])
    carl = make_member(campaign, make_user("carl"), "annotator")
    change_rules(campaign, most_overlap=5)
    disputed, *agreed = add_items(campaign, 8)
    mark_gold(agreed.pop(), tiers=A, user=None)
    for person, tiers in ((anna, A), (ben, B)):
        for _ in range(7):
            task = claim(person, campaign)
            submit(person, task, tiers if task.item == disputed.public_id else A)
    assert (adapt_overlaps(), adapt_overlaps()) == (6, 0)
    campaign.refresh_from_db()
    # Two agreed about six of the seven; there the third answer is not asked for.
    assert campaign.slot_count == campaign.slots.exclude(state="void").count() == 6 * 2 + 3
    task = claim(carl, campaign)
    assert task.item == disputed.public_id
    submit(carl, task, TIE)
    change_rules(campaign, certainty=90)
    campaign.rules.__class__.objects.update(adapted=0)
    assert adapt_overlaps() == 1
    change = OverlapChange.objects.latest("pk")
    assert (change.item, change.before, change.after) == (disputed, 3, 4) and change.certainty < 0.5
    dora = make_member(campaign, make_user("dora"), "annotator")
    assert claim(dora, campaign).item == disputed.public_id

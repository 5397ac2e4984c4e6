"""Length and place: shares worked out by hand, by ratio and by source."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from accounts.models import User
from labeling.models import Campaign
from labeling.quality.answers import Answers
from labeling.quality.biases import biases_of, lengths_of
from tests.conftest import client_for
from tests.labeling.conftest import add_items, claim, submit


def answers(rows: list[tuple[int, list[list[int]], list[int]]]) -> Answers:
    items, tiers, shown = (list(column) for column in zip(*rows, strict=True))
    return Answers(items, [1] * len(rows), tiers, shown, Counter(), partial=False)


def test_longer_ones_are_counted_by_how_much_longer_they_are() -> None:
    lengths = {1: {0: 100, 1: 105}, 2: {0: 100, 1: 250}, 3: {0: 100, 1: 250}, 4: {0: 50, 1: 50}}
    given = answers([(1, [[0], [1]], []), (2, [[1], [0]], []), (3, [[1], [0]], []), (4, [[0], [1]], [])])
    found = biases_of(given, {}, lengths)
    assert found.longer.value == pytest.approx(2 / 3) and found.longer.count == 3
    assert [(one.low, one.high, one.share.value) for one in found.bins] == [
        (1.0, 1.1, 0.0),
        (1.1, 1.5, None),
        (1.5, 2.0, None),
        (2.0, 3.0, 1.0),
        (3.0, None, None),
    ]
    assert found.first.value is None  # nobody kept the order


def test_ties_and_missing_ranks_say_nothing_and_items_weigh_the_same() -> None:
    lengths = {1: {0: 100, 1: 200, 2: 300}, 2: {0: 10, 1: 20}}
    found = biases_of(answers([(1, [[1, 2], [0]], [0, 1, 2]), (2, [[0], [1]], [1, 0])]), {}, lengths)
    assert found.longer.value == 0.5  # both pairs of the first item against the one of the second
    assert (found.first.value, found.first.count) == (0, 1)


def test_sources_show_whether_they_win_by_length() -> None:
    lengths = {item: {0: 100, 1: 200} for item in range(10)}
    sources = {item: {0: "brief", 1: "wordy"} for item in range(10)}
    given = answers([(item, [[1], [0]] if item < 7 else [[0], [1]], [0, 1]) for item in range(10)])
    by_name = {one.source: one for one in biases_of(given, sources, lengths).sources}
    assert (by_name["wordy"].characters, by_name["wordy"].longer.value) == (200, 0.7)
    assert by_name["wordy"].shorter.value is None and by_name["brief"].shorter.value == pytest.approx(0.3)
    assert by_name["brief"].first.value == pytest.approx(0.3)


def test_a_planted_pull_is_found_and_none_is_not() -> None:
    random = np.random.default_rng(0)
    for chance, low, high in ((0.5, False, False), (0.62, True, False), (0.4, False, True)):
        rows = []
        for item in range(600):
            shown = [int(one) for one in random.permutation(2)]
            order = shown if random.random() < chance else shown[::-1]
            rows.append((item, [[order[0]], [order[1]]], shown))
        first = biases_of(answers(rows), {}, {}).first
        assert first.low is not None and first.high is not None
        assert (first.low > 0.5, first.high < 0.5) == (low, high)


def test_the_report_shows_them(campaign: Campaign, anna: User, reviewer: User) -> None:
    item = add_items(campaign, 2)[0]
    assert lengths_of([item.pk]) == {item.pk: {0: len("Answer 0.0"), 1: len("Answer 0.1")}}
    submit(anna, claim(anna, campaign))
    text = client_for(reviewer).get(f"/campaigns/{campaign.public_id}/report").text
    assert "The one shown first wins" in text and "No such pairs yet" in text

"""Rankings to pairs and back, one by one and a million at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardmodel.stats.errors import InvalidTiers, NothingToFit
from rewardmodel.stats.pairs import judgements_of, preferences_of, tiers_of

tiers_of_six = st.tuples(st.permutations(range(6)), st.lists(st.booleans(), min_size=5, max_size=5)).map(
    lambda made: [
        sorted(int(i) for i in part)
        for part in np.split(np.array(made[0]), np.flatnonzero(made[1]) + 1)  # cut where True
    ]
)


@settings(max_examples=100, deadline=None)
@given(tiers_of_six)
def test_pairs_lead_back_to_the_ranking(tiers: list[list[int]]) -> None:
    pairs = [(p.chosen, p.rejected, p.mu) for p in preferences_of(tiers)]
    assert tiers_of(pairs) == tiers
    assert tiers_of([(j, i, 1 - mu) for i, j, mu in reversed(pairs)]) == tiers


@settings(max_examples=50, deadline=None)
@given(st.lists(tiers_of_six, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_columns_hold_the_same_pairs(rankings: list[list[list[int]]], random: object) -> None:
    found = judgements_of(rankings)
    expected = {(r, p.chosen, p.rejected, p.mu) for r, tiers in enumerate(rankings) for p in preferences_of(tiers)}
    rows = [(int(r), int(i), int(j), mu) for r, (i, j, mu) in zip(found.ranking, found.table, strict=True)]
    assert set(rows) == expected and len(rows) == len(expected)
    assert found.weight == pytest.approx(1 / 15)
    shown = [random.sample(range(6), 6) for _ in rankings]  # type: ignore[attr-defined]
    seen = judgements_of(rankings, shown)
    for row, (i, j, mu) in zip(seen.ranking, seen.table, strict=True):
        assert shown[row].index(i) < shown[row].index(j)
        turned = {(row, i, j, mu), (row, j, i, 1 - mu)}
        assert turned & expected


def test_every_ranking_weighs_one() -> None:
    found = judgements_of([[[0], [1], [2]], [[3], [4]], [[5, 6, 7, 8]]])
    assert np.bincount(found.ranking, found.weight) == pytest.approx([1, 1, 1])
    assert found.rankings == 3


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)],  # a circle
        [(0, 1, 1.0), (1, 2, 1.0)],  # (0, 2) is missing
        [(0, 1, 0.5), (1, 2, 0.5), (0, 2, 1.0)],
        [(0, 1, 1.0), (1, 0, 0.0)],  # twice
        [(0, 0, 1.0)],
        [(0, 1, 0.7)],
    ],
)
def test_pairs_of_no_ranking_are_refused(pairs: list[tuple[int, int, float]]) -> None:
    with pytest.raises(InvalidTiers):
        tiers_of(pairs)


def test_a_million_orders_become_pairs() -> None:
    orders = np.argsort(np.random.default_rng(0).random((1_000_000 // 3, 3)), axis=1)
    found = judgements_of(orders)
    assert len(found.table) == 999_999
    assert (found.table[:3] == [(*orders[0, [0, 1]], 1), (*orders[0, [0, 2]], 1), (*orders[0, [1, 2]], 1)]).all()
    with pytest.raises(NothingToFit):
        judgements_of([])

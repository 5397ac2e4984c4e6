"""Tiers to preferences, and intervals of shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from rewardmodel.stats.intervals import clustered_share, wilson, win_rate
from rewardmodel.stats.pairs import InvalidTiers, Preference, carries_preference, check_tiers, preferences_of


def test_a_ranking_gives_every_pair_and_weighs_one() -> None:
    found = preferences_of([[2], [3, 0]])
    assert found == [
        Preference(2, 0, 1.0, 1 / 3),
        Preference(2, 3, 1.0, 1 / 3),
        Preference(0, 3, 0.5, 1 / 3),
    ]
    for k in range(2, 10):
        assert sum(p.weight for p in preferences_of([[i] for i in range(k)])) == pytest.approx(1)
    assert preferences_of([[0]]) == []


def test_a_single_tier_carries_no_preference() -> None:
    assert not carries_preference([[0, 1, 2]])
    assert carries_preference([[0], [1]])


@pytest.mark.parametrize(
    ("tiers", "reason"),
    [
        ([[0], [3]], "no completion 3"),
        ([[0], [-1]], "no completion -1"),
        ([[True], [0]], "no completion True"),
        ([[0.0], [1]], "no completion 0.0"),
        ([["0"], [1]], "no completion '0'"),
        ([[0, 1], [1]], "1 is ranked twice"),
        ([[0, 0]], "0 is ranked twice"),
        ([[0], []], "tier is empty"),
        ([], "ranking is empty"),
        ([0, 1], "list of completion numbers"),
        ("01", "list of tiers"),
        ({"0": 1}, "list of tiers"),
        (None, "list of tiers"),
    ],
)
def test_a_bad_ranking_is_refused_by_name(tiers: object, reason: str) -> None:
    with pytest.raises(InvalidTiers, match=reason):
        check_tiers(tiers, 3)


def test_a_good_ranking_passes_unchanged() -> None:
    assert check_tiers([[2], [0, 1]], 3) == ((2,), (0, 1))
    assert check_tiers([[1]], 5) == ((1,),)


@pytest.mark.parametrize(("wins", "trials"), [(0, 5), (5, 5), (7, 10), (480, 1000), (1, 1)])
def test_wilson_equals_scipy(wins: int, trials: int) -> None:
    expected = binomtest(wins, trials).proportion_ci(method="wilson")
    ours = wilson(wins, trials)
    assert (ours.value, ours.low, ours.high) == pytest.approx((wins / trials, expected.low, expected.high), abs=1e-12)


def test_a_tie_is_half_a_win() -> None:
    assert win_rate(3, 5, ties=4) == wilson(5, 12)
    assert win_rate(0, 0).reason == "undefined because nothing was counted"
    with pytest.raises(ValueError, match="6 successes in 5 trials"):
        wilson(6, 5)


def test_the_clustered_interval_is_wide_when_clusters_move_together() -> None:
    together = clustered_share([1.0, 0.0] * 20, [10] * 40)
    independent = clustered_share([0.5, 0.4, 0.6, 0.5] * 10, [10] * 40)
    assert together.value == independent.value == 0.5
    assert (together.low, together.high) == pytest.approx((wilson(20, 40).low, wilson(20, 40).high), abs=1e-9)
    assert (independent.low, independent.high) == pytest.approx((wilson(200, 400).low, wilson(200, 400).high))


def test_the_clustered_interval_covers_where_the_naive_one_does_not() -> None:
    """Per-prompt accuracy varies (beta), 28 pairs per prompt: counting pairs as independent is overconfident."""
    covered, naive, runs = 0, 0, 400
    for seed in range(runs):
        random = np.random.default_rng(seed)
        correct = random.binomial(28, random.beta(3, 2, 60))
        ours, other = clustered_share(list(correct / 28), [28] * 60), wilson(int(correct.sum()), 28 * 60)
        covered += (ours.low or 0) < 0.6 < (ours.high or 0)
        naive += (other.low or 0) < 0.6 < (other.high or 0)
    assert covered / runs > 0.92
    assert naive / runs < 0.7


def test_one_cluster_or_none_is_answered() -> None:
    assert clustered_share([], []).value is None
    assert clustered_share([0.75], [4]).value == 0.75
    perfect = clustered_share([1.0] * 30, [6] * 30)
    assert perfect.value == 1 and (perfect.low, perfect.high) == (wilson(30, 30).low, 1.0)

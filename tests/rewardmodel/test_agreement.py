"""Agreement against the krippendorff and scipy packages, by hand, and where it is undefined."""

from __future__ import annotations

import subprocess
import sys

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau

from rewardmodel.stats.agreement import (
    Level,
    Ratings,
    kendall_tau_b,
    krippendorff_alpha,
    pairwise_units,
    percent_agreement,
)

LEVELS: list[Level] = ["nominal", "ordinal", "interval"]
# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C.
N = np.nan
KRIPPENDORFF_C: list[list[float]] = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]


@pytest.mark.parametrize(("level", "published"), list(zip(LEVELS, [0.743, 0.815, 0.849], strict=True)))
def test_alpha_is_the_published_one(level: Level, published: float) -> None:
    assert krippendorff_alpha(Ratings.from_matrix(KRIPPENDORFF_C), level).value == pytest.approx(published, abs=5e-4)


@settings(max_examples=150, deadline=None)
@given(
    arrays(float, st.tuples(st.integers(2, 5), st.integers(2, 12)), elements=st.sampled_from([N, -1.0, 0.0, 2.0, 7.5])),
    st.sampled_from(LEVELS),
)
def test_alpha_equals_the_krippendorff_package(matrix: np.ndarray, level: Level) -> None:
    ours = krippendorff_alpha(Ratings.from_matrix(matrix), level)
    paired = matrix[:, (~np.isnan(matrix)).sum(0) > 1]
    if np.unique(paired[~np.isnan(paired)]).size < 2:
        assert ours.value is None
        return
    assert ours.value == pytest.approx(krippendorff.alpha(matrix, level_of_measurement=level), abs=1e-9)


def test_percent_agreement_counts_pairs_of_people() -> None:
    # Unit 0: 3 of 3 pairs agree; unit 1: 1 of 3; unit 2 was judged once.
    estimate = percent_agreement(Ratings.from_matrix([[1.0, 1.0, 5.0], [1.0, 1.0, N], [1.0, 2.0, N]]))
    assert estimate.value == pytest.approx(4 / 6)
    assert estimate.count == 2


def test_what_does_not_exist_says_why() -> None:
    alone = Ratings.from_matrix([[1, N], [N, 2]])
    for estimate in (percent_agreement(alone), krippendorff_alpha(alone), krippendorff_alpha(pairwise_units([]))):
        assert estimate.value is None
        assert estimate.reason == "undefined because nothing was judged by two people"
    same = Ratings.from_matrix([[1, 1], [1, 1]])
    assert percent_agreement(same).value == 1
    assert "all ratings are equal" in krippendorff_alpha(same).reason
    with pytest.raises(ValueError, match="level must be"):
        krippendorff_alpha(same, "ratio")  # type: ignore[arg-type]


def test_agreeing_people_reach_one_and_coin_flips_zero() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 2000).astype(float)
    assert krippendorff_alpha(Ratings.from_matrix([truth, truth])).value == 1
    guesses = random.integers(0, 3, (3, 2000)).astype(float)
    assert krippendorff_alpha(Ratings.from_matrix(guesses)).value == pytest.approx(0, abs=0.05)


def test_rankings_become_pairs_in_both_orders() -> None:
    ratings = pairwise_units([("x", [[2], [0, 1]]), ("x", [[0], [2]])])
    assert len(np.unique(ratings.unit)) == 6  # three pairs, both ways
    assert len(ratings.unit) == 8
    assert ratings.value.sum() == 0
    # The only pair that both ranked is (0, 2), and there they contradict each other.
    assert percent_agreement(ratings).value == 0
    assert percent_agreement(ratings).count == 1  # item
    assert krippendorff_alpha(ratings, "nominal").value == pytest.approx(-0.5)


def test_a_tie_is_nearer_to_a_win_than_a_loss_is() -> None:
    agree = [(i + 100, [[0], [1]]) for i in range(9) for _ in range(2)]
    base = pairwise_units(agree)
    near = pairwise_units([*agree, (0, [[0], [1]]), (0, [[0, 1]])])
    far = pairwise_units([*agree, (0, [[0], [1]]), (0, [[1], [0]])])
    values = [krippendorff_alpha(r, "ordinal").value for r in (base, near, far)]
    assert values[0] == 1
    assert values[0] > values[1] > values[2]


tiers_of_five = st.permutations(range(5)).flatmap(
    lambda order: st.lists(st.booleans(), min_size=5, max_size=5).map(
        lambda joins: _cut(order, joins)  # a random order with random ties
    )
)


def _cut(order: list[int], joins: list[bool]) -> list[list[int]]:
    tiers: list[list[int]] = []
    for index, joined in zip(order, joins, strict=True):
        if joined and tiers:
            tiers[-1].append(index)
        else:
            tiers.append([index])
    return tiers


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), tiers_of_five), min_size=2, max_size=12), st.permutations(range(5)))
def test_agreement_does_not_depend_on_how_completions_are_numbered(
    rankings: list[tuple[int, list[list[int]]]], names: list[int]
) -> None:
    def renamed(item: int, tiers: list[list[int]]) -> list[list[int]]:
        return [[names[i] for i in tier] for tier in tiers] if item == 0 else tiers

    before = pairwise_units(rankings)
    after = pairwise_units([(item, renamed(item, tiers)) for item, tiers in rankings])
    assert percent_agreement(after) == percent_agreement(before)
    for level in LEVELS[:2]:
        a, b = krippendorff_alpha(before, level), krippendorff_alpha(after, level)
        assert (a.value is None) == (b.value is None)
        assert a.value is None or a.value == pytest.approx(b.value, abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(tiers_of_five, tiers_of_five)
def test_tau_equals_scipy(first: list[list[int]], second: list[list[int]]) -> None:
    ours = kendall_tau_b(first, second)
    ranks = [[next(r for r, tier in enumerate(t) if i in tier) for i in range(5)] for t in (first, second)]
    expected = kendalltau(*ranks).statistic
    if np.isnan(expected):
        assert ours.reason == "undefined because one of the rankings ties everything"
    else:
        assert ours.value == pytest.approx(expected, abs=1e-12)


def test_tau_uses_what_both_ranked() -> None:
    assert kendall_tau_b([[0], [1], [2]], [[3], [1], [0]]).value == -1
    assert "fewer than two" in kendall_tau_b([[0], [1]], [[1], [2]]).reason


def test_the_bootstrap_interval_covers_the_truth() -> None:
    """Two people, each right with probability .9 on 3 equal classes: alpha is ((.81 + .005) - 1/3) / (2/3)."""
    truth, hits = (0.9**2 + 0.1**2 / 2 - 1 / 3) / (2 / 3), 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        right = random.integers(0, 3, 150)
        people = [np.where(random.random(150) < 0.9, right, (right + random.integers(1, 3, 150)) % 3) for _ in "ab"]
        estimate = krippendorff_alpha(Ratings.from_matrix(people), resamples=200, seed=seed)
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low < truth < estimate.high
    assert hits >= 52  # 95 % of 60 is 57; P(hits < 52 | 95 %) = .3 %


def test_the_bootstrap_draws_whole_items() -> None:
    """Twenty copies of a unit in one item are one observation: the interval must not shrink with the copies."""
    random = np.random.default_rng(1)
    matrix = random.integers(0, 2, (2, 40)).astype(float)
    single = Ratings.from_matrix(matrix)
    copied = Ratings.from_matrix(np.repeat(matrix, 20, axis=1))
    grouped = Ratings(copied.unit, copied.value, copied.unit // 20)
    widths = [
        (e.high or 0) - (e.low or 0)
        for e in (percent_agreement(r, resamples=400, seed=2) for r in (single, grouped, copied))
    ]
    assert widths[1] == pytest.approx(widths[0], rel=1e-9)
    assert widths[2] < widths[0] / 3


def test_importing_the_statistics_loads_no_torch() -> None:
    modules = ("agreement", "pairs", "intervals", "estimates")
    code = ";".join(f"import rewardmodel.stats.{name}" for name in modules)
    code += ";import sys; print([m for m in ('torch', 'transformers', 'peft', 'scipy', 'django') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

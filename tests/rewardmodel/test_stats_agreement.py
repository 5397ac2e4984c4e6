"""Kappas by the textbook, by their laws and where they are undefined; self-consistency; mean tau; a million labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rewardmodel.stats.agreement import (
    Ratings,
    Weights,
    cohen_kappa,
    fleiss_kappa,
    kendall_tau_b,
    krippendorff_alpha,
    mean_tau_b,
    percent_agreement,
    self_consistency,
)

# Fleiss (1971) as in many textbooks: 14 people sort 10 subjects into 5 categories; kappa is .210.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def from_counts(counts: list[list[int]]) -> Ratings:
    return Ratings.from_matrix(np.array([np.repeat(np.arange(len(row)), row) for row in counts], dtype=float).T)


def test_fleiss_kappa_is_the_published_one() -> None:
    estimate = fleiss_kappa(from_counts(FLEISS), resamples=200)
    assert estimate.value == pytest.approx(0.210, abs=5e-4)
    assert estimate.low < 0.210 < estimate.high and estimate.count == 10


def test_cohen_kappa_is_the_one_of_the_textbook() -> None:
    """Two people read 50 proposals: both yes 20, both no 15, only the first yes 5, only the second 10: kappa .4."""
    first = np.repeat([1, 0, 1, 0], [20, 15, 5, 10])
    second = np.repeat([1, 0, 0, 1], [20, 15, 5, 10])
    estimate = cohen_kappa(first, second, resamples=2000)
    assert estimate.value == pytest.approx(0.4, abs=1e-12)
    assert estimate.count == 50
    # Fleiss, Cohen and Everitt (1969): the standard error is .1265 here.
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 0.1265, rel=0.1)


@settings(max_examples=100, deadline=None)
@given(
    arrays(float, st.tuples(st.just(2), st.integers(2, 15)), elements=st.sampled_from([np.nan, 0.0, 1.0, 2.0])),
    st.sampled_from(["none", "linear", "quadratic"]),
)
def test_cohen_kappa_is_what_its_definition_says(ratings: np.ndarray, weights: Weights) -> None:
    """Disagreement of what was given for the same unit, over that between everything given by the two."""
    both = ratings[:, ~np.isnan(ratings).any(axis=0)]
    ours = cohen_kappa(ratings[0], ratings[1], weights)
    levels = {value: k for k, value in enumerate(np.unique(both))}
    codes = np.vectorize(levels.get, otypes=[int])(both)

    def apart(a: int, b: int) -> float:
        return float(a != b) if weights == "none" else abs(a - b) ** (2 if weights == "quadratic" else 1)

    expected = [apart(a, b) for a in codes[0] for b in codes[1]]
    if not any(expected):
        assert ours.value is None
        return
    observed = [apart(a, b) for a, b in codes.T]
    assert ours.value == pytest.approx(1 - np.mean(observed) / np.mean(expected), abs=1e-12)
    swapped = cohen_kappa(ratings[1], ratings[0], weights)
    assert swapped.value == pytest.approx(ours.value, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(arrays(float, st.tuples(st.integers(2, 5), st.integers(1, 10)), elements=st.sampled_from([0.0, 1.0, 2.0])))
def test_fleiss_and_krippendorff_differ_by_the_size_of_the_sample_only(matrix: np.ndarray) -> None:
    ratings = Ratings.from_matrix(matrix)
    kappa, alpha = fleiss_kappa(ratings), krippendorff_alpha(ratings)
    if kappa.value is None:
        assert alpha.value is None and kappa.reason == alpha.reason
        return
    assert 1 - alpha.value == pytest.approx((1 - kappa.value) * (matrix.size - 1) / matrix.size, abs=1e-12)


def test_what_does_not_exist_says_why() -> None:
    nan = np.nan
    assert cohen_kappa([nan, 1], [1, nan]).reason == "undefined because nothing was judged by two people"
    assert "all ratings are equal" in cohen_kappa([1, 1], [1, 1]).reason
    assert "all ratings are equal" in fleiss_kappa(Ratings.from_matrix([[1, 1], [1, 1]])).reason
    assert "different numbers of people" in fleiss_kappa(Ratings.from_matrix(np.array([[1, 1], [1, nan]]))).reason
    assert "judged by two people" in fleiss_kappa(Ratings.from_matrix([[1, 2]])).reason
    assert self_consistency([("ann", 1, [[0], [1]])]).reason == "undefined because nobody judged anything twice"
    assert "no two people" in mean_tau_b([(1, [[0], [1]]), (2, [[0], [1]])]).reason
    assert "no two people" in mean_tau_b([(1, [[0, 1]]), (1, [[0], [1]])]).reason
    with pytest.raises(ValueError, match="weights must be"):
        cohen_kappa([1], [1], weights="cubic")  # type: ignore[arg-type]


def test_consistency_compares_a_person_with_that_person_only() -> None:
    rankings = [
        ("ann", 1, [[0], [1]]),
        ("ann", 1, [[0], [1]]),
        ("ann", 2, [[0], [1]]),
        ("ann", 2, [[1], [0]]),
        ("bob", 1, [[1], [0]]),
        ("bob", 2, [[1], [0]]),
    ]
    estimate = self_consistency(rankings, resamples=50)
    assert estimate.value == 0.5 and estimate.count == 2
    assert (estimate.low, estimate.high) == (0, 1)


def test_the_mean_tau_is_over_pairs_of_people() -> None:
    first, second, third = [[0], [1], [2]], [[2], [1], [0]], [[0], [1, 2]]
    estimate = mean_tau_b([("x", first), ("x", second), ("y", first), ("y", third), ("z", first)], resamples=100)
    expected = [-1, kendall_tau_b(first, third).value]
    assert estimate.value == pytest.approx(np.mean(expected))
    assert estimate.count == 2
    assert (estimate.low, estimate.high) == pytest.approx((-1, expected[1]))


def test_intervals_of_kappas_cover_the_truth() -> None:
    """Two people, each right with probability .9 on 3 equal classes."""
    truth, runs = (0.9**2 + 0.1**2 / 2 - 1 / 3) / (2 / 3), 100
    hits = np.zeros(2)
    for seed in range(runs):
        random = np.random.default_rng(seed)
        right = random.integers(0, 3, 150)
        pair = [np.where(random.random(150) < 0.9, right, (right + random.integers(1, 3, 150)) % 3) for _ in "ab"]
        ratings = Ratings.from_matrix(pair)
        for k, found in enumerate((cohen_kappa(pair[0], pair[1], resamples=200), fleiss_kappa(ratings, resamples=100))):
            hits[k] += found.low < truth < found.high
    assert (hits >= 88).all()  # 95 expected; P(fewer than 88 | 95 %) = .1 %


def test_a_million_labels_are_no_trouble() -> None:
    random = np.random.default_rng(0)
    unit = np.repeat(np.arange(250_000), 4)
    truth = random.integers(0, 3, 250_000)[unit]
    value = np.where(random.random(1_000_000) < 0.8, truth, random.integers(0, 3, 1_000_000)).astype(float)
    ratings = Ratings(unit, value, unit)
    expected = 0.8**2  # both meant it
    assert krippendorff_alpha(ratings, "nominal").value == pytest.approx(expected, abs=0.005)
    assert fleiss_kappa(ratings).value == pytest.approx(expected, abs=0.005)
    assert percent_agreement(ratings).value == pytest.approx(expected + (1 - expected) / 3, abs=0.005)
    assert cohen_kappa(value[::4], value[1::4], resamples=100).value == pytest.approx(expected, abs=0.01)

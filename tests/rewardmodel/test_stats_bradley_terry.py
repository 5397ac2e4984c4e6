"""Bradley-Terry against choix, against simulated truths, and on data that have no finite answer."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from rewardmodel.stats import bradley_terry, newton
from rewardmodel.stats.errors import (
    InvalidComparison,
    InvalidData,
    InvalidWeights,
    NothingToFit,
    TooFewItems,
    TooManyItems,
)
from rewardmodel.stats.strengths import FALLBACK_PENALTY
from tests.rewardmodel.simulated import normal_strengths, simulate_pairs


@pytest.mark.parametrize("seed", range(2))
def test_every_solver_of_choix_finds_the_same_strengths(seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs = simulate_pairs(random, normal_strengths(random, 8), 250)
    wins = np.zeros((8, 8))
    np.add.at(wins, (pairs[:, 0], pairs[:, 1]), 1)
    rows = pairs.tolist()
    ours = bradley_terry.fit(pairs)
    assert ours.strongly_connected and ours.penalty == 0
    for theirs in (
        choix.mm_pairwise(8, rows, tol=1e-10),
        choix.ilsr_pairwise(8, rows),
        choix.ilsr_pairwise_dense(wins),
        choix.opt_pairwise(8, rows, alpha=0, tol=1e-9),
        choix.opt_pairwise(8, rows, alpha=0, method="BFGS", tol=1e-7),
    ):
        assert ours.strengths == pytest.approx(theirs - theirs.mean(), abs=1e-6)
    assert ours.log_likelihood == pytest.approx(choix.log_likelihood_pairwise(rows, ours.strengths), abs=1e-9)


def test_the_penalty_is_the_precision_of_a_normal_prior() -> None:
    pairs = simulate_pairs(np.random.default_rng(0), np.linspace(-1, 1, 6), 50)
    theirs = choix.opt_pairwise(6, pairs.tolist(), alpha=0.25, tol=1e-9)  # alpha |s|^2 = penalty / 2 |s|^2
    assert bradley_terry.fit(pairs, penalty=0.5).strengths == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("wins", "losses"), [(3, 1), (1, 1), (70, 2)])
def test_two_items_differ_by_the_log_odds(wins: int, losses: int) -> None:
    found = bradley_terry.fit([(0, 1)] * wins + [(1, 0)] * losses)
    assert found.difference(0, 1).value == pytest.approx(np.log(wins / losses), abs=1e-9)
    # The information about a difference of log-odds is n p (1 - p).
    error = np.sqrt(1 / wins + 1 / losses)
    assert found.difference(0, 1).high == pytest.approx(np.log(wins / losses) + 1.959964 * error, abs=1e-5)
    assert found.standard_errors == pytest.approx([error / 2] * 2, rel=1e-6)


def test_strengths_are_recovered() -> None:
    """Measured before: 20 items, 4,000 comparisons: root mean squared error .105."""
    errors = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        truth = normal_strengths(random, 20)
        found = bradley_terry.fit(simulate_pairs(random, truth, 4000)).strengths
        errors.append(np.sqrt(np.mean((found - truth) ** 2)))
    assert np.mean(errors) == pytest.approx(0.105, abs=0.015)
    assert max(errors) < 0.15


def test_intervals_cover_the_truth() -> None:
    hits, differences, runs = [], 0, 200
    for seed in range(runs):
        random = np.random.default_rng(seed)
        truth = normal_strengths(random, 10)
        found = bradley_terry.fit(simulate_pairs(random, truth, 1000))
        hits.append(np.abs(found.strengths - truth) < 1.96 * found.standard_errors)
        gap = found.difference(0, 1)
        differences += gap.low < truth[0] - truth[1] < gap.high
    assert 0.93 < np.mean(hits) < 0.97
    assert 0.90 <= differences / runs <= 0.985


def test_random_answers_are_allowed_for() -> None:
    """Measured before: with 10 % random answers slope .79 and error .30 without the noise, 1.01 and .11 with it."""
    slopes, errors = np.zeros((20, 2)), np.zeros((20, 2))
    for seed in range(20):
        random = np.random.default_rng(seed)
        truth = normal_strengths(random, 20) * 1.5
        pairs = simulate_pairs(random, truth, 8000, noise=0.1)
        for k, noise in enumerate([0.0, 0.1]):
            found = bradley_terry.fit(pairs, noise=noise).strengths
            slopes[seed, k] = found @ truth / (truth @ truth)
            errors[seed, k] = np.sqrt(np.mean((found - truth) ** 2))
    naive, aware = slopes.mean(axis=0)
    assert naive < 0.85 and 0.97 < aware < 1.03
    assert errors[:, 1].mean() < 0.5 * errors[:, 0].mean()


def test_the_noisy_maximum_is_one() -> None:
    pairs = simulate_pairs(np.random.default_rng(1), np.linspace(-2, 2, 5), 400, noise=0.2)

    def log_likelihood(strengths: NDArray) -> float:
        gap = strengths[pairs[:, 0]] - strengths[pairs[:, 1]]
        return float(np.log(0.1 + 0.8 * expit(gap)).sum())

    found = bradley_terry.fit(pairs, noise=0.2)
    assert log_likelihood(found.strengths) == pytest.approx(found.log_likelihood, abs=1e-9)
    for direction in np.eye(5):
        for step in (-1e-3, 1e-3):
            assert log_likelihood(found.strengths + step * direction) < found.log_likelihood


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 1), (2, 3)],  # two islands
        [(0, 1), (1, 2), (2, 3), (3, 1)],  # 0 never lost
        [(0, 1), (1, 0), (0, 3), (3, 0), (0, 2)],  # 2 never won
        [(1, 0), (2, 1), (3, 2), (1, 3)],  # 0 never won
    ],
)
def test_a_graph_that_is_not_strongly_connected_is_reported_and_regularised(pairs: list[tuple[int, int]]) -> None:
    for items in (4, 300):  # a full matrix and a sparse one
        found = bradley_terry.fit(pairs, items=items)
        assert not found.strongly_connected
        assert found.penalty == FALLBACK_PENALTY
        assert np.isfinite(found.strengths).all() and np.abs(found.strengths).max() < 10
        assert np.isfinite(found.standard_errors).all()
        assert found.strengths.sum() == pytest.approx(0, abs=1e-9)
        assert np.ptp(found.strengths) > 0.1


def test_the_sparse_path_is_the_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    pairs = simulate_pairs(random, normal_strengths(random, 60), 3000)
    mu, weight = random.random(3000), random.random(3000)
    soft = np.column_stack([pairs, mu])
    for rows, weights, noise in ((pairs, None, 0.0), (soft, weight, 0.0), (soft, None, 0.1)):
        full = bradley_terry.fit(rows, weights=weights, noise=noise)
        # 140 more items that were never compared make the matrix sparse.
        sparse = bradley_terry.fit(rows, weights=weights, noise=noise, items=200)
        assert sparse.strengths[60:] == pytest.approx(0, abs=1e-9)
        assert full.strongly_connected and not sparse.strongly_connected
        penalised = bradley_terry.fit(rows, weights=weights, noise=noise, penalty=FALLBACK_PENALTY)
        assert sparse.strengths[:60] == pytest.approx(penalised.strengths, abs=1e-8)
        monkeypatch.setattr(newton, "SMALL", 10)  # conjugate gradients
        iterated = bradley_terry.fit(rows, weights=weights, noise=noise)
        assert iterated.strengths == pytest.approx(full.strengths, abs=1e-8)
        monkeypatch.undo()


def test_strengths_far_apart_stay_finite() -> None:
    """A chain of 300 items, each beating the next 99 : 1, spans 1,374 logits."""
    chain = np.arange(299)
    rows = np.column_stack([chain, chain + 1, np.full(299, 0.99)])
    found = bradley_terry.fit(rows)
    assert found.strongly_connected
    assert np.diff(found.strengths) == pytest.approx(-np.log(99), rel=1e-6)


rows_of_five = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 4), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=25
).map(lambda rows: [(i, (i + k) % 5, mu) for i, k, mu in rows])


@settings(max_examples=60, deadline=None)
@given(rows_of_five, st.permutations(range(5)))
def test_neither_the_writing_nor_the_numbering_matters(rows: list[tuple[int, int, float]], names: list[int]) -> None:
    found = bradley_terry.fit(rows, items=5, penalty=0.3)
    turned = bradley_terry.fit([(j, i, 1 - mu) for i, j, mu in rows], items=5, penalty=0.3)
    assert turned.strengths == pytest.approx(found.strengths, abs=1e-8)
    renamed = bradley_terry.fit([(names[i], names[j], mu) for i, j, mu in rows], items=5, penalty=0.3)
    assert renamed.strengths[names] == pytest.approx(found.strengths, abs=1e-8)
    split = [(a, b, 1.0) for i, j, mu in rows for a, b in ((i, j), (j, i))]
    weights = [share for _, _, mu in rows for share in (mu, 1 - mu)]
    hard = bradley_terry.fit(split, weights=weights, items=5, penalty=0.3)
    assert hard.strengths == pytest.approx(found.strengths, abs=1e-8)
    assert hard.log_likelihood == pytest.approx(found.log_likelihood, abs=1e-8)
    assert hard.strongly_connected == found.strongly_connected


def test_ties_only_make_all_strengths_equal() -> None:
    assert bradley_terry.fit([(0, 1, 0.5), (1, 2, 0.5)]).strengths == pytest.approx([0, 0, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "options", "error", "reason"),
    [
        ([], {}, NothingToFit, "no comparisons"),
        (np.empty((0, 3)), {}, NothingToFit, "no comparisons"),
        ([(0, 0)], {}, TooFewItems, "only one item"),
        ([(0, 1), (1, 1)], {}, InvalidComparison, "Row 1 compares item 1 with itself"),
        ([(0, 1)], {"items": 1}, InvalidComparison, "no item 1"),
        ([(0, 1), (2, 1)], {"items": 2}, InvalidComparison, "no item 2"),
        ([(0, -1)], {}, InvalidComparison, "no item -1"),
        ([(0, 1, np.nan)], {}, InvalidComparison, "mu nan"),
        ([(0, np.nan, 1)], {}, InvalidComparison, "no item nan"),
        ([(0, 0.5, 1)], {}, InvalidComparison, "no item 0.5"),
        ([(0, 1, 1.5)], {}, InvalidComparison, "mu 1.5"),
        ([(0, 1), (0, 1, 0.5)], {}, InvalidComparison, "all .winner, loser. or all"),
        ([("a", "b")], {}, InvalidComparison, "are numbers"),
        ([0, 1], {}, InvalidComparison, "are numbers"),
        ([(0, 1)], {"weights": [-1.0]}, InvalidWeights, "not negative"),
        ([(0, 1)], {"weights": [np.nan]}, InvalidWeights, "finite"),
        ([(0, 1)], {"weights": [0.0]}, InvalidWeights, "not all zero"),
        ([(0, 1)], {"weights": [1.0, 1.0]}, InvalidWeights, "1 rows need 1 weights"),
        ([(0, 1)], {"penalty": -1.0}, InvalidData, "penalty"),
        ([(0, 1)], {"noise": 1.0}, InvalidData, "random answers"),
    ],
)
def test_bad_input_is_refused_by_name(rows: object, options: dict, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        bradley_terry.fit(rows, **options)  # type: ignore[arg-type]


def test_standard_errors_of_too_many_items_are_refused_and_strengths_are_not() -> None:
    items = newton.MOST_DENSE + 1
    ring = np.arange(items)
    found = bradley_terry.fit(np.column_stack([ring, (ring + 1) % items]))
    assert found.strengths == pytest.approx(0, abs=1e-6)
    with pytest.raises(TooManyItems, match="5,000 at most"):
        _ = found.standard_errors

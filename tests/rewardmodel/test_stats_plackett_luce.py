"""Plackett-Luce against choix, Bradley-Terry, exact cases, and on rankings that are none."""

from __future__ import annotations

from itertools import permutations

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from rewardmodel.stats import bradley_terry, plackett_luce
from rewardmodel.stats.errors import InvalidComparison, InvalidTiers, InvalidWeights, NothingToFit, TieTooLarge
from rewardmodel.stats.plackett_luce import log_likelihood
from rewardmodel.stats.strengths import FALLBACK_PENALTY
from tests.rewardmodel.simulated import normal_strengths, simulate_orders

SCORES = [1.2, -0.3, 0.5, 0.1]


@pytest.mark.parametrize("size", [2, 5])
def test_every_solver_of_choix_finds_the_same_strengths(size: int) -> None:
    random = np.random.default_rng(size)
    orders = simulate_orders(random, normal_strengths(random, 6), 200 // size, size)
    ours = plackett_luce.fit(orders)
    assert ours.strongly_connected and ours.penalty == 0
    rows = orders.tolist()
    for theirs in (
        choix.mm_rankings(6, rows, tol=1e-9),
        choix.ilsr_rankings(6, rows),
        choix.opt_rankings(6, rows, alpha=0, tol=1e-7),
        choix.opt_rankings(6, rows, alpha=0, method="BFGS", tol=1e-6),
    ):
        assert ours.strengths == pytest.approx(theirs - theirs.mean(), abs=1e-6)
    assert ours.log_likelihood == pytest.approx(choix.log_likelihood_rankings(rows, ours.strengths), abs=1e-9)


def test_best_of_k_is_the_top_one_fit_of_choix() -> None:
    random = np.random.default_rng(1)
    orders = simulate_orders(random, normal_strengths(random, 5), 50, 4)
    theirs = choix.opt_top1(5, [(row[0], row[1:]) for row in orders.tolist()], alpha=0, tol=1e-9)
    assert plackett_luce.fit(orders, top=1).strengths == pytest.approx(theirs - theirs.mean(), abs=1e-6)


def test_the_exact_cases_hold() -> None:
    order = [[[0], [2], [3], [1]]]
    assert log_likelihood(SCORES, order) == pytest.approx(-1.98336649, abs=1e-8)
    assert log_likelihood(SCORES, order, top=1) == pytest.approx(-0.71910073, abs=1e-8)
    assert log_likelihood(SCORES, order, top=3) == log_likelihood(SCORES, order)
    assert log_likelihood(np.zeros(7), np.arange(7)[None]) == pytest.approx(-8.525161, abs=1e-6)


def test_the_probabilities_of_all_orders_add_up_to_one() -> None:
    scores = np.random.default_rng(0).normal(size=5)
    total = sum(np.exp(log_likelihood(scores, np.array([order]))) for order in permutations(range(5)))
    assert total == pytest.approx(1, abs=1e-12)


def test_a_tie_is_the_average_over_its_orders() -> None:
    broken = [[0, 2, 3, 1], [2, 0, 3, 1]]
    average = np.mean([log_likelihood(SCORES, np.array([order])) for order in broken])
    assert log_likelihood(SCORES, [[[0, 2], [3], [1]]]) == pytest.approx(average, abs=1e-12)
    everything = np.mean([log_likelihood(SCORES, np.array([order])) for order in permutations(range(4))])
    assert log_likelihood(SCORES, [[[0, 1, 2, 3]]]) == pytest.approx(everything, abs=1e-12)


def test_two_items_are_bradley_terry() -> None:
    random = np.random.default_rng(3)
    pairs = simulate_orders(random, normal_strengths(random, 7), 300, 2)
    rankings, comparisons = plackett_luce.fit(pairs), bradley_terry.fit(pairs)
    assert rankings.strengths == pytest.approx(comparisons.strengths, abs=1e-9)
    assert rankings.standard_errors == pytest.approx(comparisons.standard_errors, rel=1e-6)
    assert rankings.log_likelihood == pytest.approx(comparisons.log_likelihood, abs=1e-9)
    tied = plackett_luce.fit([[[0, 1]], [[0], [1]]])
    assert tied.strengths == pytest.approx(bradley_terry.fit([(0, 1, 0.5), (0, 1, 1.0)]).strengths, abs=1e-9)


def test_the_standard_errors_are_those_of_the_likelihood() -> None:
    """Second differences of the log-likelihood along a direction of sum zero are the information along it."""
    random = np.random.default_rng(4)
    orders = simulate_orders(random, normal_strengths(random, 3), 60, 3)
    found = plackett_luce.fit(orders)
    basis = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.sqrt([[2.0], [6.0]])
    information, step = np.zeros((2, 2)), 1e-3
    for i, j in np.ndindex(2, 2):
        for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            moved = found.strengths + step * (a * basis[i] + b * basis[j])
            information[i, j] -= a * b * log_likelihood(moved, orders) / (4 * step**2)
    assert found.covariance == pytest.approx(basis.T @ np.linalg.inv(information) @ basis, rel=1e-4, abs=1e-7)


def test_intervals_cover_the_truth() -> None:
    hits = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        truth = normal_strengths(random, 8)
        found = plackett_luce.fit(simulate_orders(random, truth, 100, 5))
        hits.append(np.abs(found.strengths - truth) < 1.96 * found.standard_errors)
    assert 0.93 < np.mean(hits) < 0.97


def test_rankings_teach_more_than_their_pairs() -> None:
    """Both fits are consistent, and the one of whole rankings is more efficient (Zhu et al. 2023, theorem 4.3).

    Measured before, with six items a ranking: ratio of squared errors 1.18, better in 69 % of 200 paired seeds.
    """
    errors = np.zeros((200, 2))
    i, j = np.triu_indices(6, 1)
    for seed in range(200):
        random = np.random.default_rng(seed)
        truth = normal_strengths(random, 10)
        orders = simulate_orders(random, truth, 100, 6)
        pairs = np.stack([orders[:, i].ravel(), orders[:, j].ravel()], axis=1)
        for k, found in enumerate((bradley_terry.fit(pairs), plackett_luce.fit(orders))):
            errors[seed, k] = np.mean((found.strengths - truth) ** 2)
    pairwise, ranked = errors.T
    assert pairwise.mean() / ranked.mean() > 1.05
    assert binomtest(int((ranked < pairwise).sum()), 200, alternative="greater").pvalue < 0.01


def test_many_items_are_fitted_without_writing_the_matrix_out(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(6)
    orders = simulate_orders(random, normal_strengths(random, 40), 400, 4)
    direct = plackett_luce.fit(orders)
    monkeypatch.setattr("rewardmodel.stats.newton.SMALL", 10)
    assert plackett_luce.fit(orders).strengths == pytest.approx(direct.strengths, abs=1e-8)


tiers = st.permutations(range(5)).flatmap(
    lambda order: st.tuples(st.integers(1, 5), st.lists(st.booleans(), min_size=5, max_size=5)).map(
        lambda cut: [list(order[a:b]) for a, b in _spans([0, *[k for k in range(1, cut[0]) if cut[1][k]], cut[0]])]
    )
)


def _spans(edges: list[int]) -> list[tuple[int, int]]:
    return list(zip(edges, edges[1:], strict=False))


@settings(max_examples=60, deadline=None)
@given(st.lists(tiers, min_size=1, max_size=6), st.permutations(range(5)), st.integers(1, 4))
def test_neither_numbering_nor_shift_nor_order_of_rankings_matters(
    rankings: list[list[list[int]]], names: list[int], top: int
) -> None:
    scores = np.array([0.3, -1.0, 2.0, 0.0, 0.7])
    if all(sum(map(len, ranking)) < 2 for ranking in rankings):
        with pytest.raises(NothingToFit):
            plackett_luce.fit(rankings, items=5)
        return
    value = log_likelihood(scores, rankings, top=top)
    assert log_likelihood(scores + 9, rankings[::-1], top=top) == pytest.approx(value, abs=1e-9)
    renamed = [[[names[i] for i in tier] for tier in ranking] for ranking in rankings]
    found = plackett_luce.fit(rankings, items=5, penalty=0.5, top=top)
    other = plackett_luce.fit(renamed, items=5, penalty=0.5, top=top)
    assert other.strengths[names] == pytest.approx(found.strengths, abs=1e-8)
    assert other.strongly_connected == found.strongly_connected
    assert found.strengths.sum() == pytest.approx(0, abs=1e-9)
    doubled = plackett_luce.fit(rankings, items=5, penalty=1.0, top=top, weights=[2.0] * len(rankings))
    assert doubled.strengths == pytest.approx(found.strengths, abs=1e-8)


@pytest.mark.parametrize("rankings", [[[[0], [1]], [[2], [3]]], [[[0], [1], [2], [3]]] * 9])
def test_what_has_no_finite_maximum_is_reported_and_regularised(rankings: list) -> None:
    found = plackett_luce.fit(rankings)
    assert not found.strongly_connected and found.penalty == FALLBACK_PENALTY
    assert np.isfinite(found.strengths).all() and np.isfinite(found.standard_errors).all()
    assert found.strengths[0] > found.strengths[1]


def test_a_tie_connects_both_ways() -> None:
    assert plackett_luce.fit([[[0, 1, 2]]]).strongly_connected
    assert not plackett_luce.fit([[[0, 1], [2]]]).strongly_connected
    assert plackett_luce.fit([[[0, 1], [2]], [[2], [1]]]).strongly_connected
    assert not plackett_luce.fit([[[0, 1], [2]], [[2], [1]]], weights=[1, 0]).strongly_connected


@pytest.mark.parametrize(
    ("rankings", "options", "error", "reason"),
    [
        ([], {}, NothingToFit, "no rankings"),
        ([[]], {}, NothingToFit, "no rankings"),
        ([[[0]], [[1]]], {}, NothingToFit, "compares two items"),
        ([[[0], [1]], [[1], [2, 1]]], {}, InvalidTiers, "Ranking 1 names item 1 twice"),
        (np.array([[0, 1, 0]]), {}, InvalidTiers, "Ranking 0 names item 0 twice"),
        ([[[0], []]], {}, InvalidTiers, "Ranking 0 has an empty tier"),
        ([[0, 1]], {}, InvalidTiers, "not a list of tiers"),
        ([[[0], [True]]], {}, InvalidTiers, "holds True"),
        ([[[0], [np.nan]]], {}, InvalidTiers, "holds nan"),
        ([[["0"], ["1"]]], {}, InvalidTiers, "holds '0'"),
        ([[[0], [-2]]], {}, InvalidTiers, "no item -2"),
        ([[[0], [5]]], {"items": 3}, InvalidComparison, "no item 5"),
        (np.array([[0.0, np.nan]]), {}, InvalidTiers, "one row of item numbers"),
        (np.array([[0, -1, 1]]), {}, InvalidTiers, "only fill the end"),
        ([[list(range(13)), [13]]], {}, TieTooLarge, "13 items are tied"),
        ([[[0], [1]]], {"weights": [1.0, 2.0]}, InvalidWeights, "1 rows need 1 weights"),
    ],
)
def test_bad_input_is_refused_by_name(rankings: list, options: dict, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        plackett_luce.fit(rankings, **options)


def test_an_array_is_the_same_as_lists() -> None:
    array = np.array([[2, 0, 1], [1, 2, -1], [0, -1, -1], [0, 1, 2]])
    lists = [[[i] for i in row if i >= 0] for row in array.tolist()]
    assert plackett_luce.fit(array).strengths == pytest.approx(plackett_luce.fit(lists).strengths, abs=1e-12)

"""Tie-aware fits against brute force, and against what ignoring ties does to the same simulated people."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from rewardmodel.stats import bradley_terry, newton, ties
from rewardmodel.stats.errors import AllTies, InvalidComparison, InvalidData, NothingToFit
from rewardmodel.stats.strengths import FALLBACK_PENALTY
from rewardmodel.stats.tie_models import Name
from tests.rewardmodel.simulated import normal_strengths, simulate_answers

MODELS: list[Name] = ["rao-kupper", "davidson"]


def simulate(
    seed: int, items: int = 20, rows: int = 3000, threshold: float = 0.8, bias: float = 0.4
) -> tuple[NDArray, NDArray]:
    random = np.random.default_rng(seed)
    truth = normal_strengths(random, items)
    first = random.integers(items, size=rows)
    second = (first + random.integers(1, items, size=rows)) % items
    mu = simulate_answers(random, truth[first] - truth[second], threshold, bias)
    return truth, np.column_stack([first, second, mu])


def probabilities(model: Name, gap: NDArray, threshold: float) -> NDArray:
    """As in the papers; columns are second better, tie, first better."""
    if model == "rao-kupper":
        first, second = expit(gap - threshold), expit(-gap - threshold)
        return np.stack([second, 1 - first - second, first], axis=1)
    pi, pj = np.exp(gap), np.ones_like(gap)
    tie = threshold * np.sqrt(pi * pj)
    return np.asarray(np.stack([pj, tie, pi], axis=1) / (pi + pj + tie)[:, None])


@pytest.mark.parametrize("model", MODELS)
def test_the_fit_is_the_maximum_that_a_general_optimiser_finds(model: Name) -> None:
    _, rows = simulate(0, items=5, rows=400)
    first, second, answer = rows[:, 0].astype(int), rows[:, 1].astype(int), (2 * rows[:, 2]).astype(int)

    def log_likelihood(point: NDArray) -> float:
        strengths = np.append(0.0, point[:4])
        shares = probabilities(model, strengths[first] - strengths[second] + point[4], np.exp(point[5]))
        return float(np.log(shares[np.arange(len(rows)), answer]).sum())

    best = minimize(lambda point: -log_likelihood(point), np.zeros(6), method="BFGS", options={"gtol": 1e-5})
    found = ties.fit(rows, model=model)
    strengths = np.append(0.0, best.x[:4])
    # The weak prior that keeps bias and threshold finite moves them by less than a thousandth.
    assert found.strengths == pytest.approx(strengths - strengths.mean(), abs=1e-3)
    assert found.bias.value == pytest.approx(best.x[4], abs=1e-3)
    assert found.threshold.value == pytest.approx(np.exp(best.x[5]), abs=1e-3)
    point = np.concatenate(
        [found.strengths[1:] - found.strengths[0], [found.bias.value, np.log(found.threshold.value)]]
    )
    assert found.log_likelihood == pytest.approx(log_likelihood(point), abs=1e-8)
    assert found.log_likelihood == pytest.approx(-best.fun, abs=1e-3)
    # Standard errors of bias and threshold, from second differences of this likelihood.
    steps, information = 1e-3 * np.eye(6), np.zeros((6, 6))
    for i, j in np.ndindex(6, 6):
        for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            information[i, j] -= a * b * log_likelihood(best.x + a * steps[i] + b * steps[j]) / 4e-6
    covariance = np.linalg.inv(information)[4:, 4:] * np.outer([1, found.threshold.value], [1, found.threshold.value])
    errors = np.sqrt(np.diag(covariance))
    assert found.bias.high - found.bias.value == pytest.approx(1.96 * errors[0], rel=1e-3)
    assert found.threshold.high - found.threshold.value == pytest.approx(1.96 * errors[1], rel=1e-3)
    together = found.covariance[-2, -1] * errors[1] / np.sqrt(found.covariance[-1, -1])
    assert together == pytest.approx(covariance[0, 1], rel=0.02)


def test_ties_and_positions_are_allowed_for() -> None:
    """Measured before: threshold .79 of .8, bias .39 of .4, slope .99, error .118; without: .318, .156, .173."""
    seeds = 20
    errors, slopes, others = np.zeros((seeds, 4)), np.zeros((seeds, 4)), np.zeros((seeds, 2))
    for seed in range(seeds):
        truth, rows = simulate(seed)
        strict = rows[rows[:, 2] != 0.5]
        flipped = rows.copy()
        tied = flipped[:, 2] == 0.5
        flipped[tied, 2] = np.random.default_rng(seed).integers(2, size=tied.sum())
        aware = ties.fit(rows)
        others[seed] = aware.threshold.value, aware.bias.value
        fits = [aware, bradley_terry.fit(strict), bradley_terry.fit(rows), bradley_terry.fit(flipped)]
        for k, found in enumerate(fits):
            errors[seed, k] = np.sqrt(np.mean((found.strengths - truth) ** 2))
            slopes[seed, k] = found.strengths @ truth / (truth @ truth)
    aware, dropped, halved, coin = errors.mean(axis=0)
    assert aware < 0.9 * min(dropped, halved, coin)
    slope, slope_dropped, slope_halved, _ = slopes.mean(axis=0)
    assert 0.95 < slope < 1.05 and slope_dropped > 1.15 and slope_halved < 0.92
    assert others.mean(axis=0) == pytest.approx([0.8, 0.4], abs=0.03)
    assert (np.abs(others - [0.8, 0.4]).max(axis=0) < 0.2).all()


def test_intervals_cover_the_truth() -> None:
    strengths, bias, threshold = [], [], []
    for seed in range(100):
        truth, rows = simulate(1000 + seed, items=8, rows=500)
        found = ties.fit(rows)
        strengths.append(np.abs(found.strengths - truth) < 1.96 * found.standard_errors)
        bias.append(found.bias.low < 0.4 < found.bias.high)
        threshold.append(found.threshold.low < 0.8 < found.threshold.high)
    assert 0.93 < np.mean(strengths) < 0.97
    assert 0.90 < np.mean(bias) < 0.99
    assert 0.90 < np.mean(threshold) < 0.99


@pytest.mark.parametrize("model", MODELS)
def test_swapping_what_is_shown_first_turns_the_bias_around(model: Name) -> None:
    _, rows = simulate(3, items=6, rows=300)
    found = ties.fit(rows, model=model)
    turned = ties.fit(np.column_stack([rows[:, 1], rows[:, 0], 1 - rows[:, 2]]), model=model)
    assert turned.strengths == pytest.approx(found.strengths, abs=1e-7)
    assert turned.bias.value == pytest.approx(-found.bias.value, abs=1e-7)
    assert turned.threshold.value == pytest.approx(found.threshold.value, abs=1e-7)
    unseen = ties.fit(rows, model=model, position_bias=False)
    again = ties.fit(np.column_stack([rows[:, 1], rows[:, 0], 1 - rows[:, 2]]), model=model, position_bias=False)
    assert again.strengths == pytest.approx(unseen.strengths, abs=1e-7)
    assert unseen.bias.reason == "undefined because no position bias was fitted"
    assert unseen.log_likelihood < found.log_likelihood


@pytest.mark.parametrize("model", MODELS)
def test_without_any_tie_it_is_bradley_terry(model: Name) -> None:
    _, rows = simulate(4, items=5, rows=300, threshold=0.0)
    found = ties.fit(rows, model=model, position_bias=False)
    assert found.threshold.value == pytest.approx(0, abs=1e-3)
    assert found.strengths == pytest.approx(bradley_terry.fit(rows).strengths, abs=1e-2)


@pytest.mark.parametrize("model", MODELS)
def test_the_first_always_winning_stays_finite(model: Name) -> None:
    rows = [(0, 1, 1.0), (1, 0, 1.0), (1, 2, 1.0), (2, 1, 1.0)] * 5
    found = ties.fit(rows, model=model)
    assert found.strongly_connected
    assert 3 < found.bias.value < 20
    assert found.strengths == pytest.approx([0, 0, 0], abs=1e-6)
    islands = ties.fit([(0, 1, 1.0), (2, 3, 0.5)], model=model)
    assert not islands.strongly_connected and islands.penalty == FALLBACK_PENALTY
    assert np.abs(islands.strengths).max() < 10


def test_weights_repeat_rows_and_large_fits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows = simulate(5, items=12, rows=500)
    weights = np.random.default_rng(0).integers(0, 4, size=500)
    weighted = ties.fit(rows, weights=weights)
    repeated = ties.fit(np.repeat(rows, weights, axis=0))
    assert weighted.strengths == pytest.approx(repeated.strengths, abs=1e-9)
    assert weighted.threshold.value == pytest.approx(repeated.threshold.value, abs=1e-9)
    monkeypatch.setattr(newton, "SMALL", 5)
    assert ties.fit(rows, weights=weights).strengths == pytest.approx(weighted.strengths, abs=1e-7)


@pytest.mark.parametrize(
    ("rows", "options", "error", "reason"),
    [
        ([], {}, NothingToFit, "no comparisons"),
        ([(0, 1, 0.5), (1, 2, 0.5)], {}, AllTies, "Every comparison is a tie"),
        ([(0, 1, 0.7)], {}, InvalidComparison, "mu is 1"),
        ([(0, 1, 1.0)], {"model": "elo"}, InvalidData, "no model 'elo'"),
    ],
)
def test_bad_input_is_refused_by_name(rows: list, options: dict, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        ties.fit(rows, **options)

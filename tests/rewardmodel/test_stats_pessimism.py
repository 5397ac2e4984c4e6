"""A reward that is believed only as far as the comparisons go."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from rewardmodel.stats import pessimism
from rewardmodel.stats.errors import InvalidData, NothingToFit
from rewardmodel.stats.pessimism import LinearReward

ARMS = np.array([1.0, 0.5, 0.0, 0.5])
FEATURES = np.eye(4)
MIDDLE = FEATURES[1]


def bandit(comparisons: int, seed: int) -> LinearReward:
    """Three arms compared in turn, the fourth once: with the best, which it beats in 38 % of all cases."""
    random = np.random.default_rng(seed)
    pairs = np.array([[(0, 1), (0, 2), (1, 2)][row % 3] for row in range(comparisons - 1)] + [(3, 0)])
    won = random.random(comparisons) < expit(ARMS[pairs[:, 0]] - ARMS[pairs[:, 1]])
    rows = np.column_stack([pairs, won])
    return pessimism.fit(FEATURES, rows, reference=MIDDLE)


@cache
def losses(comparisons: int) -> tuple[float, float]:
    """Mean loss against the best arm, over 200 data sets: of the greedy arm, and of the best lower bound."""
    fits = [bandit(comparisons, seed) for seed in range(200)]
    picked = [[fit.lower(FEATURES, kappa).argmax() for fit in fits] for kappa in (0.0, 3.0)]
    greedy, careful = (float((ARMS.max() - ARMS[arms]).mean()) for arms in picked)
    return greedy, careful


def test_the_greedy_arm_stays_bad_and_the_lower_bound_does_not() -> None:
    assert losses(600)[0] > 0.1
    assert losses(600)[1] < 0.03
    # However many comparisons of the other arms there are, the greedy choice hangs on that single one.
    assert losses(600)[0] > 0.7 * losses(150)[0]
    assert losses(30)[1] > losses(150)[1] > losses(600)[1]


def test_uncertainty_grows_away_from_the_data_and_shrinks_with_more() -> None:
    few, many = bandit(30, 0), bandit(600, 0)
    _, uncertainty = many.score(FEATURES)
    assert uncertainty[1] == pytest.approx(0)  # the reference itself
    assert uncertainty[3] > 5 * uncertainty[[0, 2]].max()
    assert (many.score(FEATURES[[0, 2]])[1] < few.score(FEATURES[[0, 2]])[1] / 3).all()
    steps = np.arange(1, 5)
    assert many.score(MIDDLE + steps[:, None] * FEATURES[3])[1] == pytest.approx(
        steps * many.score(MIDDLE + FEATURES[[3]])[1]
    )


def test_the_value_of_a_policy_is_the_worst_over_the_confidence_ellipsoid() -> None:
    fit, kappa = bandit(60, 1), 2.0
    policy = np.array([0.4, 0.1, 0.2, 0.3])
    value = fit.value(policy, FEATURES, kappa)
    random = np.random.default_rng(0)
    root = np.linalg.inv(np.linalg.cholesky(fit.precision)).T
    directions = random.normal(size=(20_000, 4))
    inside = fit.weights + kappa * (directions / np.linalg.norm(directions, axis=1, keepdims=True)) @ root.T
    worst = (inside @ (policy @ FEATURES - MIDDLE)).min()
    assert value <= worst + 1e-12
    assert value == pytest.approx(worst, abs=0.05)
    assert value > policy @ fit.lower(FEATURES, kappa)  # mixed errors average out
    assert fit.value(FEATURES[2], FEATURES, kappa) == pytest.approx(fit.lower(FEATURES, kappa)[2])


def test_a_linear_reward_is_recovered() -> None:
    random = np.random.default_rng(3)
    truth, features = random.normal(size=5), random.normal(size=(50, 5))
    pairs = random.integers(50, size=(4000, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    mu = expit((features[pairs[:, 0]] - features[pairs[:, 1]]) @ truth)
    exact = pessimism.fit(features, np.column_stack([pairs, mu]), penalty=1e-9)
    assert exact.weights == pytest.approx(truth, abs=1e-6)
    assert exact.reference == pytest.approx(features[pairs].mean(axis=(0, 1)))
    won = np.where(random.random(len(pairs)) < mu, 1, 0)
    assert pessimism.fit(features, np.column_stack([pairs, won])).weights == pytest.approx(truth, abs=0.2)
    twice = pessimism.fit(features, np.column_stack([pairs, won]), weights=np.full(len(pairs), 2.0), penalty=1e-9)
    once = pessimism.fit(features, np.column_stack([pairs, won]), penalty=1e-9)
    assert twice.score(features)[1] == pytest.approx(once.score(features)[1] / np.sqrt(2))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"features": [[np.nan, 1.0], [0.0, 1.0]]}, "finite matrix"),
        ({"features": [1.0, 2.0]}, "finite matrix"),
        ({"penalty": 0.0}, "above 0"),
        ({"reference": [0.0, 0.0, 0.0]}, "2 finite features"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], reason: str) -> None:
    right: dict[str, Any] = {"features": [[1.0, 0.0], [0.0, 1.0]], "comparisons": [(0, 1)]}
    fit = pessimism.fit(**right)
    with pytest.raises(InvalidData, match=reason):
        pessimism.fit(**right | change)
    with pytest.raises(NothingToFit):
        pessimism.fit(right["features"], [])
    for policy in ([0.5], [0.7, 0.7], [1.5, -0.5]):
        with pytest.raises(InvalidData, match="sum to 1"):
            fit.value(policy, right["features"], 1.0)
    with pytest.raises(InvalidData, match="not negative"):
        fit.lower(right["features"], -1.0)
    with pytest.raises(InvalidData, match="on 2 features"):
        fit.score([[1.0]])

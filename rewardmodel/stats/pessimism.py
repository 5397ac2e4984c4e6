"""Lower-confidence rewards that are linear in features (Zhu, Jordan and Jiao 2023, "Principled RLHF").

Comparisons say much about some directions of the features and nothing about others. The most likely reward believes
whatever a single lucky comparison says, so a policy that maximises it can stay bad however many comparisons there are
of other things (their theorem 3.9). The cure is to maximise what the reward is at least:

    reward(x) = (x - v) . w,    uncertainty(x) = || x - v || in the norm of (sum over comparisons d d' + penalty I)^-1

with d the difference of the two features compared, and v a reference to which all rewards are relative: comparisons
tell differences only, so v should be something that was compared. Their Sigma_D is the mean of d d', where this is
the sum: uncertainty here is theirs times 1 / sqrt(comparisons), which is how it enters their bound, and `kappa`
stands for the rest of that bound, which does not depend on the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rewardmodel.stats.comparisons import Comparisons, Floats
from rewardmodel.stats.errors import InvalidData, NotConverged
from rewardmodel.stats.strengths import FALLBACK_PENALTY

MOST_STEPS = 200
CLOSE = 1e-9


@dataclass(frozen=True, eq=False)
class LinearReward:
    """A reward on features (d,), in logits, and how well the comparisons determine it."""

    weights: Floats
    """(d,)"""
    precision: Floats
    """(d, d): the sum over comparisons of d d', and the penalty on the diagonal."""
    reference: Floats
    """(d,): the feature whose reward is 0, and certain."""

    def score(self, features: ArrayLike) -> tuple[Floats, Floats]:
        """Reward and uncertainty, each (rows,), of features (rows, d)."""
        away = self._checked(features) - self.reference
        square = (away * np.linalg.solve(self.precision, away.T).T).sum(axis=1)
        return np.asarray(away @ self.weights), np.sqrt(square)

    def lower(self, features: ArrayLike, kappa: float) -> Floats:
        """reward - kappa * uncertainty, (rows,), of features (rows, d)."""
        reward, uncertainty = self.score(features)
        return reward - _strictness(kappa) * uncertainty

    def value(self, policy: ArrayLike, features: ArrayLike, kappa: float) -> float:
        """What a policy is worth at least, over the confidence ellipsoid: the lower reward of its mean feature.

        `policy` (rows,) says how often it takes each row of features (rows, d); several prompts lie one behind the
        other, with the prompt's probability in it. Mixing averages errors out, so this is no less than the mean of
        `lower` over the policy.
        """
        shares, table = np.asarray(policy, dtype=np.float64), self._checked(features)
        if shares.shape != table.shape[:1] or not (shares >= 0).all() or not np.isclose(shares.sum(), 1):
            raise InvalidData("A policy has one probability for each row of features, and they sum to 1.")
        return float(self.lower(shares[None] @ table, kappa)[0])

    def _checked(self, features: ArrayLike) -> Floats:
        table = check_features(features)
        if table.shape[1] != len(self.weights):
            raise InvalidData(f"The reward is on {len(self.weights)} features, not {table.shape[1]}.")
        return table


def fit(
    features: ArrayLike,
    comparisons: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    penalty: float = FALLBACK_PENALTY,
) -> LinearReward:
    """The most likely linear reward, from (winner, loser) or (first, second, mu) of rows of features (items, d).

    `reference` (d,) is the feature that has reward 0; without it, the mean over what was compared. `penalty` is the
    precision of a normal prior on the weights. It also limits how far one comparison can carry the reward, and their
    bound holds for limited rewards: near 0, the reward outruns its uncertainty.
    """
    table = check_features(features)
    rows = Comparisons.of(comparisons, len(table), weights)
    if not (np.isfinite(penalty) and penalty > 0):
        raise InvalidData(f"A penalty on features is finite and above 0, not {penalty}.")
    times = rows.weights()
    if reference is None:
        origin = times @ (table[rows.first] + table[rows.second]) / (2 * times.sum())
    else:
        origin = np.asarray(reference, dtype=np.float64)
    if origin.shape != table.shape[1:] or not np.isfinite(origin).all():
        raise InvalidData(f"The reference is {table.shape[1]} finite features, as every item has.")
    difference = table[rows.first] - table[rows.second]
    precision = (difference * times[:, None]).T @ difference + penalty * np.eye(table.shape[1])
    return LinearReward(_most_likely(difference, rows.shares(), times, penalty), precision, origin)


def check_features(features: ArrayLike) -> Floats:
    """Features as a matrix (rows, d) of finite numbers."""
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0 or not np.isfinite(table).all():
        raise InvalidData("Features are a finite matrix with one row per item.")
    return table


def _most_likely(difference: Floats, share: Floats, weight: Floats, penalty: float) -> Floats:
    """Newton's method for Bradley-Terry on differences of features (rows, d)."""
    point = np.zeros(difference.shape[1])
    for _ in range(MOST_STEPS):
        won = expit(difference @ point)
        gradient = (weight * (share - won)) @ difference - penalty * point
        curved = (difference * (weight * won * (1 - won))[:, None]).T @ difference
        step = np.linalg.solve(curved + penalty * np.eye(len(point)), gradient)
        # Far from the maximum a full step may overshoot; two logits at a time never do.
        reach = float(np.abs(difference @ step).max(initial=0.0))
        point = point + step * min(1.0, 2.0 / max(reach, CLOSE))
        if reach < CLOSE:
            return np.asarray(point)
    raise NotConverged("The fit did not converge; a larger penalty may help.")


def _strictness(kappa: float) -> float:
    if not (np.isfinite(kappa) and kappa >= 0):
        raise InvalidData(f"Pessimism is finite and not negative, not {kappa}.")
    return kappa

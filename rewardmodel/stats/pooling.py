"""Rewards of each annotator, partially pooled: people share most of what they value, and differ in the rest.

Annotator a's reward is w_a = w_0 + d_a, where the d_a are normal with deviation `spread`, which is learned too. At
spread 0 this is one reward for all; without limit, a separate one for each, learned from that person's answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.special import expit

from rewardmodel.stats.comparisons import Comparisons, Floats, Ints
from rewardmodel.stats.errors import InvalidData
from rewardmodel.stats.strengths import FALLBACK_PENALTY

MOST_SWEEPS = 500
CLOSE = 1e-5  # change of the shared reward and of the spread that ends the search


@dataclass(frozen=True, eq=False)
class PooledRewards:
    """`shared[k]` and `rewards[a, k]` are the value of feature k to everybody and to annotator a."""

    shared: Floats
    rewards: Floats
    standard_errors: Floats
    """Of `rewards`, given the spread."""
    spread: float


def fit(
    annotators: ArrayLike,
    comparisons: ArrayLike,
    *,
    features: ArrayLike | None = None,
    items: int | None = None,
    weights: ArrayLike | None = None,
    spread: float | None = None,
    penalty: float = FALLBACK_PENALTY,
) -> PooledRewards:
    """Annotator `annotators[r]` (numbered from 0) gave row r: (winner, loser) or (first, second, mu).

    `features` has a row per item; the strength of an item is its product with the reward. Without it, each item is a
    feature of its own. `spread` fixes the deviation instead of learning it. `penalty` is the precision of a normal
    prior on the shared reward.

    Fitted by expectation-maximisation with normal approximations of what is known of each annotator.
    """
    values = None if features is None else np.asarray(features, dtype=np.float64)
    if values is not None and (values.ndim != 2 or not np.isfinite(values).all()):
        raise InvalidData("Features are a finite matrix with one row per item.")
    rows = Comparisons.of(comparisons, items if values is None else len(values), weights)
    values = np.eye(rows.items) if values is None else values
    answers = _Answers.of(np.asarray(annotators), rows, values)
    shared, learned = np.zeros(values.shape[1]), 1.0 if spread is None else spread
    if not learned > 0:
        raise InvalidData(f"The spread is above 0, not {spread}.")
    rewards = np.zeros((answers.annotators, len(shared)))
    for _ in range(MOST_SWEEPS):
        rewards, information = answers.posterior(rewards, shared, learned)
        before = (shared, learned)
        # Near its maximum, each likelihood is that of one observation of w_a with precision `information`. Without
        # w_a it observes w_0, with its variance larger by spread^2: the shared reward is a weighted mean.
        identity, square = np.eye(len(shared)), learned**2
        own = information @ np.linalg.inv(identity + square * information)
        uncertain = np.linalg.inv(own.sum(axis=0) + penalty * identity)
        pull = (rewards - shared) / square
        seen = pull + np.einsum("akl,al->ak", own, rewards - square * pull)
        shared = uncertain @ seen.sum(axis=0)
        given = np.linalg.inv(information + identity / square)  # covariance of w_a, were w_0 known
        response = given / square  # of w_a to w_0
        covariance = given + response @ uncertain @ response.transpose(0, 2, 1)
        if spread is None:
            lag = identity - response  # of w_a - w_0 to w_0
            variance = given + lag @ uncertain @ lag.transpose(0, 2, 1)
            learned = float(np.sqrt(np.mean((rewards - shared) ** 2 + np.einsum("akk->ak", variance))))
        if max(np.abs(shared - before[0]).max(), abs(learned - before[1])) < CLOSE:
            break
    return PooledRewards(shared, rewards, np.sqrt(np.einsum("akk->ak", covariance)), learned)


@dataclass(frozen=True, eq=False)
class _Answers:
    annotator: Ints
    annotators: int
    difference: Floats
    """(rows, features): of the first item less those of the second."""
    mu: Floats
    weight: Floats

    @classmethod
    def of(cls, annotator: Ints, rows: Comparisons, features: Floats) -> _Answers:
        people = rows.people(annotator, "How far people differ cannot be learned from one annotator.")
        difference = features[rows.first] - features[rows.second]
        return cls(annotator, people, difference, rows.shares(), rows.weights())

    def posterior(self, rewards: Floats, shared: Floats, spread: float) -> tuple[Floats, Floats]:
        """Each annotator's most likely reward (annotators, features), and the information in the answers about it.

        Newton's method for all at once; `rewards` is where it starts.
        """
        rows, size = len(self.mu), len(shared)
        collect = sparse.csr_array((np.ones(rows), (self.annotator, np.arange(rows))), shape=(self.annotators, rows))
        squares = (self.difference[:, :, None] * self.difference[:, None, :]).reshape(rows, -1)
        precision = np.eye(size) / spread**2
        for _ in range(50):
            share = expit((self.difference * rewards[self.annotator]).sum(axis=1))
            pull = (self.weight * (self.mu - share))[:, None] * self.difference
            certain = (self.weight * share * (1 - share))[:, None] * squares
            information = (collect @ certain).reshape(-1, size, size)
            gradient = collect @ pull - (rewards - shared) / spread**2
            step = np.linalg.solve(information + precision, gradient[:, :, None])[:, :, 0]
            # Far from the maximum a full step may overshoot; two logits at a time never do.
            reach = np.abs(self.difference * step[self.annotator]).sum(axis=1).max()
            rewards = rewards + step * min(1.0, 2.0 / max(reach, 1e-12))
            if reach < 1e-6:
                break
        return rewards, information

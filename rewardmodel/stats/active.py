"""Which pair to ask about next: where the answer is expected to teach most.

Three measures of that, from what there is: an ensemble of reward models (`disagreement`, as Christiano et al. 2017), or
fitted strengths with their covariance (`posterior_variance`, `information_gain`). `choose` then takes the best, and
with a chance of `explore` any other, and says how likely each choice was: what is asked about is no random sample any
more, and only with these propensities can averages over it be corrected.

Where it helps and where it does not is measured by `benchmarks/active_vs_random.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, xlog1py, xlogy

from rewardmodel.stats.comparisons import Comparisons, Floats, Ints
from rewardmodel.stats.errors import InvalidData, NothingToFit
from rewardmodel.stats.strengths import Strengths

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(32)  # exact for polynomials of degree 63 under a normal


@dataclass(frozen=True, eq=False)
class Choices:
    """Candidates in the order chosen, and how likely each was to be chosen then, given those chosen before it."""

    index: Ints
    propensity: Floats


def disagreement(scores: ArrayLike, pairs: ArrayLike) -> Floats:
    """Variance over the members of an ensemble of P(first beats second), for rows (first, second) of `pairs`.

    `scores` has a row per member and a column per item.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
        raise InvalidData("Disagreement takes finite scores of two members or more, one row each.")
    rows = Comparisons.of(pairs, items=table.shape[1])
    return np.asarray(expit(table[:, rows.first] - table[:, rows.second]).var(axis=0))


def posterior_variance(fit: Strengths, pairs: ArrayLike) -> Floats:
    """Variance of the difference of strengths, for rows (first, second) of `pairs`."""
    rows, covariance = Comparisons.of(pairs, items=len(fit.strengths)), fit.covariance
    own = np.diag(covariance)
    return np.asarray(own[rows.first] + own[rows.second] - 2 * covariance[rows.first, rows.second])


def information_gain(fit: Strengths, pairs: ArrayLike) -> Floats:
    """How much the answer is expected to tell about the difference, in nats (at most log 2).

    The entropy of the answer, less what remains of it were the difference known: answers that are uncertain because
    two items are equally good teach little; those that are uncertain because little is known teach much.
    """
    rows = Comparisons.of(pairs, items=len(fit.strengths))
    mean = fit.strengths[rows.first] - fit.strengths[rows.second]
    deviation = np.sqrt(np.maximum(posterior_variance(fit, pairs), 0))
    share, known, weights = np.zeros_like(mean), np.zeros_like(mean), WEIGHTS / WEIGHTS.sum()
    for node, weight in zip(NODES, weights, strict=True):  # one node at a time: memory for many pairs
        answer = expit(mean + node * deviation)
        share += weight * answer
        known += weight * _entropy(answer)
    return np.maximum(_entropy(share) - known, 0)


def choose(gains: ArrayLike, count: int, *, explore: float = 0.1, random: np.random.Generator) -> Choices:
    """`count` different candidates: each time the best one left, or with chance `explore` any one left.

    So every candidate left has a propensity of at least explore / (number left). Equal gains come in random order.
    """
    values = np.asarray(gains, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InvalidData("Gains are a list of finite numbers, one per candidate.")
    if len(values) == 0:
        raise NothingToFit("There are no candidates to choose from.")
    if not 0 <= explore <= 1:
        raise InvalidData(f"The chance to explore is between 0 and 1, not {explore}.")
    best = np.lexsort((random.random(len(values)), -values))
    number = min(count, len(values))
    index, propensity = np.empty(number, dtype=np.int64), np.empty(number)
    taken: NDArray[np.bool_] = np.zeros(len(values), dtype=bool)
    place = 0
    for turn in range(number):
        while taken[best[place]]:
            place += 1
        picked = best[place]
        if random.random() < explore:
            picked = random.choice(np.flatnonzero(~taken))
        index[turn] = picked
        propensity[turn] = explore / (len(values) - turn) + (1 - explore) * (picked == best[place])
        taken[picked] = True
    return Choices(index, propensity)


def _entropy(share: Floats) -> Floats:
    return np.asarray(-xlogy(share, share) - xlog1py(1 - share, -share))

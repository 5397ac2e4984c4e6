"""Whether probabilities mean what they say: reliability, Brier score, expected calibration error, temperature.

A prediction is the probability p that the first of two is preferred; the outcome is 1, 0, or 0.5 for a tie. Each pair
is looked at from both sides, (p, y) and (1 - p, 1 - y): which of the two is called first means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from rewardmodel.stats.comparisons import Floats
from rewardmodel.stats.errors import InvalidComparison, NothingToFit


@dataclass(frozen=True)
class Bin:
    """Predictions between `low` and `high`: their mean, the share of outcomes, and how many pairs (by weight)."""

    low: float
    high: float
    predicted: float
    observed: float
    weight: float


@dataclass(frozen=True)
class Calibration:
    """`bins` from 0.5 up: what was foreseen for the likelier one, and how often it was so."""

    bins: tuple[Bin, ...]
    error: float
    """Expected calibration error (Naeini et al. 2015): mean distance of predicted and observed over the bins."""
    brier: float
    """Mean squared distance of probability and outcome; 0.25 is a coin's."""
    temperature: float
    """Logits divided by this fit the outcomes best (Guo et al. 2017): above 1 the model is too sure of itself."""


def calibration(logits: ArrayLike, outcomes: ArrayLike, weights: ArrayLike = 1.0, *, bins: int = 10) -> Calibration:
    """How well sigmoid(logits) foresees outcomes. All (pairs,). Raises NothingToFit, InvalidComparison."""
    gaps, seen = np.asarray(logits, float), np.asarray(outcomes, float)
    weight = np.broadcast_to(np.asarray(weights, float), gaps.shape)
    if not gaps.size or not weight.sum() > 0:
        raise NothingToFit("There are no pairs to calibrate on.")
    if gaps.ndim != 1 or gaps.shape != seen.shape:
        raise InvalidComparison(f"Calibration takes one outcome per logit, not {seen.shape} for {gaps.shape}.")
    if not (np.isfinite(gaps).all() and np.isfinite(weight).all() and ((seen >= 0) & (seen <= 1)).all()):
        raise InvalidComparison("Logits and weights must be finite, and outcomes between 0 and 1.")
    seen, gaps = np.where(gaps < 0, 1 - seen, seen), np.abs(gaps)
    sure = expit(gaps)
    place = np.minimum(((sure - 0.5) * 2 * bins).astype(int), bins - 1)
    total = np.bincount(place, weight, bins)
    filled = np.flatnonzero(total)
    predicted = np.bincount(place, weight * sure, bins)[filled] / total[filled]
    observed = np.bincount(place, weight * seen, bins)[filled] / total[filled]
    edges = np.linspace(0.5, 1, bins + 1)
    table = zip(edges[filled], edges[filled + 1], predicted, observed, total[filled], strict=True)
    return Calibration(
        bins=tuple(Bin(*map(float, row)) for row in table),
        error=float(np.average(np.abs(predicted - observed), weights=total[filled])),
        brier=float(np.average((sure - seen) ** 2, weights=weight)),
        temperature=_temperature(gaps, seen, weight),
    )


def _temperature(gaps: Floats, seen: Floats, weight: Floats) -> float:
    """By maximum likelihood, between 1/100 and 100: outcomes that are all right, or all wrong, have none."""

    def surprise(log_temperature: float) -> float:
        scaled = gaps / np.exp(log_temperature)
        return -float(weight @ (seen * log_expit(scaled) + (1 - seen) * log_expit(-scaled)))

    return float(np.exp(minimize_scalar(surprise, bounds=(-np.log(100), np.log(100)), method="bounded").x))

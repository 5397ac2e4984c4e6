"""What fits of strengths return, and when a maximum likelihood exists at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from rewardmodel.stats import newton
from rewardmodel.stats.comparisons import Floats, Ints
from rewardmodel.stats.errors import InvalidData
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import Z95

FALLBACK_PENALTY = 0.1  # strengths then have a prior deviation of 3.2 logits: odds of 24 : 1


@dataclass(frozen=True, eq=False)
class Strengths:
    """Strengths in logits, summing to zero: `first` beats `second` with odds exp(s[first] - s[second]).

    The likelihood has a finite maximum exactly when everything beat everything else, directly or through others:
    when the graph of wins is `strongly_connected`. Otherwise a normal prior of precision `penalty` keeps the
    strengths finite. `log_likelihood` is without the prior.
    """

    strengths: Floats
    log_likelihood: float
    strongly_connected: bool
    penalty: float
    information: newton.Matrix = field(repr=False)
    """Minus the second derivatives of the penalised log-likelihood: strengths first, then other parameters."""

    @cached_property
    def covariance(self) -> Floats:
        """Of all parameters, among strengths that sum to zero. Made when first asked for: it is a dense matrix."""
        return newton.covariance(self.information, len(self.strengths), self.penalty)

    @cached_property
    def standard_errors(self) -> Floats:
        """Of the strengths, from the inverse observed information."""
        return np.sqrt(np.diag(self.covariance)[: len(self.strengths)])

    def estimate(self, item: int) -> Estimate:
        """An item's strength with its 95 % interval."""
        return with_interval(float(self.strengths[item]), float(self.standard_errors[item]))

    def difference(self, first: int, second: int) -> Estimate:
        """How much stronger `first` is, with its 95 % interval: the question that intervals of single items miss."""
        variance = self.covariance[first, first] + self.covariance[second, second] - 2 * self.covariance[first, second]
        return with_interval(float(self.strengths[first] - self.strengths[second]), sqrt(max(float(variance), 0.0)))


def with_interval(value: float, error: float) -> Estimate:
    """The normal 95 % interval."""
    return Estimate(value, value - Z95 * error, value + Z95 * error)


def strongly_connected(winners: Ints, losers: Ints, items: int, hidden: int = 0) -> bool:
    """Whether every item beat every other, directly or through others.

    Nodes beyond `items`, so many as `hidden` says, may pass on wins and need not be reached.
    """
    nodes = items + hidden
    beats = csr_array((np.ones(len(winners), dtype=bool), (winners, losers)), shape=(nodes, nodes))
    _, component = connected_components(beats, connection="strong")
    return bool((component[:items] == component[0]).all())


def penalty_for(connected: bool, penalty: float) -> float:
    """The penalty asked for, or the fallback where without one the strengths would be infinite."""
    if not (np.isfinite(penalty) and penalty >= 0):
        raise InvalidData(f"A penalty is finite and not negative, not {penalty}.")
    return penalty if penalty > 0 or connected else FALLBACK_PENALTY

"""Strengths from comparisons with ties, of which the position on the screen may be a part.

Dropping ties makes differences look larger than they are, counting them as half wins smaller; here they say how large
a difference has to be before people see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from rewardmodel.stats import newton
from rewardmodel.stats.comparisons import Comparisons, Floats, Ints, totals
from rewardmodel.stats.errors import AllTies, InvalidComparison, InvalidData
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.strengths import Strengths, penalty_for, strongly_connected, with_interval
from rewardmodel.stats.tie_models import TIE_MODELS, Answers, Name

# So weak a prior on the pull of the position and the logit of tying (deviation 10) only keeps them finite, where the
# first one always won or nobody ever tied.
PRECISION = 0.01


@dataclass(frozen=True, eq=False)
class TieStrengths(Strengths):
    """`others` are the pull of the position, if it was fitted, and the logit of tying; `model` is how people tie."""

    others: Floats
    model: Name

    @cached_property
    def bias(self) -> Estimate:
        """The advantage of being shown first, in logits."""
        if len(self.others) == 1:
            return Estimate.undefined("no position bias was fitted")
        return with_interval(float(self.others[0]), self._error(-2))

    @cached_property
    def threshold(self) -> Estimate:
        """How large a difference people notice (Rao and Kupper, in logits), or Davidson's factor of tying."""
        law, logit = TIE_MODELS[self.model], self.others[-1:]
        rate = float(law.threshold_slope(logit)[0])
        return with_interval(float(law.threshold(logit)[0]), rate * self._error(-1))

    def _error(self, parameter: int) -> float:
        return sqrt(float(self.covariance[parameter, parameter]))


def fit(
    comparisons: ArrayLike,
    *,
    model: Name = "rao-kupper",
    position_bias: bool = True,
    items: int | None = None,
    weights: ArrayLike | None = None,
    penalty: float = 0.0,
) -> TieStrengths:
    """Strengths from rows (first, second, mu): mu is 1 if the one shown first was better, 0 if worse, 0.5 for a tie.

    Without `position_bias`, which of two is written first means nothing. `penalty` is the precision of a normal prior
    on the strengths.
    """
    if model not in TIE_MODELS:
        raise InvalidData(f"There is no model {model!r}; there are {', '.join(TIE_MODELS)}.")
    cells = _Cells.of(Comparisons.of(comparisons, items, weights))
    connected = cells.strongly_connected()
    penalty = penalty_for(connected, penalty)
    law, size = TIE_MODELS[model], cells.items
    design = cells.design(position_bias)
    priors = np.full(design.shape[1] + 1, PRECISION)
    priors[:size] = penalty

    def slope(point: Floats) -> tuple[Floats, newton.Matrix]:
        slopes = law.slopes(design @ point[:-1], point[-1:], cells.counts)
        gradient = np.append(design.T @ slopes.gap, slopes.tie.sum())
        across = (design.T @ slopes.gap_tie)[:, None]
        inside = design.T @ (sparse.diags_array(slopes.gap_gap) @ design)
        information = sparse.block_array([[inside, across], [across.T, [[slopes.tie_tie.sum()]]]], format="csr")
        return gradient - priors * point, information + sparse.diags_array(priors, format="csr")

    point, information = newton.maximise(slope, np.zeros(design.shape[1] + 1), size)
    shares = law.log_shares(design @ point[:-1], point[-1:])
    log_likelihood = sum(float(count @ share) for count, share in zip(cells.counts, shares, strict=True))
    return TieStrengths(point[:size], log_likelihood, connected, penalty, information, point[size:], model)


@dataclass(frozen=True, eq=False)
class _Cells:
    """How often each pair, in the order shown, got each answer."""

    first: Ints
    second: Ints
    counts: Answers
    items: int

    @classmethod
    def of(cls, rows: Comparisons) -> _Cells:
        mu, weight = rows.shares(), rows.weights()
        if not np.isin(mu, (0.0, 0.5, 1.0)).all():
            raise InvalidComparison("With ties, mu is 1 (the first is better), 0 (the second) or 0.5 (a tie).")
        if not weight[mu != 0.5].any():
            raise AllTies("Every comparison is a tie, so how large a difference people notice cannot be known.")
        pairs, cell = np.unique(rows.first * rows.items + rows.second, return_inverse=True)
        first, second, tie = (totals(cell, weight * (mu == answer), len(pairs)) for answer in (1.0, 0.0, 0.5))
        return cls(*np.divmod(pairs, rows.items), Answers(first, second, tie), rows.items)

    def design(self, position_bias: bool) -> sparse.csr_array:
        """Rows are cells; times strengths (and the bias) it gives their gaps."""
        cells, number = np.arange(len(self.first)), len(self.first)
        values = [np.ones(number), -np.ones(number)]
        columns = [self.first, self.second]
        if position_bias:
            values.append(np.ones(number))
            columns.append(np.full(number, self.items))
        shape = (number, self.items + position_bias)
        rows = np.tile(cells, len(columns))
        return sparse.csr_array((np.concatenate(values), (rows, np.concatenate(columns))), shape=shape)

    def strongly_connected(self) -> bool:
        """A tie is a win of both."""
        forth, back = self.counts.first + self.counts.tie > 0, self.counts.second + self.counts.tie > 0
        winners = np.concatenate([self.first[forth], self.second[back]])
        losers = np.concatenate([self.second[forth], self.first[back]])
        return strongly_connected(winners, losers, self.items)

"""Bradley-Terry: P(i beats j) = sigmoid(s_i - s_j) (Bradley and Terry 1952).

Comparisons are first added up to a matrix of wins, so the work does not grow with their number. The maximum is found
by Newton's method: four steps where Hunter's MM (2004) needs a hundred sweeps of about the same price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import expit

from rewardmodel.stats import newton
from rewardmodel.stats.comparisons import Comparisons, Floats, Ints, totals
from rewardmodel.stats.errors import InvalidData
from rewardmodel.stats.strengths import Strengths, penalty_for, strongly_connected

TINY = 1e-300  # keeps 0 log 0 at 0
WIDEST = 500.0  # span of strengths up to which exp() of them and of their sums neither overflows nor vanishes


def fit(
    comparisons: ArrayLike,
    *,
    items: int | None = None,
    weights: ArrayLike | None = None,
    penalty: float = 0.0,
    noise: float = 0.0,
) -> Strengths:
    """Strengths from rows (winner, loser), or (first, second, mu) with the share `mu` that preferred `first`.

    `penalty` is the precision of a normal prior on the strengths; without one this is the maximum likelihood where it
    exists (see `Strengths`). `noise` is the share of answers given at random (Christiano et al. 2017 take 0.1), so
    that a surprising one does not count as proof: P = noise / 2 + (1 - noise) sigmoid.
    """
    if not 0 <= noise < 1:
        raise InvalidData(f"The share of random answers is at least 0 and below 1, not {noise}.")
    wins = _add_up(Comparisons.of(comparisons, items, weights))
    connected = wins.strongly_connected()
    penalty = penalty_for(connected, penalty)
    won, lost = wins.sums()

    def slope(strengths: Floats) -> tuple[Floats, newton.Matrix]:
        gradient, information = _noisy_slope(wins, strengths, noise) if noise else _slope(wins, strengths, won)
        return gradient - penalty * strengths, _with_diagonal(information, penalty)

    start = np.log((won + 0.5) / (lost + 0.5))
    strengths, information = newton.maximise(slope, start - start.mean(), len(start))
    share = noise / 2 + (1 - noise) * wins.probabilities(strengths)
    log_likelihood = float(np.vdot(wins.won, np.log(np.maximum(share, TINY))))
    return Strengths(strengths, log_likelihood, connected, penalty, information)


@dataclass(frozen=True, eq=False)
class _Wins:
    """Who beat whom how often: cells (i, j), either all of them as a matrix or the rows of a sparse symmetric one.

    `first` and `second` are the items of the cells, `won` how often first beat second, `both` how often they met.
    """

    first: Ints
    second: Ints
    won: Floats
    both: Floats
    starts: Ints | None
    """Where each item's row of cells starts; None for a full matrix."""

    def probabilities(self, strengths: Floats) -> Floats:
        """P(first beats second) in each cell."""
        if np.ptp(strengths) > WIDEST:
            return np.asarray(expit(strengths[self.first] - strengths[self.second]))
        power = np.exp(strengths - (strengths.max() + strengths.min()) / 2)
        first = power[self.first]
        return np.asarray(first / (first + power[self.second]))  # a third of the time that a sigmoid takes

    def matrix(self, values: Floats) -> newton.Matrix:
        """Values of the cells as a matrix."""
        if self.starts is None:
            return values
        size = len(self.starts) - 1
        return sparse.csr_array((values, self.second, self.starts), shape=(size, size))

    def sums(self) -> tuple[Floats, Floats]:
        """How often each item won, and lost."""
        won = self.matrix(self.won)
        return won.sum(axis=1), won.sum(axis=0)

    def strongly_connected(self) -> bool:
        """Whether everything beat everything else, directly or through others."""
        if self.starts is None:
            beats = self.won > 0
            return _reaches_all(beats) and _reaches_all(beats.T)
        beats, size = self.won > 0, len(self.starts) - 1
        return strongly_connected(self.first[beats], self.second[beats], size)


def _add_up(rows: Comparisons) -> _Wins:
    items = rows.items
    forth = rows.first * items + rows.second
    if items * items <= max(4 * len(forth), 10_000):
        won = totals(forth, _product(rows.weight, rows.mu), items * items).reshape(items, items)
        if rows.mu is not None:
            back = rows.second * items + rows.first
            won += totals(back, _product(rows.weight, 1 - rows.mu), items * items).reshape(items, items)
        numbers = np.arange(items)
        return _Wins(numbers[:, None], numbers[None, :], won, won + won.T, None)
    back, weight, mu = rows.second * items + rows.first, rows.weights(), rows.shares()
    diagonal = np.arange(items) * (items + 1)  # Newton's matrix has one
    cells, cell = np.unique(np.concatenate([forth, back, diagonal]), return_inverse=True)
    zeros = np.zeros(items)
    first, second = np.divmod(cells, items)
    return _Wins(
        first,
        second,
        won=totals(cell, np.concatenate([weight * mu, weight * (1 - mu), zeros]), len(cells)),
        both=totals(cell, np.concatenate([weight, weight, zeros]), len(cells)),
        starts=np.searchsorted(first, np.arange(items + 1)),
    )


def _product(weight: Floats | None, share: Floats | None) -> Floats | None:
    return share if weight is None else weight if share is None else weight * share


def _reaches_all(beats: NDArray[np.bool_]) -> bool:
    """Whether item 0 reaches every other."""
    seen = np.zeros(len(beats), dtype=bool)
    front = np.array([0])
    while len(front):
        seen[front] = True
        front = np.flatnonzero(beats[front].any(axis=0) & ~seen)
    return bool(seen.all())


def _slope(wins: _Wins, strengths: Floats, won: Floats) -> tuple[Floats, newton.Matrix]:
    share = wins.probabilities(strengths)
    expected = wins.both * share
    gradient = won - wins.matrix(expected).sum(axis=1)
    share *= expected
    share -= expected  # minus the variance of each cell
    return gradient, wins.matrix(share)


def _noisy_slope(wins: _Wins, strengths: Floats, noise: float) -> tuple[Floats, newton.Matrix]:
    """With random answers the log-likelihood is not concave; Fisher's expected information always points uphill."""
    share = wins.probabilities(strengths)
    seen = noise / 2 + (1 - noise) * share
    change = (1 - noise) * share * (1 - share)
    pull = wins.matrix(wins.won * change / seen)
    return pull.sum(axis=1) - pull.sum(axis=0), wins.matrix(-wins.both * change**2 / (seen * (1 - seen)))


def _with_diagonal(negative: newton.Matrix, penalty: float) -> newton.Matrix:
    """The information matrix from its entries off the diagonal: rows sum to the penalty."""
    diagonal = penalty - negative.sum(axis=1)
    if isinstance(negative, np.ndarray):
        np.fill_diagonal(negative, diagonal)
    else:
        negative.setdiag(diagonal)
    return negative

"""Plackett-Luce: a ranking is a choice of the best, then of the best of the rest (Luce 1959, Plackett 1975).

P(order) = product over places of exp(s_chosen) / sum of exp(s) over what was left. For two items it is Bradley-Terry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from rewardmodel.stats import newton
from rewardmodel.stats.comparisons import Floats, Ints, check_weights, items_among, totals
from rewardmodel.stats.errors import NothingToFit
from rewardmodel.stats.rankings import choices_of, groups_of
from rewardmodel.stats.strengths import Strengths, penalty_for, strongly_connected


def fit(
    rankings: Iterable[object] | NDArray,
    *,
    items: int | None = None,
    weights: ArrayLike | None = None,
    top: int | None = None,
    penalty: float = 0.0,
) -> Strengths:
    """Strengths from rankings: lists of tiers of item numbers, best first; or an array of orders (see `groups_of`).

    Items that a ranking leaves out count as not seen. `top` looks only at the first so many places of each (1 is
    best-of-K). Ties are averaged over their orders (see `choices_of`). `weights` has one entry per ranking; `penalty`
    is the precision of a normal prior on the strengths.
    """
    menus = _Menus.of(rankings, items, weights, top)
    connected = menus.strongly_connected()
    penalty = penalty_for(connected, penalty)

    start = np.zeros(menus.items)
    strengths, information = newton.maximise(lambda point: menus.slope(point, penalty), start, menus.items)
    return Strengths(strengths, menus.log_likelihood(strengths), connected, penalty, information)


def log_likelihood(
    strengths: ArrayLike,
    rankings: Iterable[object] | NDArray,
    *,
    weights: ArrayLike | None = None,
    top: int | None = None,
) -> float:
    """How likely strengths make the rankings; both as in `fit`."""
    array = np.asarray(strengths, dtype=np.float64)
    return _Menus.of(rankings, len(array), weights, top).log_likelihood(array)


@dataclass(frozen=True, eq=False)
class _Menus:
    """All choices made: entry e offers `item[e]` in choice `choice[e]`, whose entries begin at `starts`."""

    item: Ints
    choice: Ints
    starts: Ints
    best: Floats
    """Share of its choice that each entry was: 1, or 1 / n for one of n tied, or 0."""
    weight: Floats
    items: int

    @classmethod
    def of(
        cls, rankings: Iterable[object] | NDArray, items: int | None, weights: ArrayLike | None, top: int | None
    ) -> _Menus:
        rankings = rankings if isinstance(rankings, np.ndarray) else list(rankings)
        groups = groups_of(rankings)
        items = items_among(tuple(group.items for group in groups), items)
        given = check_weights(weights, len(rankings))
        times = np.ones(len(rankings)) if given is None else given
        parts = [
            (group.items[:, choice.menu], choice, times[group.rows] * choice.weight)
            for group in groups
            for choice in choices_of(group.shape, top)
        ]
        if not parts:
            raise NothingToFit("No ranking compares two items.")
        sizes = np.concatenate([np.full(len(menus), menus.shape[1]) for menus, _, _ in parts])
        shares = [np.repeat([1 / choice.best, 0.0], [choice.best, m.shape[1] - choice.best]) for m, choice, _ in parts]
        return cls(
            item=np.concatenate([menus.ravel() for menus, _, _ in parts]),
            choice=np.repeat(np.arange(len(sizes)), sizes),
            starts=np.concatenate([[0], np.cumsum(sizes)]),
            best=np.concatenate([np.tile(share, len(part[0])) for share, part in zip(shares, parts, strict=True)]),
            weight=np.concatenate([weight for _, _, weight in parts]),
            items=items,
        )

    def log_likelihood(self, strengths: Floats) -> float:
        """Of all choices, by weight."""
        log_chosen = strengths[self.item] - self._log_sums(strengths)[self.choice]
        return float((self.best * self.weight[self.choice]) @ log_chosen)

    def slope(self, strengths: Floats, penalty: float) -> tuple[Floats, newton.Matrix]:
        """Gradient and information of the penalised log-likelihood."""
        share = np.exp(strengths[self.item] - self._log_sums(strengths)[self.choice])
        weight = self.weight[self.choice]
        expected = totals(self.item, weight * share, self.items)
        shape = (len(self.weight), self.items)
        information = _Information(
            expected + penalty,
            sparse.csr_array((share, self.item, self.starts), shape=shape),
            sparse.csr_array((weight * share, self.item, self.starts), shape=shape),
        )
        return totals(self.item, weight * self.best, self.items) - expected - penalty * strengths, information

    def strongly_connected(self) -> bool:
        """Whether everything was chosen over everything else, directly or through others.

        Each choice is a node of its own between those that may have been chosen and what they were chosen from.
        """
        node = self.items + self.choice
        chosen = (self.best > 0) & (self.weight[self.choice] > 0)
        offered = self.weight[self.choice] > 0
        return strongly_connected(
            np.concatenate([self.item[chosen], node[offered]]),
            np.concatenate([node[chosen], self.item[offered]]),
            self.items,
            hidden=len(self.weight),
        )

    def _log_sums(self, strengths: Floats) -> Floats:
        """log sum of exp(strength) of each choice's menu."""
        offered = strengths[self.item]
        peak = np.maximum.reduceat(offered, self.starts[:-1])
        sums = np.add.reduceat(np.exp(offered - peak[self.choice]), self.starts[:-1])
        return np.asarray(peak + np.log(sums))


@dataclass(frozen=True, eq=False)
class _Information:
    """Sum over choices of the covariance of who is chosen, diag(share) - share share', as a matrix of items.

    It is multiplied as it stands: writing it out costs the square of each menu, and is done for few items only.
    """

    total: Floats
    share: sparse.csr_array
    weighted: sparse.csr_array

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.total), len(self.total)

    def __matmul__(self, vector: Floats) -> Floats:
        return np.asarray(self.total * vector - self.share.T @ (self.weighted @ vector))

    def diagonal(self) -> Floats:
        return np.asarray(self.total - (self.share * self.weighted).sum(axis=0))

    def toarray(self) -> Floats:
        return np.asarray(np.diag(self.total) - (self.share.T @ self.weighted).toarray())

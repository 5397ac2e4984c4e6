"""Tiers (what a person gives) to preferences (what pairwise losses take).

A ranking is a list of tiers of completion indices, best first; a tier's members are tied, and completions that
nobody placed are in no tier. Preferences are always derived from it, never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rewardmodel.stats.comparisons import Floats, Ints
from rewardmodel.stats.errors import InvalidTiers as InvalidTiers
from rewardmodel.stats.rankings import groups_of

Tiers = Sequence[Sequence[int]]


class Preference(NamedTuple):
    """`chosen` beats `rejected` with probability `mu`: 1, or 0.5 for a tie."""

    chosen: int
    rejected: int
    mu: float
    weight: float


def check_tiers(tiers: Any, size: int) -> tuple[tuple[int, ...], ...]:
    """The tiers as tuples. Raises InvalidTiers unless they rank some of `size` completions, each at most once."""
    if not isinstance(tiers, (list, tuple)):
        raise InvalidTiers(f"A ranking is a list of tiers, not {tiers!r}.")
    seen: set[int] = set()
    for tier in tiers:
        if not isinstance(tier, (list, tuple)):
            raise InvalidTiers(f"A tier is a list of completion numbers, not {tier!r}.")
        if not tier:
            raise InvalidTiers("A tier is empty.")
        for index in tier:
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < size:
                raise InvalidTiers(f"There is no completion {index!r}: there are {size}, counted from 0.")
            if index in seen:
                raise InvalidTiers(f"Completion {index} is ranked twice.")
            seen.add(index)
    if not seen:
        raise InvalidTiers("The ranking is empty.")
    return tuple(tuple(tier) for tier in tiers)


def carries_preference(tiers: Tiers) -> bool:
    """Whether the ranking says that anything is better than anything else: it has two tiers or more."""
    return len(tiers) > 1


def preferences_of(tiers: Tiers) -> list[Preference]:
    """Every pair of ranked completions, each with weight 1 / C(K, 2): a ranking weighs 1 whatever its K.

    (InstructGPT, Ouyang et al. 2022, equation 1.) A tie has mu 0.5, and is listed with the smaller index first.
    """
    ranked = [(rank, index) for rank, tier in enumerate(tiers) for index in sorted(tier)]
    weight = 1 / comb(len(ranked), 2) if len(ranked) > 1 else 0.0
    return [
        Preference(first, second, 0.5 if rank == later else 1.0, weight)
        for (rank, first), (later, second) in combinations(ranked, 2)
    ]


def tiers_of(preferences: Iterable[tuple[int, int, float]]) -> list[list[int]]:
    """The ranking that (i, j, mu) pairs came from: mu is 1 where i is better, 0 where j is, 0.5 for a tie.

    Every pair of its items must be there, once. Raises InvalidTiers where they contradict each other.
    """
    given: dict[tuple[int, int], float] = {}
    points: dict[int, float] = {}
    for i, j, mu in preferences:
        if i == j or mu not in (0, 0.5, 1) or (min(i, j), max(i, j)) in given:
            raise InvalidTiers(f"({i}, {j}, {mu}) is no pair of a ranking, or there twice.")
        given[min(i, j), max(i, j)] = mu if i < j else 1 - mu
        points[i] = points.get(i, 0) + mu
        points[j] = points.get(j, 0) + 1 - mu
    # In a ranking, an item's points are the items below its tier and half of the others in it.
    order = sorted(points, key=lambda item: (-points[item], item))
    tiers = [list(tier) for _, tier in groupby(order, key=lambda item: points[item])]
    implied = {(min(p[:2]), max(p[:2])): p.mu if p.chosen < p.rejected else 1 - p.mu for p in preferences_of(tiers)}
    if implied != given:
        raise InvalidTiers("These pairs are not all pairs of one ranking, or contradict each other.")
    return tiers


@dataclass(frozen=True, eq=False)
class Judgements:
    """Rankings as pairs: row r of `table` is (first, second, mu), from ranking `ranking[r]` of `size[r]` items."""

    table: Floats
    ranking: Ints
    size: Ints
    rankings: int

    @property
    def weight(self) -> Floats:
        """1 / C(K, 2): a ranking weighs 1 whatever its K (InstructGPT)."""
        return np.asarray(2 / (self.size * (self.size - 1)))


def judgements_of(rankings: Iterable[Tiers] | NDArray, shown: Sequence[Sequence[int]] | None = None) -> Judgements:
    """Every pair of ranked items of every ranking, made without a Python loop over pairs.

    The better one is first (mu 1, or 0.5 for a tie). With `shown`, the order of each ranking's items on the screen,
    the one that was shown first is (mu 1, 0.5 or 0). Rankings may also be an array of orders (see `groups_of`).
    """
    rankings = rankings if isinstance(rankings, np.ndarray) else list(rankings)
    tables, sources, sizes = [], [], []
    for group in groups_of(rankings):
        i, j = np.triu_indices(group.items.shape[1], 1)
        mu = np.where(group.tiers[i] == group.tiers[j], 0.5, 1.0)
        columns = [group.items[:, i], group.items[:, j], np.broadcast_to(mu, (len(group.items), len(i)))]
        if shown is not None:
            place = _places(group.items, [shown[row] for row in group.rows], group.rows)
            later = place[:, i] > place[:, j]
            columns = [
                np.where(later, columns[1], columns[0]),
                np.where(later, columns[0], columns[1]),
                np.where(later, 1 - columns[2], columns[2]),
            ]
        tables.append(np.stack(columns, axis=2).reshape(-1, 3))
        sources.append(np.repeat(group.rows, len(i)))
        sizes.append(np.full(len(sources[-1]), group.items.shape[1]))
    return Judgements(np.concatenate(tables), np.concatenate(sources), np.concatenate(sizes), len(rankings))


def _places(items: Ints, shown: Sequence[Sequence[int]], rows: Ints) -> Ints:
    """Where on the screen each item of each ranking was."""
    places = np.empty_like(items)
    for line, (ranked, order) in enumerate(zip(items.tolist(), shown, strict=True)):
        at = {item: place for place, item in enumerate(order)}
        try:
            places[line] = [at[item] for item in ranked]
        except KeyError as error:
            raise InvalidTiers(f"Ranking {rows[line]} ranks item {error.args[0]}, which was not shown.") from error
    return places

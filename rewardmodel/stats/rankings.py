"""Rankings as columns: grouped by shape, so that everything after reading them is done for whole arrays.

The shape of a ranking is how many items each of its tiers has: [[3], [0, 7]] has the shape (1, 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rewardmodel.stats.comparisons import Ints
from rewardmodel.stats.errors import InvalidTiers, NothingToFit, TieTooLarge

MOST_TIED = 12  # averaging over the orders of a tie takes 2^(its size) menus
NOBODY = -1  # fills rows of an array of orders that rank fewer items than others

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """The rankings of one shape: `items[r]` best first; it was ranking `rows[r]` of those given."""

    shape: Shape
    items: Ints
    rows: Ints

    @property
    def tiers(self) -> Ints:
        """Number of the tier of each column."""
        return np.repeat(np.arange(len(self.shape)), self.shape)


class Choice(NamedTuple):
    """Somebody chose one of the first `best` of `menu` (places in a ranking), nobody knows which."""

    menu: tuple[int, ...]
    best: int
    weight: float


def groups_of(rankings: Iterable[object] | NDArray) -> list[Group]:
    """Rankings (lists of tiers of item numbers, best first) by shape.

    Orders without ties may also come as an integer array, one row each, best first and filled up with -1.
    """
    groups = _of_array(rankings) if isinstance(rankings, np.ndarray) else _of_tiers(rankings)
    for group in groups:
        ordered = np.sort(group.items, axis=1)
        if len(ordered) and ordered[:, 0].min(initial=0) < 0:
            raise InvalidTiers(f"There is no item {ordered[:, 0].min()}: items are numbered from 0.")
        twice = ordered[:, 1:] == ordered[:, :-1]
        if twice.any():
            row, place = np.argwhere(twice)[0]
            raise InvalidTiers(f"Ranking {group.rows[row]} names item {ordered[row, place]} twice.")
    if not groups:
        raise NothingToFit("There are no rankings.")
    return groups


def _of_array(orders: NDArray) -> list[Group]:
    if orders.ndim != 2 or orders.dtype.kind not in "iu":
        raise InvalidTiers("An array of rankings has one row of item numbers for each, best first.")
    there = orders != NOBODY
    if (there[:, 1:] & ~there[:, :-1]).any():
        raise InvalidTiers(f"{NOBODY} may only fill the end of a row.")
    length = there.sum(axis=1)
    return [
        Group((1,) * int(size), orders[length == size, :size].astype(np.int64), np.flatnonzero(length == size))
        for size in np.unique(length)
        if size > 0
    ]


def _of_tiers(rankings: Iterable[object]) -> list[Group]:
    found: dict[Shape, tuple[list[list[int]], list[int]]] = defaultdict(lambda: ([], []))
    for row, tiers in enumerate(rankings):
        if not isinstance(tiers, (list, tuple)) or not all(isinstance(tier, (list, tuple)) for tier in tiers):
            raise InvalidTiers(f"Ranking {row} is not a list of tiers of item numbers: {tiers!r}.")
        shape = tuple(len(tier) for tier in tiers)
        if 0 in shape:
            raise InvalidTiers(f"Ranking {row} has an empty tier.")
        if shape:
            items, rows = found[shape]
            items.append([item for tier in tiers for item in tier])
            rows.append(row)
    return [Group(shape, _whole(items, rows), np.array(rows)) for shape, (items, rows) in found.items()]


def _whole(items: list[list[int]], rows: list[int]) -> Ints:
    """Item numbers as an array; NumPy would read True as 1 and "2" as 2, so the types are looked at."""
    if {type(item) for line in items for item in line} != {int}:
        for row, line in zip(rows, items, strict=True):
            for item in line:
                if not isinstance(item, (int, np.integer)) or isinstance(item, bool):
                    raise InvalidTiers(f"Ranking {row} holds {item!r}, which is no item number.")
    return np.array(items, dtype=np.int64)


@lru_cache(maxsize=1024)
def choices_of(shape: Shape, top: int | None = None) -> tuple[Choice, ...]:
    """A ranking as choices: the best of all ranked, the best of the rest, and so on (Plackett-Luce).

    `top` keeps the first so many places: 1 is best-of-K, None the full order. Ties are orders that nobody gave: the
    log-likelihood is averaged over all ways to break them. When j of d tied items are placed, each j of them are
    equally likely to be, and so is each other one to be next; hence a choice for each subset, of weight 1 / C(d, j).
    """
    choices: list[Choice] = []
    size, place = sum(shape), 0
    last = size - 1 if top is None else min(top, size - 1)
    for tied in shape:
        if tied > MOST_TIED and place < last:
            raise TieTooLarge(f"{tied} items are tied; the average over their orders takes {MOST_TIED} at most.")
        tier, lower = range(place, place + tied), tuple(range(place + tied, size))
        for placed in range(min(tied, last - place)):
            for left in combinations(tier, tied - placed):
                choices.append(Choice(left + lower, len(left), 1 / comb(tied, placed)))
        place += tied
    return tuple(choices)

"""Tiers (what a person gives) to preferences (what pairwise losses take).

A ranking is a list of tiers of completion indices, best first; a tier's members are tied, and completions that
nobody placed are in no tier. Preferences are always derived from it, never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Any, NamedTuple

from rewardmodel.stats.errors import InvalidTiers as InvalidTiers

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

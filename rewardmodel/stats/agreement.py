"""How far people agree: percent agreement, Krippendorff's alpha, Kendall's tau-b.

Ratings are kept in long form (one row per rating), so missing ratings cost nothing and a million labels take seconds.
Where a number does not exist, an `Estimate` says "undefined because ..." instead of NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.pairs import Tiers

Level = Literal["nominal", "ordinal", "interval"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOT_JUDGED_TWICE = "nothing was judged by two people"


@dataclass(frozen=True)
class Ratings:
    """Row r says: somebody gave `value[r]` to unit `unit[r]`, which belongs to group `group[r]`.

    Groups are what is sampled independently (items); a bootstrap draws whole groups.
    """

    unit: Ints
    value: Floats
    group: Ints

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Ratings:
        """Rows are people, columns are units, NaN is a missing rating; every unit is its own group."""
        table = np.asarray(matrix, dtype=float)
        unit, person = np.nonzero(~np.isnan(table.T))
        return cls(unit, table.T[unit, person], unit)


def pairwise_units(rankings: Iterable[tuple[Hashable, Tiers]]) -> Ratings:
    """Rankings of the same items by several people as ratings of pairs: 1 better, 0 tie, -1 worse.

    `rankings` holds (item, tiers), one per person and item. Each pair of completions that a person ranked becomes two
    units, (i, j) and (j, i): which of the two is stored first means nothing, so agreement by chance must not depend
    on it (with imported data the better one is often always first).
    """
    units: dict[tuple[Hashable, int, int], int] = {}
    groups: dict[Hashable, int] = {}
    rows: list[tuple[int, int, int]] = []
    for item, tiers in rankings:
        group = groups.setdefault(item, len(groups))
        ranked = [(index, rank) for rank, tier in enumerate(tiers) for index in tier]
        for (i, rank_i), (j, rank_j) in combinations(ranked, 2):
            better = (rank_i < rank_j) - (rank_i > rank_j)
            rows.append((units.setdefault((item, i, j), len(units)), better, group))
            rows.append((units.setdefault((item, j, i), len(units)), -better, group))
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Ratings(table[:, 0], table[:, 1].astype(float), table[:, 2])


def percent_agreement(ratings: Ratings, resamples: int = 0, seed: int = 0) -> Estimate:
    """Share of equal ratings among all pairs of ratings of the same unit."""
    return _estimate(_percent, ratings, resamples, seed)


def krippendorff_alpha(ratings: Ratings, level: Level = "nominal", resamples: int = 0, seed: int = 0) -> Estimate:
    """Krippendorff's alpha: 1 is full agreement, 0 what chance gives, below 0 systematic disagreement.

    With `resamples` the estimate has a percentile bootstrap interval over groups.
    """
    if level not in ("nominal", "ordinal", "interval"):
        raise ValueError(f"level must be nominal, ordinal or interval, not {level!r}.")
    return _estimate(lambda rows, weight: _alpha(rows, weight, level), ratings, resamples, seed)


def kendall_tau_b(first: Tiers, second: Tiers) -> Estimate:
    """Rank correlation of two rankings, ties corrected, over the completions that both ranked."""
    ranks = [{index: rank for rank, tier in enumerate(tiers) for index in tier} for tiers in (first, second)]
    common = sorted(ranks[0].keys() & ranks[1].keys())
    if len(common) < 2:
        return Estimate.undefined("the rankings share fewer than two completions", len(common))
    i, j = np.triu_indices(len(common), 1)
    a, b = (np.array([rank[index] for index in common]) for rank in ranks)
    sign_a, sign_b = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    scale = sqrt(float(np.sum(sign_a**2)) * float(np.sum(sign_b**2)))
    if scale == 0:
        return Estimate.undefined("one of the rankings ties everything", len(common))
    return Estimate(float(np.sum(sign_a * sign_b)) / scale, count=len(common))


# --- How the two are computed -------------------------------------------------------------------------------------
# All take a weight per row (how often its group was drawn), so a bootstrap never copies the rows.


@dataclass(frozen=True)
class _Pairable:
    """The rows of units with two ratings or more, units numbered 0, 1, ... and with their sizes."""

    unit: Ints
    value: Floats
    group: Ints
    size: Ints


def _pairable(ratings: Ratings) -> _Pairable:
    _, unit, size = np.unique(ratings.unit, return_inverse=True, return_counts=True)
    keep = size[unit] > 1
    _, unit = np.unique(unit[keep], return_inverse=True)
    _, value, group = ratings.unit[keep], ratings.value[keep], ratings.group[keep]
    return _Pairable(unit, value, group, size[size > 1])


def _estimate(
    statistic: Callable[[_Pairable, Floats], float | str], ratings: Ratings, resamples: int, seed: int
) -> Estimate:
    """`count` of the result is the number of groups that it comes from."""
    rows = _pairable(ratings)
    if len(rows.unit) == 0:
        return Estimate.undefined(NOT_JUDGED_TWICE)
    names, group = np.unique(rows.group, return_inverse=True)
    value = statistic(rows, np.ones(len(rows.unit)))
    if isinstance(value, str):
        return Estimate.undefined(value, len(names))
    if resamples == 0:
        return Estimate(value, count=len(names))
    random = np.random.default_rng(seed)
    drawn: list[float] = []
    for _ in range(resamples):
        times = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
        sample = statistic(rows, times[group].astype(float))
        if not isinstance(sample, str):
            drawn.append(sample)
    if not drawn:
        return Estimate(value, count=len(names))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(names))


def _percent(rows: _Pairable, weight: Floats) -> float | str:
    pairs = rows.size * (rows.size - 1)
    unit_weight = _unit_weight(rows, weight)
    return 1 - float(_differing(rows) @ unit_weight) / float(pairs @ unit_weight)


def _alpha(rows: _Pairable, weight: Floats, level: Level) -> float | str:
    """1 - observed / expected disagreement (Krippendorff 2011), both in linear time."""
    if np.ptp(rows.value[weight > 0]) == 0:
        return "all ratings are equal, so chance would agree as well"
    total = float(weight.sum())
    if level == "nominal":
        _, codes = np.unique(rows.value, return_inverse=True)
        expected = (total**2 - float(np.sum(_sums(codes, weight) ** 2))) / (total - 1)
        within = _differing(rows)
    else:
        value = rows.value if level == "interval" else _midranks(rows.value, weight)
        value = value - float(weight @ value) / total
        # Sum over ordered pairs of (v_i - v_j)^2 is 2 n times the squared deviations from the mean.
        expected = 2 * total * float(weight @ value**2) / (total - 1)
        mean = _sums(rows.unit, value) / rows.size
        within = 2 * rows.size * _sums(rows.unit, (value - mean[rows.unit]) ** 2)
    return 1 - float((within / (rows.size - 1)) @ _unit_weight(rows, weight)) / expected


def _differing(rows: _Pairable) -> Floats:
    """Ordered pairs of unequal ratings in each unit."""
    _, codes = np.unique(rows.value, return_inverse=True)
    cells, count = np.unique(rows.unit * (codes.max() + 1) + codes, return_counts=True)
    equal = _sums(cells // (codes.max() + 1), count.astype(float) ** 2)
    return rows.size.astype(float) ** 2 - equal


def _sums(index: Ints, values: Floats) -> Floats:
    """Sum of the values of each index 0, 1, ..."""
    return np.asarray(np.bincount(index, weights=values), dtype=np.float64)


def _unit_weight(rows: _Pairable, weight: Floats) -> Floats:
    return _sums(rows.unit, weight) / rows.size


def _midranks(value: Floats, weight: Floats) -> Floats:
    """Position of each value among all: Krippendorff's ordinal metric is the interval metric on these.

    His sum of the counts from c to k, less half of both ends, is exactly midrank(k) - midrank(c).
    """
    _, codes = np.unique(value, return_inverse=True)
    counts = _sums(codes, weight)
    return (np.cumsum(counts) - counts / 2)[codes]

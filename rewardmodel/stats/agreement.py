"""How far people agree: percent agreement, Cohen's and Fleiss' kappa, Krippendorff's alpha, Kendall's tau-b.

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
Weights = Literal["none", "linear", "quadratic"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOT_JUDGED_TWICE = "nothing was judged by two people"
ALL_EQUAL = "all ratings are equal, so chance would agree as well"


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
    """Share of equal ratings among all pairs of ratings of the same unit.

    `count` is the number of groups that the estimate comes from; with `resamples` it has a percentile bootstrap
    interval over groups.
    """
    sums = _sums_of_groups(ratings, "nominal")
    return _estimate(_percent, sums, resamples, seed)


def krippendorff_alpha(ratings: Ratings, level: Level = "nominal", resamples: int = 0, seed: int = 0) -> Estimate:
    """Krippendorff's alpha: 1 is full agreement, 0 what chance gives, below 0 systematic disagreement.

    `count` and `resamples` as in `percent_agreement`. The ordinal metric depends on how often each value was given;
    a bootstrap keeps the one of the full sample.
    """
    if level not in ("nominal", "ordinal", "interval"):
        raise ValueError(f"level must be nominal, ordinal or interval, not {level!r}.")
    sums = _sums_of_groups(ratings, level)
    return _estimate(_nominal_alpha if level == "nominal" else _interval_alpha, sums, resamples, seed)


def fleiss_kappa(ratings: Ratings, resamples: int = 0, seed: int = 0) -> Estimate:
    """Fleiss' kappa of unordered ratings, for units that were all judged by the same number of people.

    `count` and `resamples` as in `percent_agreement`. Where people's numbers differ, use Krippendorff's alpha.
    """
    sizes = np.unique(np.unique(ratings.unit, return_counts=True)[1])
    if len(sizes) > 1:
        return Estimate.undefined("units were judged by different numbers of people; Krippendorff's alpha allows that")
    return _estimate(_fleiss, _sums_of_groups(ratings, "nominal"), resamples, seed)


def cohen_kappa(
    first: ArrayLike, second: ArrayLike, weights: Weights = "none", resamples: int = 0, seed: int = 0
) -> Estimate:
    """Cohen's kappa of two people, who rated unit u as `first[u]` and `second[u]`; NaN is a missing rating.

    With weights, ratings that lie `k` levels apart disagree by k ("linear") or k squared ("quadratic"); levels are the
    values that occur. `count` is the number of units that both rated; with `resamples` there is a bootstrap interval.
    """
    if weights not in ("none", "linear", "quadratic"):
        raise ValueError(f"weights must be none, linear or quadratic, not {weights!r}.")
    pair = np.stack([np.asarray(first, dtype=float), np.asarray(second, dtype=float)])
    pair = pair[:, ~np.isnan(pair).any(axis=0)]
    count = pair.shape[1]
    if count == 0:
        return Estimate.undefined(NOT_JUDGED_TWICE)
    levels, code = np.unique(pair, return_inverse=True)
    code = code.reshape(2, -1)
    table = np.bincount(code[0] * len(levels) + code[1], minlength=len(levels) ** 2)
    apart = np.abs(np.subtract.outer(np.arange(len(levels)), np.arange(len(levels)))).astype(float)
    apart = (apart > 0).astype(float) if weights == "none" else apart ** (2 if weights == "quadratic" else 1)
    value = _kappa(table[None], apart)[0]
    if np.isnan(value):
        return Estimate.undefined(ALL_EQUAL, count)
    # Units are all alike, so drawing them anew is drawing from the table.
    drawn = _kappa(np.random.default_rng(seed).multinomial(count, table / count, size=resamples), apart)
    return _with_bounds(float(value), drawn[~np.isnan(drawn)], count)


def self_consistency(
    rankings: Iterable[tuple[Hashable, Hashable, Tiers]], resamples: int = 0, seed: int = 0
) -> Estimate:
    """How often people say the same of a pair that they are shown again; `rankings` holds (person, item, tiers)."""
    units = pairwise_units([((person, item), tiers) for person, item, tiers in rankings])
    estimate = percent_agreement(units, resamples, seed)
    return Estimate.undefined("nobody judged anything twice") if estimate.value is None else estimate


def mean_tau_b(rankings: Iterable[tuple[Hashable, Tiers]], resamples: int = 0, seed: int = 0) -> Estimate:
    """Kendall's tau-b between two people's rankings of the same item, averaged over all such pairs that have one.

    `rankings` holds (item, tiers), one per person and item; `count` is the number of items that the mean comes from;
    with `resamples` it has a percentile bootstrap interval over items.
    """
    items: dict[Hashable, list[Tiers]] = {}
    for item, tiers in rankings:
        items.setdefault(item, []).append(tiers)
    taus = [
        [tau.value for pair in combinations(all_of, 2) if (tau := kendall_tau_b(*pair)).value is not None]
        for all_of in items.values()
    ]
    sums = np.array([(sum(values), len(values)) for values in taus if values], dtype=float).reshape(-1, 2)
    if len(sums) == 0:
        return Estimate.undefined("no two people ranked the same completions apart")
    draws = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    totals = sums[draws].sum(axis=1)
    return _with_bounds(float(sums[:, 0].sum() / sums[:, 1].sum()), totals[:, 0] / totals[:, 1], len(sums))


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


# --- How they are computed ----------------------------------------------------------------------------------------
# Everything is a sum over groups, so a bootstrap weighs groups (how often each was drawn) and never sees a row again.


@dataclass(frozen=True)
class _GroupSums:
    """Sums over the rows of each group; only units with two ratings or more have rows here."""

    rows: Floats
    value: Floats
    square: Floats
    observed: Floats
    """Over units: ordered pairs' disagreement / (ratings - 1), Krippendorff's observed disagreement."""
    pairs: Floats
    unequal: Floats
    """Ordered pairs of ratings of the same unit, and of those the unequal ones."""
    cell_group: Ints
    cell_code: Ints
    cell_rows: Floats
    """How often (rows) each value (code) was given in each group."""


def _sums_of_groups(ratings: Ratings, level: Level) -> _GroupSums | None:
    """None when no unit was rated twice."""
    _, unit, size = np.unique(ratings.unit, return_inverse=True, return_counts=True)
    keep = size[unit] > 1
    if not keep.any():
        return None
    _, first, unit, size = np.unique(unit[keep], return_index=True, return_inverse=True, return_counts=True)
    levels, code = np.unique(ratings.value[keep], return_inverse=True)
    _, unit_group = np.unique(ratings.group[keep][first], return_inverse=True)
    group = unit_group[unit]
    unequal = size.astype(float) ** 2 - _squares_of_cells(unit, code, len(levels))
    value = _midranks(code) if level == "ordinal" else ratings.value[keep].astype(float)
    value = value - value.mean()
    # Sum over ordered pairs of (v_i - v_j)^2 is 2 n times the squared deviations from the mean.
    deviation = value - (_sums(unit, value) / size)[unit]
    within = unequal if level == "nominal" else 2 * size * _sums(unit, deviation**2)
    cells, cell_rows = np.unique(group * len(levels) + code, return_counts=True)
    return _GroupSums(
        rows=_sums(group, np.ones(len(group))),
        value=_sums(group, value),
        square=_sums(group, value**2),
        observed=_sums(unit_group, within / (size - 1)),
        pairs=_sums(unit_group, (size * (size - 1)).astype(float)),
        unequal=_sums(unit_group, unequal),
        cell_group=cells // len(levels),
        cell_code=cells % len(levels),
        cell_rows=cell_rows.astype(float),
    )


def _estimate(
    statistic: Callable[[_GroupSums, Floats], float | str], sums: _GroupSums | None, resamples: int, seed: int
) -> Estimate:
    if sums is None:
        return Estimate.undefined(NOT_JUDGED_TWICE)
    groups = len(sums.rows)
    value = statistic(sums, np.ones(groups))
    if isinstance(value, str):
        return Estimate.undefined(value, groups)
    random = np.random.default_rng(seed)
    drawn: list[float] = []
    for _ in range(resamples):
        times = np.bincount(random.integers(groups, size=groups), minlength=groups)
        sample = statistic(sums, times.astype(float))
        if not isinstance(sample, str):
            drawn.append(sample)
    return _with_bounds(value, np.array(drawn), groups)


def _with_bounds(value: float, drawn: Floats, count: int) -> Estimate:
    """The value with the 95 % percentile interval of its resamples, if there are any."""
    if len(drawn) == 0:
        return Estimate(value, count=count)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), count)


def _percent(sums: _GroupSums, weight: Floats) -> float | str:
    return 1 - float(weight @ sums.unequal) / float(weight @ sums.pairs)


def _fleiss(sums: _GroupSums, weight: Floats) -> float | str:
    counts = _value_counts(sums, weight)
    chance = float(np.sum((counts / counts.sum()) ** 2))
    if np.count_nonzero(counts) < 2:
        return ALL_EQUAL
    return 1 - float(weight @ sums.unequal) / float(weight @ sums.pairs) / (1 - chance)


def _kappa(tables: NDArray, apart: Floats) -> Floats:
    """1 - observed / expected disagreement of each (flattened) table of ratings; NaN where none is expected."""
    size = len(apart)
    shares = tables.reshape(-1, size, size) / np.maximum(tables.sum(axis=1), 1)[:, None, None]
    observed = (shares * apart).sum(axis=(1, 2))
    expected = np.einsum("ri,ij,rj->r", shares.sum(axis=2), apart, shares.sum(axis=1))
    return np.asarray(1 - np.divide(observed, expected, out=np.full(len(shares), np.nan), where=expected > 0))


def _nominal_alpha(sums: _GroupSums, weight: Floats) -> float | str:
    counts, total = _value_counts(sums, weight), float(weight @ sums.rows)
    return _alpha(sums, weight, counts, (total**2 - float(counts @ counts)) / (total - 1))


def _interval_alpha(sums: _GroupSums, weight: Floats) -> float | str:
    total = float(weight @ sums.rows)
    spread = total * float(weight @ sums.square) - float(weight @ sums.value) ** 2
    return _alpha(sums, weight, _value_counts(sums, weight), 2 * spread / (total - 1))


def _alpha(sums: _GroupSums, weight: Floats, counts: Floats, expected: float) -> float | str:
    """1 - observed / expected disagreement (Krippendorff 2011)."""
    if np.count_nonzero(counts) < 2:
        return ALL_EQUAL
    return 1 - float(weight @ sums.observed) / expected


def _value_counts(sums: _GroupSums, weight: Floats) -> Floats:
    return _sums(sums.cell_code, weight[sums.cell_group] * sums.cell_rows)


def _squares_of_cells(unit: Ints, code: Ints, levels: int) -> Floats:
    """Per unit, the sum over values of (how often the value was given) squared."""
    cells, count = np.unique(unit * levels + code, return_counts=True)
    return _sums(cells // levels, count.astype(float) ** 2)


def _sums(index: Ints, values: Floats) -> Floats:
    """Sum of the values of each index 0, 1, ..."""
    return np.asarray(np.bincount(index, weights=values), dtype=np.float64)


def _midranks(code: Ints) -> Floats:
    """Position of each value among all: Krippendorff's ordinal metric is the interval metric on these.

    His sum of the counts from c to k, less half of both ends, is exactly midrank(k) - midrank(c).
    """
    counts = _sums(code, np.ones(len(code)))
    return (np.cumsum(counts) - counts / 2)[code]

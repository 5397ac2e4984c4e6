"""Comparisons as columns: how every fit reads what it is given.

Rows are (winner, loser) or (first, second, mu), where `mu` is the probability, or share of people, that preferred
`first`: 0.5 is a tie. A NumPy array of a million rows is read without a Python loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewardmodel.stats.errors import InvalidComparison, InvalidWeights, NothingToFit, OneAnnotator, TooFewItems

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Row r compares item `first[r]` with `second[r]`. No `mu` means that `first` won; no `weight` means 1."""

    first: Ints
    second: Ints
    mu: Floats | None
    weight: Floats | None
    items: int

    @classmethod
    def of(cls, rows: ArrayLike, items: int | None = None, weights: ArrayLike | None = None) -> Comparisons:
        """The rows, checked. `items` is their number; without it, one more than the largest that occurs."""
        table = _table(rows)
        if len(table) == 0:
            raise NothingToFit("There are no comparisons.")
        first, second = indices(table[:, 0]), indices(table[:, 1])
        items = items_among((first, second), items)
        if (first == second).any():
            row = int(np.argmax(first == second))
            raise InvalidComparison(f"Row {row} compares item {first[row]} with itself.")
        mu = table[:, 2].astype(np.float64) if table.shape[1] == 3 else None
        if mu is not None and not ((mu >= 0) & (mu <= 1)).all():
            row = int(np.argmin((mu >= 0) & (mu <= 1)))
            raise InvalidComparison(f"Row {row} has mu {mu[row]}, which is not between 0 and 1.")
        return cls(first, second, mu, check_weights(weights, len(table)), items)

    def shares(self) -> Floats:
        """`mu`, written out."""
        return np.ones(len(self.first)) if self.mu is None else self.mu

    def weights(self) -> Floats:
        """`weight`, written out."""
        return np.ones(len(self.first)) if self.weight is None else self.weight

    def people(self, annotator: Ints, alone: str) -> int:
        """How many annotators these rows are of, `annotator[r]` of row r. Raises InvalidComparison, or OneAnnotator
        with the sentence `alone`, where everything is by the same."""
        if annotator.shape != self.first.shape or annotator.dtype.kind not in "iu":
            raise InvalidComparison(f"{len(self.first)} comparisons need as many annotators, numbered from 0.")
        if annotator.min() < 0:
            raise InvalidComparison(f"There is no annotator {annotator.min()}: they are numbered from 0.")
        if annotator.min() == annotator.max():
            raise OneAnnotator(alone)
        return int(annotator.max()) + 1


def _table(rows: ArrayLike) -> NDArray:
    try:
        table = np.asarray(rows)
    except ValueError as error:  # rows of different lengths
        raise InvalidComparison("Comparisons are all (winner, loser) or all (first, second, mu).") from error
    if table.size == 0:
        return np.empty((0, 2))
    if table.ndim != 2 or table.shape[1] not in (2, 3) or table.dtype.kind not in "iuf":
        raise InvalidComparison("Comparisons are numbers: all (winner, loser) or all (first, second, mu).")
    return table


def indices(column: NDArray) -> Ints:
    """Item numbers as integers; refuses NaN, fractions and negative numbers."""
    if column.dtype.kind == "f":
        whole = np.isfinite(column) & (column == np.floor(column))
        if not whole.all():
            raise InvalidComparison(f"There is no item {column[np.argmin(whole)]}: items are numbered from 0.")
    if column.min() < 0:
        raise InvalidComparison(f"There is no item {column.min()}: items are numbered from 0.")
    return column.astype(np.int64, copy=False)


def items_among(columns: tuple[Ints, ...], items: int | None) -> int:
    """How many items there are; refuses fewer than two, and a number that is too small for the columns."""
    largest = max(int(column.max()) for column in columns)
    items = largest + 1 if items is None else items
    if largest >= items:
        raise InvalidComparison(f"There is no item {largest}: there are {items}, numbered from 0.")
    if items < 2:
        raise TooFewItems("There is only one item: nothing can be better than anything.")
    return items


def check_weights(weights: ArrayLike | None, rows: int) -> Floats | None:
    """The weights as an array; refuses NaN, negative ones, a wrong number of them, and nothing but zeros."""
    if weights is None:
        return None
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (rows,):
        raise InvalidWeights(f"{rows} rows need {rows} weights, not an array of shape {array.shape}.")
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise InvalidWeights("Weights must be finite, not negative, and not all zero.")
    return array


def totals(index: Ints, values: Floats | None, size: int) -> Floats:
    """Sum of the values of each index 0 ... size - 1; without values, how often it occurs."""
    return np.bincount(index, values, size).astype(np.float64, copy=False)

"""Newton's method for log-likelihoods of strengths, and the covariance that its last step leaves behind.

Likelihoods of strengths see differences only, so their information matrix does not see the direction (1, ..., 1). That
direction is fixed by asking the strengths to sum to zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rewardmodel.stats.comparisons import Floats, Ints, totals
from rewardmodel.stats.errors import NotConverged, TooManyItems

Matrix: TypeAlias = Any  # a dense array, a scipy.sparse.csr_array, or what multiplies and writes itself out like one
Slope = Callable[[Floats], tuple[Floats, Matrix]]

SMALL = 400  # parameters up to which a factorisation is quicker than conjugate gradients
MOST_DENSE = 5_000  # parameters up to which a covariance matrix is made (200 MB)
MOST_STEPS = 200
CLOSE = 1e-6  # the error left after a step of this size is about its square


def maximise(slope: Slope, start: Floats, strengths: int) -> tuple[Floats, Matrix]:
    """Where a concave function is highest, and the information (minus the second derivatives) there.

    `slope` gives gradient and information at a point, whose first `strengths` entries are strengths.
    """
    point, length = start, 1.0
    gradient, information = slope(point)
    for _ in range(MOST_STEPS):
        step = _solve(information, gradient, strengths, min(1e-4, length**2))
        step[:strengths] -= step[:strengths].mean()
        length = float(np.abs(step).max())
        if not np.isfinite(length):
            break
        if length < CLOSE:
            return point + step, information
        rise = float(gradient @ step)
        # Concave: while the slope along the step has not turned clearly downhill, the step was not too long.
        for halvings in range(60):
            trial = point + step * 0.5**halvings
            gradient, information = slope(trial)
            if float(gradient @ step) >= -0.25 * rise:
                break
        point = trial
    raise NotConverged("The fit did not converge; a penalty may help.")


def _solve(information: Matrix, gradient: Floats, strengths: int, tolerance: float) -> Floats:
    if len(gradient) <= SMALL:
        return np.asarray(np.linalg.solve(_anchored(information, strengths)[0], gradient))
    return _conjugate_gradients(information, gradient, tolerance)


def _anchored(information: Matrix, strengths: int) -> tuple[Floats, float]:
    """The information as a dense matrix with `anchor` added in the direction (1, ..., 1) / sqrt(strengths)."""
    dense = information.copy() if isinstance(information, np.ndarray) else information.toarray()
    anchor = float(np.trace(dense[:strengths, :strengths])) / strengths or 1.0
    dense[:strengths, :strengths] += anchor / strengths
    return dense, anchor


def _conjugate_gradients(matrix: Matrix, right: Floats, tolerance: float) -> Floats:
    """Solve matrix @ x = right to a relative residual, preconditioned by the diagonal."""
    scale = 1 / matrix.diagonal()
    answer, residual = np.zeros_like(right), right
    search = towards = scale * right
    square = _dot(residual, towards)
    enough = square * tolerance**2
    for _ in range(10 * len(right)):
        if square <= enough:
            break
        image = matrix @ search
        length = square / _dot(search, image)
        answer = answer + length * search
        residual = residual - length * image
        towards = scale * residual
        before, square = square, _dot(residual, towards)
        search = towards + square / before * search
    return answer


def _dot(a: Floats, b: Floats) -> float:
    """Without BLAS, which starts threads for this and on a busy machine waits long for them."""
    return float(np.sum(a * b))


def covariance(information: Matrix, strengths: int, penalty: float) -> Floats:
    """Inverse of the information among strengths that sum to zero (and whatever parameters follow them)."""
    if information.shape[0] > MOST_DENSE:
        raise TooManyItems(
            f"Standard errors of {strengths:,} items need a dense matrix; there may be {MOST_DENSE:,} at most."
        )
    dense, anchor = _anchored(information, strengths)
    inverse = np.linalg.inv(dense)
    # (1, ..., 1) is an eigenvector with eigenvalue penalty + anchor; its part is taken out again.
    inverse[:strengths, :strengths] -= 1 / (strengths * (penalty + anchor))
    return np.asarray((inverse + inverse.T) / 2)


@dataclass(frozen=True, eq=False)
class Laplacian:
    """Sum over rows of weight (e_first - e_second)(e_first - e_second)', and a penalty on the diagonal.

    It is multiplied as it stands, which costs less than making a sparse matrix of it in each step.
    """

    first: Ints
    second: Ints
    weight: Floats
    size: int
    penalty: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    def __matmul__(self, vector: Floats) -> Floats:
        flow = self.weight * (vector[self.first] - vector[self.second])
        return totals(self.first, flow, self.size) - totals(self.second, flow, self.size) + self.penalty * vector

    def diagonal(self) -> Floats:
        both = totals(self.first, self.weight, self.size) + totals(self.second, self.weight, self.size)
        return both + self.penalty

    def toarray(self) -> Floats:
        across = totals(self.first * self.size + self.second, self.weight, self.size**2).reshape(self.shape)
        return np.asarray(np.diag(self.diagonal()) - across - across.T)

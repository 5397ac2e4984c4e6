"""Comparisons by simulated people whose truth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


def simulate_pairs(random: np.random.Generator, strengths: NDArray, rows: int, noise: float = 0.0) -> NDArray[np.int64]:
    """(winner, loser) of random pairs; a share `noise` of the answers is a coin flip."""
    first = random.integers(len(strengths), size=rows)
    second = (first + random.integers(1, len(strengths), size=rows)) % len(strengths)
    share = noise / 2 + (1 - noise) * expit(strengths[first] - strengths[second])
    won = random.random(rows) < share
    return np.stack([np.where(won, first, second), np.where(won, second, first)], axis=1)


def normal_strengths(random: np.random.Generator, items: int) -> NDArray:
    strengths = random.normal(size=items)
    return np.asarray(strengths - strengths.mean())


def simulate_orders(random: np.random.Generator, strengths: NDArray, rows: int, size: int) -> NDArray[np.int64]:
    """Plackett-Luce orders of `size` random items each, best first (Gumbel's trick)."""
    menus = np.argsort(random.random((rows, len(strengths))), axis=1)[:, :size]
    luck = strengths[menus] + random.gumbel(size=menus.shape)
    return np.take_along_axis(menus, np.argsort(-luck, axis=1), axis=1)


def simulate_answers(
    random: np.random.Generator, gap: NDArray, threshold: NDArray | float, bias: NDArray | float = 0.0
) -> NDArray[np.float64]:
    """What people answer who add logistic noise and prefer only what exceeds their threshold: 1, 0, or 0.5 (a tie)."""
    seen = gap + bias + random.logistic(size=len(gap))
    return np.asarray(0.5 + 0.5 * ((seen > threshold).astype(float) - (seen < -threshold)))

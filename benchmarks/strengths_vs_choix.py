"""Bradley-Terry strengths from COMPARISONS (1,000,000) over ITEMS (1,000): ours against choix, in one run.

From comparisons, choix's best solver is `ilsr_pairwise` (`mm_pairwise` and `opt_pairwise` are slower by far). From a
matrix of wins it has `ilsr_pairwise_dense`, but nothing that makes the matrix; the last row adds the comparisons up
with NumPy for it. Ours starts from comparisons in every row. Standard errors, which choix has not, are timed apart.
Best of REPEATS (5; 2 for the slow one), taken in turn.

The target is 10 times the speed of choix's best solver for comparisons.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# One thread each, set before NumPy is loaded: the machine's other cores are not part of the comparison.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import choix  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.special import expit  # noqa: E402

from rewardmodel.stats import bradley_terry  # noqa: E402

COMPARISONS = int(os.environ.get("COMPARISONS", 1_000_000))
ITEMS = int(os.environ.get("ITEMS", 1_000))
REPEATS = int(os.environ.get("REPEATS", 5))
TARGET = 10.0


class Row(NamedTuple):
    """`ratio` is the time in times of ours, `apart` how far the strengths are from ours."""

    solver: str
    seconds: float
    ratio: float
    apart: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH")
    out = parser.parse_args().json
    pairs = simulate()
    listed = [tuple(pair) for pair in pairs.tolist()]  # what choix's users have; not timed

    def ours() -> NDArray:
        return bradley_terry.fit(pairs, items=ITEMS).strengths

    def ours_with_errors() -> NDArray:
        found = bradley_terry.fit(pairs, items=ITEMS)
        assert found.standard_errors.shape == (ITEMS,)
        return found.strengths

    def dense() -> NDArray:
        wins = np.bincount(pairs[:, 0] * ITEMS + pairs[:, 1], minlength=ITEMS**2).reshape(ITEMS, ITEMS)
        return np.asarray(choix.ilsr_pairwise_dense(wins.astype(float)))

    contestants: dict[str, tuple[Callable[[], NDArray], int]] = {
        "ours": (ours, REPEATS),
        "ours, with standard errors": (ours_with_errors, REPEATS),
        "choix ilsr_pairwise": (lambda: np.asarray(choix.ilsr_pairwise(ITEMS, listed)), min(2, REPEATS)),
        "NumPy + choix ilsr_pairwise_dense": (dense, REPEATS),
    }
    seconds, found = race(contestants)
    rows = [
        Row(name, best, best / seconds["ours"], float(np.ptp(found[name] - found["ours"])))
        for name, best in seconds.items()
    ]
    report(rows, peak_megabytes(ours))
    if out:
        out.write_text(
            json.dumps({"comparisons": COMPARISONS, "items": ITEMS, "rows": [row._asdict() for row in rows]}, indent=1)
        )
    if max(row.apart for row in rows) > 1e-6:
        raise SystemExit("The solvers do not find the same strengths.")


def simulate() -> NDArray[np.int64]:
    """(winner, loser) of random pairs of items with normal strengths."""
    random = np.random.default_rng(0)
    strengths = random.normal(size=ITEMS)
    first = random.integers(ITEMS, size=COMPARISONS)
    second = (first + random.integers(1, ITEMS, size=COMPARISONS)) % ITEMS
    won = random.random(COMPARISONS) < expit(strengths[first] - strengths[second])
    return np.stack([np.where(won, first, second), np.where(won, second, first)], axis=1)


def race(contestants: dict[str, tuple[Callable[[], NDArray], int]]) -> tuple[dict[str, float], dict[str, NDArray]]:
    """Best time of each, all taking turns so that a busy moment hits nobody alone."""
    seconds: dict[str, float] = {}
    found: dict[str, NDArray] = {}
    for turn in range(REPEATS):
        for name, (solve, repeats) in contestants.items():
            if turn < repeats:
                started = time.perf_counter()
                found[name] = solve()
                seconds[name] = min(seconds.get(name, np.inf), time.perf_counter() - started)
    return seconds, found


def peak_megabytes(solve: Callable[[], Any]) -> float:
    tracemalloc.start()
    solve()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def report(rows: list[Row], megabytes: float) -> None:
    print(f"strengths_vs_choix: {COMPARISONS:,} comparisons over {ITEMS:,} items, one thread, best of {REPEATS}")
    print(f"  {'solver':<34} {'seconds':>8} {'times ours':>11} {'apart':>9}")
    for row in rows:
        print(f"  {row.solver:<34} {row.seconds:>8.3f} {row.ratio:>11.1f} {row.apart:>9.0e}")
    ratio = next(row.ratio for row in rows if row.solver == "choix ilsr_pairwise")
    print(
        f"  {ratio:.0f} times the speed of choix (target: {TARGET:.0f}); {megabytes:.0f} MB of memory beside the input"
    )


if __name__ == "__main__":
    main()

"""Intervals of shares: accuracies and win rates.

Wilson's score interval (Wilson 1927) stays inside [0, 1] and covers well for small counts, where the textbook normal
interval does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rewardmodel.stats.estimates import Estimate

Z95 = 1.959963984540054


def wilson(successes: float, trials: float, z: float = Z95) -> Estimate:
    """Share of successes with Wilson's interval. Fractions of a success are allowed (see `win_rate`)."""
    if not (math.isfinite(successes) and math.isfinite(trials) and 0 <= successes <= trials):
        raise ValueError(f"There cannot be {successes} successes in {trials} trials.")
    if trials == 0:
        return Estimate.undefined("nothing was counted")
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    # At 0 and 1 the bound is exact; rounding must not move it past the share itself.
    return Estimate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), trials)


def win_rate(wins: float, losses: float, ties: float = 0) -> Estimate:
    """Share of wins, a tie counting as half a win.

    The variance of such halves is below that of wins and losses at the same share, so the interval is on the
    safe side: a little too wide when there are many ties, never too narrow.
    """
    return wilson(wins + ties / 2, wins + losses + ties)


def clustered_share(shares: Sequence[float], trials: Sequence[float]) -> Estimate:
    """Mean of per-cluster shares (each cluster weighs the same), with an interval that respects the clusters.

    `shares[i]` is the share of successes among the `trials[i]` trials of cluster i, e.g. the correctly ordered pairs
    of one prompt. Trials of one cluster depend on each other, so their number says little: Wilson's interval is taken
    at the effective sample size, the number of independent trials that would vary as much as the shares do (Korn and
    Graubard 1998), which is at least the number of clusters and at most the number of trials.
    """
    values = np.asarray(shares, dtype=float)
    clusters, total = len(values), float(np.sum(trials))
    if clusters == 0:
        return Estimate.undefined("nothing was counted")
    share = float(values.mean())
    effective = float(clusters)
    if clusters > 1 and (variance := float(values.var(ddof=1))) > 0:
        effective = min(max(share * (1 - share) / variance * clusters, effective), max(total, effective))
    estimate = wilson(share * effective, effective)
    return Estimate(share, estimate.low, estimate.high, clusters)

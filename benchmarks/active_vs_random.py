"""How many labels `rewardmodel.stats.active` saves over asking about random pairs, and where it does not.

SEEDS (20) simulated people's truths; batches of half as many questions as there are items, 30 labels per item in all.
"labels" is how many it takes to order as many pairs right as random asking does with all of them, on average over the
seeds; "saved" is the share of labels that this saves.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from rewardmodel.stats import active, bradley_terry
from rewardmodel.stats.strengths import Strengths

SEEDS = int(os.environ.get("SEEDS", 20))
POLICIES = ("random", "information_gain", "disagreement", "posterior_variance")
MEMBERS = 10  # of the ensemble that disagrees, each fitted to a bootstrap sample of the answers
EXPLORE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH")
    out = parser.parse_args().json
    rows = [row for items in (20, 50) for deviation in (1.0, 3.0) for row in compare(items, deviation)]
    print(f"active_vs_random: {SEEDS} seeds, exploring {EXPLORE:.0%}")
    print(f"  {'items':>5} {'deviation':>9}  {'policy':<19} {'right':>6} {'rmse':>6} {'labels':>7} {'saved':>6}")
    for row in rows:
        labels, saved = (f"{row['labels']}", f"{row['saved']:.0%}") if row["labels"] else ("more", "none")
        print(
            f"  {row['items']:>5} {row['deviation']:>9}  {row['policy']:<19} {row['right']:>6.3f} {row['rmse']:>6.3f} "
            f"{labels:>7} {saved:>6}"
        )
    if out:
        out.write_text(json.dumps({"rows": rows}, indent=1))


def compare(items: int, deviation: float) -> list[dict]:
    """One row per policy, for items whose strengths have this standard deviation."""
    total, batch = 30 * items, items // 2
    labels = np.arange(items, total + 1, batch)
    curves = {
        policy: np.mean([ask(seed, policy, items, deviation, total, batch) for seed in range(SEEDS)], axis=0)
        for policy in POLICIES
    }
    rows = []
    for policy, curve in curves.items():
        enough = np.flatnonzero(curve[:, 0] >= curves["random"][-1, 0])
        needed = int(labels[enough[0]]) if len(enough) else None
        rows.append(
            {
                "items": items,
                "deviation": deviation,
                "policy": policy,
                "right": float(curve[-1, 0]),
                "rmse": float(curve[-1, 1]),
                "labels": needed,
                "saved": 1 - needed / total if needed else None,
            }
        )
    return rows


def ask(seed: int, policy: str, items: int, deviation: float, total: int, batch: int) -> NDArray:
    """After each batch: share of pairs in the right order, and error of the strengths; (batches, 2)."""
    truth = np.random.default_rng(seed).normal(scale=deviation, size=items)
    truth -= truth.mean()
    random = np.random.default_rng(1_000 + seed)
    first, second = np.triu_indices(items, 1)
    pairs = np.stack([first, second], axis=1)
    asked = random.integers(len(pairs), size=items)
    rows, curve = np.empty((0, 3)), []
    while True:
        won = random.random(len(asked)) < expit(truth[first[asked]] - truth[second[asked]])
        rows = np.concatenate([rows, np.column_stack([pairs[asked], won])])
        fit = bradley_terry.fit(rows, items=items, penalty=deviation**-2)
        gap = fit.strengths[first] - fit.strengths[second]
        right = np.mean(gap * (truth[first] - truth[second]) > 0)
        curve.append((right, np.sqrt(np.mean((fit.strengths - truth) ** 2))))
        if len(rows) >= total:
            return np.array(curve)
        if policy == "random":
            asked = random.choice(len(pairs), size=batch, replace=False)
        else:
            asked = active.choose(gains(policy, fit, rows, pairs, random), batch, explore=EXPLORE, random=random).index


def gains(policy: str, fit: Strengths, rows: NDArray, pairs: NDArray, random: np.random.Generator) -> NDArray:
    """What each pair is worth to the policy."""
    if policy == "information_gain":
        return active.information_gain(fit, pairs)
    if policy == "posterior_variance":
        return active.posterior_variance(fit, pairs)
    samples = (rows[random.integers(len(rows), size=len(rows))] for _ in range(MEMBERS))
    members = [bradley_terry.fit(s, items=len(fit.strengths), penalty=fit.penalty).strengths for s in samples]
    return active.disagreement(members, pairs)


if __name__ == "__main__":
    main()

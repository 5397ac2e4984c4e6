"""Judge the outcome: the gold utility and correctness of replies, and the share of comparisons that the policy won.

Runs in the demo's own process after all training is over; what it finds goes nowhere but into the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from demo import gold
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share

Pair = tuple[str, str]  # prompt, reply


@dataclass(frozen=True)
class Quality:
    """Means over replies."""

    gold: float
    correct: float


def quality(pairs: Sequence[Pair]) -> Quality:
    """Gold utility and share of replies with the right content."""
    return Quality(
        gold=fmean(gold.utility(prompt, reply) for prompt, reply in pairs),
        correct=fmean(gold.is_correct(prompt, reply) for prompt, reply in pairs),
    )


def win_rate(wins_by_item: dict[str, list[float]]) -> Estimate:
    """Share of comparisons won (a tie is half a win), with an interval by item: answers about one item go together."""
    answers = list(wins_by_item.values())
    return clustered_share([fmean(wins) for wins in answers], [len(wins) for wins in answers])


def win(tiers: Sequence[Sequence[int]], policy: int, other: int) -> float:
    """1 when the policy's completion stands above the other, 0 when below, 1/2 in one tier."""
    place = {completion: tier for tier, members in enumerate(tiers) for completion in members}
    return 0.5 if place[policy] == place[other] else float(place[policy] < place[other])

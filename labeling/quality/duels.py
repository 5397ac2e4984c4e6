"""Duels: how often the completions of one source were ranked above those of another, counted.

`leaderboard` explains all duels by one strength per source. An answer that both are bad says nothing about which is
better, and is no duel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from labeling.quality.answers import Answers, Tiers
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share

MOST = 20  # duels, and sources of a leaderboard

Sources = Mapping[int, Mapping[int, str]]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Duel:
    """Two sources, the better one first. In its `share` a tie is half a win and every item weighs the same."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    share: Estimate


def duels_of(answers: Answers, sources: Sources) -> list[Duel]:
    """Every two sources whose completions people ranked against each other, the most compared first."""
    scores: dict[Pair, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row, (item, tiers) in enumerate(zip(answers.items, answers.tiers, strict=True)):
        if row in answers.both_bad:
            continue
        for pair, score in outcomes(tiers, sources.get(item, {})):
            scores[pair][item].append(score)
    found = [_duel(pair, list(by_item.values())) for pair, by_item in scores.items()]
    return sorted(found, key=lambda duel: -(duel.wins + duel.ties + duel.losses))[:MOST]


def outcomes(tiers: Tiers, sources: Mapping[int, str]) -> Iterator[tuple[Pair, float]]:
    """What one ranking says: pairs of sources in alphabetical order with 1, 1/2 or 0 for the first of them."""
    places = sorted((sources[index], place) for place, tier in enumerate(tiers) for index in tier if index in sources)
    for (first, high), (second, low) in combinations(places, 2):
        if first != second:
            yield (first, second), 0.5 if high == low else float(high < low)


def _duel(pair: Pair, items: list[list[float]]) -> Duel:
    if fmean(map(fmean, items)) < 0.5:
        pair, items = pair[::-1], [[1 - score for score in scores] for scores in items]
    every = [score for scores in items for score in scores]
    share = clustered_share([fmean(scores) for scores in items], [len(scores) for scores in items])
    return Duel(*pair, every.count(1.0), every.count(0.5), every.count(0.0), share)

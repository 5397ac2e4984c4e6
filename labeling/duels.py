"""Whose completions people prefer: for each two sources, how often the one was ranked above the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from labeling.models import Campaign, Completion, Ranking
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share

MAX_RANKINGS = 50_000  # the newest ones, that are read
MOST = 20  # duels that are told of

Tiers = list[list[int]]


@dataclass(frozen=True)
class Duel:
    """Two sources, the better one first. In its `share` a tie is half a win and every item weighs the same."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    share: Estimate


def duels(campaign: Campaign) -> list[Duel]:
    """Every two sources whose completions people ranked against each other, the most compared first."""
    given = Ranking.objects.accepted().filter(campaign=campaign, origin=Ranking.Origin.PERSON).order_by("-pk")
    rows = list(given.values_list("item_id", "tiers")[:MAX_RANKINGS])
    sources = _sources({item for item, _ in rows})
    scores: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item, tiers in rows:
        for pair, score in outcomes(tiers, sources[item]):
            scores[pair][item].append(score)
    found = [_duel(pair, list(by_item.values())) for pair, by_item in scores.items()]
    return sorted(found, key=lambda duel: -(duel.wins + duel.ties + duel.losses))[:MOST]


def outcomes(tiers: Tiers, sources: dict[int, str]) -> Iterator[tuple[tuple[str, str], float]]:
    """What one ranking says: pairs of sources in alphabetical order with 1, 1/2 or 0 for the first of them."""
    places = sorted((sources[index], place) for place, tier in enumerate(tiers) for index in tier if index in sources)
    for (first, high), (second, low) in combinations(places, 2):
        if first != second:
            yield (first, second), 0.5 if high == low else float(high < low)


def _sources(items: Iterable[int]) -> dict[int, dict[int, str]]:
    """Sources by item and index, where they are known."""
    found: dict[int, dict[int, str]] = defaultdict(dict)
    known = Completion.objects.filter(item__in=items).exclude(source="")
    for item, index, source in known.values_list("item_id", "index", "source").iterator():
        found[item][index] = source
    return found


def _duel(pair: tuple[str, str], items: list[list[float]]) -> Duel:
    if fmean(map(fmean, items)) < 0.5:
        pair, items = pair[::-1], [[1 - score for score in scores] for scores in items]
    every = [score for scores in items for score in scores]
    share = clustered_share([fmean(scores) for scores in items], [len(scores) for scores in items])
    return Duel(*pair, every.count(1.0), every.count(0.5), every.count(0.0), share)

"""Whose completions people prefer: duels of two sources, and a leaderboard of all.

A duel is counted: how often the completions of one source were ranked above those of the other. A leaderboard explains
all duels by one strength per source (Bradley and Terry), so sources that never met are compared through others. A
ranking of K completions is taken as its pairs, of weight 2 / K each: K - 1 answers in all, as many as it takes to give
it. Items are what is drawn anew for the intervals: answers to the same item depend on each other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from labeling.answers import Answers, Tiers
from rewardmodel.stats import bradley_terry
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share
from rewardmodel.stats.strengths import Strengths

MOST = 20  # duels, and sources of a leaderboard
RESAMPLES = 200

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


@dataclass(frozen=True)
class Place:
    """A source with its strength in logits, of which the average is 0."""

    source: str
    strength: Estimate
    comparisons: int


@dataclass(frozen=True)
class Leaderboard:
    """Sources, the strongest first; none where fewer than two were compared.

    `joined`: all were compared, at least through others. `decided`: and each also beat all others like that; where one
    did not, its strength would be infinite, and a weak prior keeps it finite.
    """

    places: list[Place]
    joined: bool
    decided: bool

    @property
    def span(self) -> tuple[float, float]:
        """From the lowest to the highest bound."""
        lows = [place.strength.low or 0.0 for place in self.places]
        return min(lows), max(place.strength.high or 0.0 for place in self.places)


def duels_of(answers: Answers, sources: Sources) -> list[Duel]:
    """Every two sources whose completions people ranked against each other, the most compared first."""
    scores: dict[Pair, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item, tiers in zip(answers.items, answers.tiers, strict=True):
        for pair, score in outcomes(tiers, sources.get(item, {})):
            scores[pair][item].append(score)
    found = [_duel(pair, list(by_item.values())) for pair, by_item in scores.items()]
    return sorted(found, key=lambda duel: -(duel.wins + duel.ties + duel.losses))[:MOST]


def leaderboard_of(answers: Answers, sources: Sources, *, seed: int = 0) -> Leaderboard:
    """Strengths of the sources that were compared most, with percentile intervals of a bootstrap over items."""
    rows: list[tuple[int, Pair, float, float]] = []
    for item, tiers in zip(answers.items, answers.tiers, strict=True):
        weight = 2 / max(sum(map(len, tiers)), 2)
        rows += [(item, pair, score, weight) for pair, score in outcomes(tiers, sources.get(item, {}))]
    count = Counter(source for _, pair, _, _ in rows for source in pair)
    names = [source for source, _ in count.most_common(MOST)]
    number = {source: index for index, source in enumerate(names)}
    kept = [row for row in rows if row[1][0] in number and row[1][1] in number]
    if not kept:
        return Leaderboard([], joined=False, decided=False)
    _, item_of = np.unique([row[0] for row in kept], return_inverse=True)
    pairs = np.array([(number[first], number[second]) for _, (first, second), _, _ in kept])
    score, weight = np.array([row[2:] for row in kept]).T
    comparisons = _Comparisons(len(names), pairs, score, weight)
    fit = comparisons.fit(np.ones_like(item_of))
    random = np.random.default_rng(seed)
    items = int(item_of.max()) + 1
    drawn = [np.bincount(random.integers(items, size=items), minlength=items)[item_of] for _ in range(RESAMPLES)]
    strengths = np.array([comparisons.fit(times).strengths for times in drawn])
    low, high = np.percentile(strengths, [2.5, 97.5], axis=0)
    places = [
        Place(name, Estimate(float(fit.strengths[n]), float(low[n]), float(high[n]), float(count[name])), count[name])
        for n, name in enumerate(names)
    ]
    places.sort(key=lambda place: -(place.strength.value or 0))
    return Leaderboard(places, joined=comparisons.joined(), decided=fit.strongly_connected)


def outcomes(tiers: Tiers, sources: Mapping[int, str]) -> Iterator[tuple[Pair, float]]:
    """What one ranking says: pairs of sources in alphabetical order with 1, 1/2 or 0 for the first of them."""
    places = sorted((sources[index], place) for place, tier in enumerate(tiers) for index in tier if index in sources)
    for (first, high), (second, low) in combinations(places, 2):
        if first != second:
            yield (first, second), 0.5 if high == low else float(high < low)


@dataclass(frozen=True)
class _Comparisons:
    """One per row: which two of so many sources, the score of the first, the weight."""

    sources: int
    pairs: NDArray[np.int64]
    score: NDArray[np.float64]
    weight: NDArray[np.float64]

    def fit(self, times: NDArray[np.int64]) -> Strengths:
        """Strengths when each row counts so many times. Rows are added up first, so this does not grow with them."""
        first, second = self.pairs.T
        cells = np.concatenate([first * self.sources + second, second * self.sources + first])
        won = np.concatenate([self.score, 1 - self.score]) * np.tile(times * self.weight, 2)
        wins = np.bincount(cells, won, self.sources**2)
        (cell,) = np.nonzero(wins)
        rows = np.stack(np.divmod(cell, self.sources), axis=1)
        return bradley_terry.fit(rows, items=self.sources, weights=wins[cell])

    def joined(self) -> bool:
        graph = csr_array((np.ones(len(self.pairs)), self.pairs.T), shape=(self.sources, self.sources))
        return bool(connected_components(graph, directed=False)[0] == 1)


def _duel(pair: Pair, items: list[list[float]]) -> Duel:
    if fmean(map(fmean, items)) < 0.5:
        pair, items = pair[::-1], [[1 - score for score in scores] for scores in items]
    every = [score for scores in items for score in scores]
    share = clustered_share([fmean(scores) for scores in items], [len(scores) for scores in items])
    return Duel(*pair, every.count(1.0), every.count(0.5), every.count(0.0), share)

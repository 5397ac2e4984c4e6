"""Sources of completions by one strength each, which explains all comparisons: also of sources that never met.

Which model, the answers say. Pairs without ties: Bradley and Terry. Pairs with ties: Rao and Kupper, who also estimate
how large a difference people notice. Rankings of three and more: Plackett and Luce, a choice of the best, then of the
best of the rest; where a ranking shows one source twice, all are taken as their pairs (Bradley and Terry, ties as half
a win, weight 2 / K each: K - 1 answers in all, as many as it takes to give it).

An answer that both are bad is no tie: it says nothing about which is stronger, and stands as a share of its own.
Intervals come from drawing items anew: answers to the same item depend on each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from django.utils.translation import gettext_noop
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from labeling.quality.answers import Answers
from labeling.quality.duels import MOST, Sources, outcomes
from rewardmodel.stats import bradley_terry, plackett_luce, ties
from rewardmodel.stats.errors import AllTies
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import Z95, wilson
from rewardmodel.stats.strengths import Strengths

RESAMPLES = 200
RESAMPLES_OF_RANKINGS = 40  # a fit of rankings takes longer

Ints = NDArray[np.int64]
Fit = Callable[[Ints], Strengths]
"""Strengths when each answer counts so many times."""


@dataclass(frozen=True)
class Place:
    """A source with its strength in logits, of which the average is 0, and how often both were called bad."""

    source: str
    strength: Estimate
    comparisons: int
    both_bad: Estimate


@dataclass(frozen=True)
class Leaderboard:
    """Sources, the strongest first; none where fewer than two were compared.

    `joined`: all were compared, at least through others. `decided`: and each also beat all others like that; where one
    did not, its strength would be infinite, and a weak prior keeps it finite. `notices`: the difference in logits that
    people notice, where there were ties.
    """

    places: list[Place]
    joined: bool
    decided: bool
    model: str
    notices: Estimate

    @property
    def span(self) -> tuple[float, float]:
        """From the lowest to the highest bound."""
        lows = [place.strength.low or 0.0 for place in self.places]
        return min(lows), max(place.strength.high or 0.0 for place in self.places)


@dataclass(frozen=True)
class _Answer:
    """One answer: its item, the sources in tiers of numbers, its pairs with a score for the first."""

    item: int
    tiers: list[list[int]]
    pairs: list[tuple[int, int, float]]


NO_TIES = Estimate.undefined(gettext_noop("nobody called two equal"))


def leaderboard_of(answers: Answers, sources: Sources, *, seed: int = 0) -> Leaderboard:
    """Of the sources that were compared most."""
    count, bad, shown = _counts(answers, sources)
    names = [source for source, _ in count.most_common(MOST)]
    number = {source: index for index, source in enumerate(names)}
    rows = _rows(answers, sources, number)
    if not rows:
        return Leaderboard([], joined=False, decided=False, model="", notices=NO_TIES)
    model, fit, resamples = _model(rows, len(names))
    _, item_of = np.unique([row.item for row in rows], return_inverse=True)
    once = fit(np.ones(len(rows), dtype=np.int64))
    random = np.random.default_rng(seed)
    items = int(item_of.max()) + 1
    drawn = (np.bincount(random.integers(items, size=items), minlength=items)[item_of] for _ in range(resamples))
    error = np.std([fit(times).strengths for times in drawn], axis=0)
    places = [
        Place(
            name,
            Estimate(strength, strength - Z95 * spread, strength + Z95 * spread, float(count[name])),
            count[name],
            wilson(bad[name], shown[name]),
        )
        for name, strength, spread in zip(names, once.strengths.tolist(), error.tolist(), strict=True)
    ]
    places.sort(key=lambda place: -(place.strength.value or 0))
    notices = once.threshold if isinstance(once, ties.TieStrengths) else NO_TIES
    return Leaderboard(places, _joined(rows, len(names)), once.strongly_connected, model, notices)


def _counts(answers: Answers, sources: Sources) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """By source: comparisons, answers that called both bad, answers."""
    comparisons: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for row, (item, tiers) in enumerate(zip(answers.items, answers.tiers, strict=True)):
        named = sources.get(item, {})
        present = {named[index] for tier in tiers for index in tier if index in named}
        shown.update(present)
        if row in answers.both_bad:
            bad.update(present)
        else:
            comparisons.update(source for pair, _ in outcomes(tiers, named) for source in pair)
    return comparisons, bad, shown


def _rows(answers: Answers, sources: Sources, number: dict[str, int]) -> list[_Answer]:
    found = []
    for row, (item, tiers) in enumerate(zip(answers.items, answers.tiers, strict=True)):
        named = {index: source for index, source in sources.get(item, {}).items() if source in number}
        if row in answers.both_bad:
            continue
        pairs = [(number[a], number[b], score) for (a, b), score in outcomes(tiers, named)]
        if pairs:
            kept = [sorted(number[named[index]] for index in tier if index in named) for tier in tiers]
            found.append(_Answer(item, [tier for tier in kept if tier], pairs))
    return found


def _model(rows: Sequence[_Answer], sources: int) -> tuple[str, Fit, int]:
    """The model's name, how to fit it, and how often for intervals."""
    sizes = [[index for tier in row.tiers for index in tier] for row in rows]
    if all(len(size) == 2 for size in sizes):
        if any(score == 0.5 for row in rows for _, _, score in row.pairs):
            return "Rao-Kupper", _pairs(rows, sources, with_ties=True), RESAMPLES
        return "Bradley-Terry", _pairs(rows, sources), RESAMPLES
    if any(len(set(size)) < len(size) for size in sizes):
        return "Bradley-Terry", _pairs(rows, sources), RESAMPLES
    return "Plackett-Luce", _rankings(rows, sources), RESAMPLES_OF_RANKINGS


def _pairs(rows: Sequence[_Answer], sources: int, *, with_ties: bool = False) -> Fit:
    """Pairs are added up by what they say, so that no fit grows with the answers."""
    table = np.array([(a, b, score, n) for n, row in enumerate(rows) for a, b, score in row.pairs])
    weight = np.array([2 / max(sum(map(len, row.tiers)), 2) for row in rows for _ in row.pairs])
    said, kind = np.unique(table[:, :3], axis=0, return_inverse=True)
    answer = table[:, 3].astype(np.int64)

    def fit(times: Ints) -> Strengths:
        weights = np.bincount(kind, weight * times[answer], len(said))
        there = weights > 0
        if with_ties:
            try:
                return ties.fit(said[there], items=sources, weights=weights[there], position_bias=False)
            except AllTies:  # they say that all are equal
                pass
        return bradley_terry.fit(said[there], items=sources, weights=weights[there])

    return fit


def _rankings(rows: Sequence[_Answer], sources: int) -> Fit:
    """Equal rankings are added up."""
    number: dict[tuple[tuple[int, ...], ...], int] = {}
    kind = np.array([number.setdefault(tuple(map(tuple, row.tiers)), len(number)) for row in rows])
    different = [[list(tier) for tier in tiers] for tiers in number]

    def fit(times: Ints) -> Strengths:
        weights = np.bincount(kind, times, len(different))
        (there,) = np.nonzero(weights)
        return plackett_luce.fit([different[index] for index in there], items=sources, weights=weights[there])

    return fit


def _joined(rows: Sequence[_Answer], sources: int) -> bool:
    pairs = np.array([(a, b) for row in rows for a, b, _ in row.pairs])
    graph = csr_array((np.ones(len(pairs)), pairs.T), shape=(sources, sources))
    return bool(connected_components(graph, directed=False)[0] == 1)

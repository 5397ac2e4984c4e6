"""What else decides beside quality: how long an answer is, and where it stands on the screen.

Taken are pairs of completions in a clear order. Every item weighs the same, and intervals respect that pairs of one
item depend on each other. A longer answer may win because it is better: the report shows that length and winning go
together, by how much longer it is, and for which source; not why.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean

from django.db import connection
from django.utils.translation import gettext_noop

from labeling.quality.answers import Answers
from labeling.quality.duels import Sources
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share

RATIOS = (1.0, 1.1, 1.5, 2.0, 3.0, float("inf"))  # longer over shorter
MOST_ITEMS = 20_000
MOST_SOURCES = 20

Lengths = Mapping[int, Mapping[int, int]]


@dataclass(frozen=True)
class LengthBin:
    """Pairs whose longer completion is `low` to `high` times as long: how often the longer one won."""

    low: float
    high: float | None
    share: Estimate


@dataclass(frozen=True)
class SourceBias:
    """Of one source: its mean length; how often it wins where it is the longer one, the shorter one, shown first."""

    source: str
    characters: float
    longer: Estimate
    shorter: Estimate
    first: Estimate


@dataclass(frozen=True)
class Biases:
    """`longer`: how often the longer of two won. `first`: how often the one shown first of two did."""

    longer: Estimate
    bins: list[LengthBin]
    first: Estimate
    sources: list[SourceBias]


def biases_of(answers: Answers, sources: Sources, lengths: Lengths) -> Biases:
    """From answers, the sources and the lengths (in characters) of the completions, where they are known."""
    longer, first = _Share(), _Share()
    bins = [_Share() for _ in RATIOS[1:]]
    by_source: dict[tuple[str, str], _Share] = defaultdict(_Share)
    for item, tiers, shown in zip(answers.items, answers.tiers, answers.shown, strict=True):
        known, named = lengths.get(item, {}), sources.get(item, {})
        for winner, loser in _clear_pairs(tiers):
            if len(shown) == 2:
                first_won = shown[0] == winner
                first.add(item, first_won)
                by_source[named.get(shown[0], ""), "first"].add(item, first_won)
            a, b = known.get(winner, 0), known.get(loser, 0)
            if a == b or not a or not b:
                continue
            longer.add(item, a > b)
            ratio = max(a, b) / min(a, b)
            bins[sum(ratio >= edge for edge in RATIOS[1:])].add(item, a > b)
            by_source[named.get(winner, ""), "longer" if a > b else "shorter"].add(item, True)
            by_source[named.get(loser, ""), "shorter" if a > b else "longer"].add(item, False)
    return Biases(
        longer.estimate(),
        [
            LengthBin(low, None if high == float("inf") else high, share.estimate())
            for (low, high), share in zip(pairwise(RATIOS), bins, strict=True)
        ],
        first.estimate(),
        _by_source(by_source, sources, lengths),
    )


LENGTHS = """
SELECT item_id, index, (SELECT sum(length(message->>'content')) FROM jsonb_array_elements(messages) message)
FROM labeling_completion WHERE item_id = ANY(%s)
"""


def lengths_of(items: Iterable[int]) -> dict[int, dict[int, int]]:
    """Characters of completions by item and index, of a bounded number of items, the first ones given."""
    wanted = list(dict.fromkeys(items))[:MOST_ITEMS]
    found: dict[int, dict[int, int]] = defaultdict(dict)
    with connection.cursor() as cursor:
        for item, index, characters in cursor.execute(LENGTHS, [wanted]).fetchall():
            found[item][index] = int(characters or 0)
    return found


class _Share:
    """Outcomes by item."""

    def __init__(self) -> None:
        self.outcomes: dict[int, list[bool]] = defaultdict(list)

    def add(self, item: int, outcome: bool) -> None:
        self.outcomes[item].append(outcome)

    def estimate(self) -> Estimate:
        if not self.outcomes:
            return Estimate(None, reason=gettext_noop("no such pairs yet"))
        outcomes = list(self.outcomes.values())
        return clustered_share([fmean(of_item) for of_item in outcomes], [float(len(one)) for one in outcomes])


def _clear_pairs(tiers: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """(better, worse)"""
    return [(a, b) for higher, lower in combinations(tiers, 2) for a in higher for b in lower]


def _by_source(shares: Mapping[tuple[str, str], _Share], sources: Sources, lengths: Lengths) -> list[SourceBias]:
    characters: dict[str, list[int]] = defaultdict(list)
    for item, named in sources.items():
        for index, source in named.items():
            if length := lengths.get(item, {}).get(index):
                characters[source].append(length)
    commonest = Counter({source: len(all_of) for source, all_of in characters.items()}).most_common(MOST_SOURCES)
    nothing = _Share()
    return [
        SourceBias(
            source,
            fmean(characters[source]),
            *(shares.get((source, name), nothing).estimate() for name in ("longer", "shorter", "first")),
        )
        for source, _ in commonest
    ]

"""The answers that statistics are made from: the newest of a campaign, in columns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import comb

from labeling.models import Campaign, Completion, Kind, Ranking

Tiers = list[list[int]]

MAX_ANSWERS = 100_000
MAX_PAIRS = 300_000  # of completions in them: a ranking of nine has 36


@dataclass(frozen=True)
class Answers:
    """Answer r is of person `people[r]`, about item `items[r]`, whose completions stood in the order `shown[r]`.

    Imported rankings are not people's answers. Who could not tell is counted, and in no column.
    """

    items: list[int]
    people: list[int]
    tiers: list[Tiers]
    shown: list[list[int]]
    cannot_tell: Counter[int]
    """How often, by person."""
    partial: bool
    """There are more answers than these newest ones."""
    both_bad: frozenset[int] = frozenset()
    """Rows that say that both completions are bad. In `tiers` these are ties."""

    def shared(self) -> Answers:
        """Those to items that two people or more ranked."""
        judges: dict[int, set[int]] = defaultdict(set)
        for item, person in zip(self.items, self.people, strict=True):
            judges[item].add(person)
        rows = [row for row, item in enumerate(self.items) if len(judges[item]) > 1]
        columns = (self.items, self.people, self.tiers, self.shown)
        items, people, tiers, shown = ([column[row] for row in rows] for column in columns)
        return Answers(items, people, tiers, shown, self.cannot_tell, self.partial)  # type: ignore[arg-type]


def read_answers(campaign: Campaign) -> Answers:
    """The newest accepted answers, within bounds of their number and their pairs.

    What a reviewer decided is left out: who knows the other answers does not agree with them independently.
    """
    given = Ranking.objects.accepted().filter(campaign=campaign, origin=Ranking.Origin.PERSON, kind=Kind.NORMAL)
    columns = given.order_by("-pk").values_list(
        "item_id", "user_id", "tiers", "shown_order", "cannot_tell", "details__both_bad"
    )
    found, pairs = Answers([], [], [], [], Counter(), partial=False), 0
    both_bad = set()
    for number, (item, person, tiers, shown, cannot_tell, bad) in enumerate(columns[: MAX_ANSWERS + 1].iterator()):
        pairs += comb(sum(map(len, tiers)), 2)
        if number == MAX_ANSWERS or pairs > MAX_PAIRS:
            found = replace(found, partial=True)
            break
        if cannot_tell:
            found.cannot_tell[person] += 1
            continue
        if bad is True:
            both_bad.add(len(found.items))
        found.items.append(item)
        found.people.append(person)
        found.tiers.append(tiers)
        found.shown.append(shown)
    return replace(found, both_bad=frozenset(both_bad))


def sources_of(items: Iterable[int]) -> dict[int, dict[int, str]]:
    """Sources of completions by item and index, where they are known."""
    found: dict[int, dict[int, str]] = defaultdict(dict)
    known = Completion.objects.filter(item__in=set(items)).exclude(source="")
    for item, index, source in known.values_list("item_id", "index", "source").iterator():
        found[item][index] = source
    return found

"""Signs that somebody answers without reading. Pure: no database.

Each sign is held against what an honest person may do at most, so that an alarm is rare among honest people; the catch
and false-alarm rates over simulated people are measured by `benchmarks.thoughtless`.

* Too fast: the time was too short to have read the texts at `SKIMMING` characters a second, a few times what good
  readers do, in a good part of the answers.
* One side: the order on the screen is drawn at random, so whichever side is better changes; who chooses one side again
  and again does not look. A leaning reader's share stays below the bound, surely (3 standard deviations).
* A pattern: sides that alternate, or come in long runs (4.5 standard deviations; nobody honest has one).
* The same words: most of the written reasons are one and the same.

Who answers at random at a human pace leaves no such sign; gold, repeats and what others say find them
(`gold.results_of`, `quality`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from django.utils.translation import gettext_noop

from rewardmodel.stats.intervals import wilson

LATEST = 60  # answers that are looked at
FEWEST = 20  # of the kind that a sign is about
SKIMMING = 90.0  # characters a second; readers do 15 to 30
SHORTEST = 0.8  # seconds, however short the texts
HASTY = 0.25  # share of answers too fast to have been read
SURE_OF_SIDE, SURE_OF_PATTERN = 3.0, 4.5  # standard deviations
LEANING = 0.65  # share of one side that an honest person may have
WORDS = 12  # characters from which on a reason is more than "ok"
SAME_REASON = 0.5
FEWEST_REASONS = 8

# Kept in English, said by `accounts.language.translated`.
FAST = gettext_noop("{} of the latest {} answers came faster than the texts can be read")
SIDES = (
    gettext_noop("{} of the latest {} choices were the first one, whatever stood there"),
    gettext_noop("{} of the latest {} choices were the second one, whatever stood there"),
)
ALTERNATING = gettext_noop("the sides of the latest {} choices alternate, though the order is drawn at random")
IN_RUNS = gettext_noop("the sides of the latest {} choices come in long runs, though the order is drawn at random")
SAME_WORDS = gettext_noop("{} of the latest {} reasons read {}")


@dataclass(frozen=True)
class Given:
    """One answer: time in seconds (None: unknown), characters shown, place of the one preferred (None: no clear one).

    `sides` is how many places there were.
    """

    seconds: float | None
    characters: int
    place: int | None
    sides: int
    rationale: str = ""


@dataclass(frozen=True)
class Sign:
    """`name` is one of: fast, side, pattern, words. `sentence` says what was seen, for a manager."""

    name: str
    sentence: str


def signs_of(answers: Sequence[Given]) -> list[Sign]:
    """What speaks against these answers of one person, in the order they were given; only the latest count."""
    latest = answers[-LATEST:]
    found = [_fast(latest), _side(latest), _pattern(latest), _words(latest)]
    return [sign for sign in found if sign is not None]


def least_seconds(characters: int) -> float:
    """Who was faster cannot have read this."""
    return max(SHORTEST, characters / SKIMMING)


def _fast(answers: Sequence[Given]) -> Sign | None:
    timed = [one for one in answers if one.seconds is not None]
    if len(timed) < FEWEST:
        return None
    hasty = sum(one.seconds is not None and one.seconds < least_seconds(one.characters) for one in timed)
    if (wilson(hasty, len(timed)).low or 0.0) <= HASTY:
        return None
    return Sign("fast", FAST.format(hasty, len(timed)))


def _side(answers: Sequence[Given]) -> Sign | None:
    places = [one.place for one in answers if one.place is not None and one.sides == 2]
    if len(places) < FEWEST:
        return None
    place, count = Counter(places).most_common(1)[0]
    if (wilson(count, len(places), z=SURE_OF_SIDE).low or 0.0) <= LEANING:
        return None
    return Sign("side", SIDES[place].format(count, len(places)))


def _pattern(answers: Sequence[Given]) -> Sign | None:
    """The runs test of Wald and Wolfowitz: with sides drawn at random, so are the changes from one to the other."""
    places = [one.place for one in answers if one.place is not None and one.sides == 2]
    ones, total = sum(places), len(places)
    zeros = total - ones
    if min(ones, zeros) < FEWEST // 2:
        return None
    runs = 1 + sum(first != second for first, second in zip(places, places[1:], strict=False))
    mean = 1 + 2 * ones * zeros / total
    deviation = sqrt((mean - 1) * (mean - 2) / (total - 1))
    if abs(runs - mean) <= SURE_OF_PATTERN * deviation:
        return None
    return Sign("pattern", (ALTERNATING if runs > mean else IN_RUNS).format(total))


def _words(answers: Sequence[Given]) -> Sign | None:
    reasons = [" ".join(one.rationale.lower().split()) for one in answers]
    reasons = [reason for reason in reasons if len(reason) >= WORDS]
    if len(reasons) < FEWEST_REASONS:
        return None
    reason, count = Counter(reasons).most_common(1)[0]
    if count <= SAME_REASON * len(reasons):
        return None
    return Sign("words", SAME_WORDS.format(count, len(reasons), f"“{reason[:60]}”"))

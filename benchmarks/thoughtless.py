"""How many simulated bots `labeling.quality.fraud` and gold items catch, and how many honest people they accuse.

    python -m benchmarks thoughtless

Honest people differ: they read at 12 to 45 characters a second (a third of them skims at twice that), pause, lean to
one side by up to 0.4 logits, tie now and then, write a reason for some answers, and answer 75 to 98 % of the gold items
right. Everybody gives 60 answers to texts of 300 to 4,000 characters, with 6 gold items among them; how many would be
paused after 30 gold items stands beside it. Nothing here is fitted to people's data: the rates say what the rules do on
people like these.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labeling.quality.fraud import Given, signs_of
from rewardmodel.stats.intervals import wilson

ANSWERS = 60
FEW_GOLDS, MANY_GOLDS = 6, 30
PEOPLE, BOTS = 5_000, 1_000
GOLD_ACCURACY = 0.7  # the threshold of a campaign

Random = np.random.Generator


@dataclass(frozen=True)
class Person:
    """Their latest answers, and which gold items they got right."""

    given: list[Given]
    right: list[bool]


def honest(random: Random) -> Person:
    """Somebody who reads."""
    speed = random.uniform(12, 45) * (2 if random.random() < 1 / 3 else 1)
    lean = random.normal(0, 0.2)
    given = []
    for _ in range(ANSWERS):
        characters = int(random.integers(300, 4_000))
        seconds = characters / speed * random.lognormal(0, 0.35) + random.exponential(3)
        given.append(Given(seconds, characters, _leaning(random, lean), 2, _reason(random)))
    return Person(given, _golds(random, random.uniform(0.75, 0.98)))


def hasty(random: Random) -> Person:
    """Clicks at once, at random."""
    return _bot(random, lambda _: int(random.integers(2)), seconds=lambda: random.uniform(0.5, 3))


def one_sided(random: Random) -> Person:
    """Always the same side, at a human pace."""
    side = int(random.integers(2))
    return _bot(random, lambda _: side)


def nearly_one_sided(random: Random) -> Person:
    """The same side nine times in ten."""
    return _bot(random, lambda _: int(random.random() < 0.1))


def alternating(random: Random) -> Person:
    """Left, right, left, right."""
    return _bot(random, lambda number: number % 2)


def copying(random: Random) -> Person:
    """The same reason under every answer, at random sides."""
    return _bot(random, lambda _: int(random.integers(2)), reason="This answer is better and more helpful.")


def guessing(random: Random) -> Person:
    """At random, at a human pace, without a word: only gold can tell."""
    return _bot(random, lambda _: int(random.integers(2)))


BOTS_BY_NAME = {one.__name__: one for one in (hasty, one_sided, nearly_one_sided, alternating, copying, guessing)}


def caught_by_signs(person: Person) -> list[str]:
    return [sign.name for sign in signs_of(person.given)]


def caught_by_gold(person: Person, golds: int) -> bool:
    """The rule of automatic pauses: surely below the threshold."""
    return (wilson(sum(person.right[:golds]), golds).high or 0.0) < GOLD_ACCURACY


def rates(people: int = PEOPLE, bots: int = BOTS, seed: int = 0) -> dict[str, dict[str, float]]:
    """Shares that an alarm was raised about, by kind of person."""
    random = np.random.default_rng(seed)
    kinds = {"honest": (honest, people)} | {name: (bot, bots) for name, bot in BOTS_BY_NAME.items()}
    table = {}
    for name, (make, count) in kinds.items():
        found = [make(random) for _ in range(count)]
        signs = [caught_by_signs(person) for person in found]
        by_sign = Counter(sign for names in signs for sign in names)
        table[name] = {"signs": sum(map(bool, signs)) / count}
        table[name] |= {sign: by_sign[sign] / count for sign in ("fast", "side", "pattern", "words")}
        for golds in (FEW_GOLDS, MANY_GOLDS):
            table[name][f"{golds} gold"] = sum(caught_by_gold(person, golds) for person in found) / count
    return table


def _bot(
    random: Random,
    place: Callable[[int], int],
    *,
    seconds: Callable[[], float] | None = None,
    reason: str = "",
) -> Person:
    given = []
    for number in range(ANSWERS):
        characters = int(random.integers(300, 4_000))
        took = seconds() if seconds else characters / 25 * random.lognormal(0, 0.35)
        given.append(Given(took, characters, place(number), 2, reason))
    return Person(given, _golds(random, 0.5))


def _golds(random: Random, accuracy: float) -> list[bool]:
    return [bool(right) for right in random.random(MANY_GOLDS) < accuracy]


def _leaning(random: Random, lean: float) -> int | None:
    if random.random() < 0.06:
        return None
    return int(random.random() > 1 / (1 + np.exp(-lean)))


def _reason(random: Random) -> str:
    if random.random() > 0.3:
        return ""
    if random.random() < 0.3:
        return "ok"
    return f"Number {random.integers(10_000)} names the right item and says what happens next."


def main() -> None:
    """Print the table."""
    table = rates()
    print(f"{'':<18}" + "".join(f"{name:>10}" for name in next(iter(table.values()))))
    for name, row in table.items():
        print(f"{name:<18}" + "".join(f"{100 * share:>9.1f}%" for share in row.values()))
    print(json.dumps(table))


if __name__ == "__main__":
    main()

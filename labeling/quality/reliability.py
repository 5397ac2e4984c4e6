"""How well each person answers: reliability, pulls, thresholds, agreement with the others, and what follows from it.

Only answers that can be held against somebody else's say anything: those to items which others ranked, too. Completions
of different prompts are different things, so few people ever judge the same two (see `rewardmodel.stats.reliability`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from random import Random

import numpy as np
from django.utils.translation import gettext_noop

from labeling.protocols.basics import LABELS
from labeling.quality.answers import Answers
from rewardmodel.stats import reliability
from rewardmodel.stats.annotators import UNRELIABLE
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share
from rewardmodel.stats.pairs import Judgements, judgements_of

FEWEST = 20  # answers to shared items below which nothing is said about a person
FEWEST_PEOPLE = 3
PULL = 0.25  # logits below which a pull to one place is not worth a word


@dataclass(frozen=True)
class Quality:
    """One person's. `shared` are answers to items that others ranked; `weight` is what training may give an answer.

    `finding` is empty or one of: reversed, random, unsure, first, last.
    """

    person: int
    answers: int
    cannot_tell: int
    shared: int
    reliability: Estimate
    bias: Estimate
    threshold: Estimate
    agreement: Estimate
    weight: float
    finding: str


def qualities_of(answers: Answers) -> list[Quality]:
    """Everybody's who ranked anything, or could not tell."""
    shared = answers.shared()
    people = {person: number for number, person in enumerate(sorted(set(shared.people)))}
    given, overlapping = Counter(answers.people), Counter(shared.people)
    rows = _judgements(shared) if people else None
    fit = None
    if rows is not None and len(people) >= FEWEST_PEOPLE:
        who = np.array([people[person] for person in shared.people])[rows.ranking]
        fit = reliability.fit(who, rows.table, weights=2 / rows.size)
    agreement = {} if rows is None else _agreement(shared, rows)
    found = []
    for person in sorted(given.keys() | answers.cannot_tell.keys()):
        known = fit if fit is not None and overlapping[person] >= FEWEST else None
        missing = _missing(overlapping[person], len(people))
        number = people.get(person, 0)
        quality = Quality(
            person,
            given[person],
            answers.cannot_tell[person],
            overlapping[person],
            known.reliability_of(number) if known else missing,
            known.bias_of(number) if known else missing,
            _threshold(known, number) if known else missing,
            agreement[person] if overlapping[person] >= FEWEST else missing,
            weight_of(float(fit.reliability[number]) if fit is not None and person in people else reliability.UNKNOWN),
            "",
        )
        found.append(quality)
    return [_with_finding(quality) for quality in found]


def weight_of(share: float) -> float:
    """What an answer is worth when `share` are meant and the rest is reversed: the share that is not mere guessing.

    Answers of which half are reversed say nothing, and so weigh nothing; nor do those of somebody who reverses more.
    """
    return max(0.0, 2 * share - 1)


UNKNOWN_WEIGHT = weight_of(reliability.UNKNOWN)
"""Of answers by people of whom nothing is known."""


def _threshold(fit: reliability.Reliabilities, number: int) -> Estimate:
    return (
        fit.threshold_of(number) if fit.tied else Estimate(None, reason=gettext_noop("nobody called two answers equal"))
    )


def _missing(shared: int, people: int) -> Estimate:
    if shared >= FEWEST:
        return Estimate(
            None, count=shared, reason=gettext_noop("with {} people nobody can say who of them is wrong").format(people)
        )
    return Estimate(
        None, count=shared, reason=gettext_noop("not enough overlapping answers: {} of {}").format(shared, FEWEST)
    )


def _judgements(answers: Answers) -> Judgements:
    """Pairs of completions, numbered over all items, the one shown first being first."""

    def numbered(item: int, indices: list[int]) -> list[int]:
        return [number[item] * len(LABELS) + index for index in indices]

    number = {item: place for place, item in enumerate(dict.fromkeys(answers.items))}
    rows = list(zip(answers.items, answers.tiers, answers.shown, strict=True))
    rankings = [[numbered(item, tier) for tier in tiers] for item, tiers, _ in rows]
    # Where nobody kept the order on the screen, a drawn one tells nothing; one in a fixed order would look like a pull.
    drawn = Random(0)
    shown = [numbered(item, shown or _shuffled(drawn, chain.from_iterable(tiers))) for item, tiers, shown in rows]
    return judgements_of(rankings, shown)


def _shuffled(random: Random, indices: Iterable[int]) -> list[int]:
    order = sorted(indices)
    random.shuffle(order)
    return order


def _agreement(answers: Answers, rows: Judgements) -> dict[int, Estimate]:
    """Per person, how often somebody else said the same of two completions. Every item weighs the same."""
    first, second = rows.table[:, 0].astype(np.int64), rows.table[:, 1].astype(np.int64)
    low, high = np.minimum(first, second), np.maximum(first, second)
    said = np.where(first < second, rows.table[:, 2], 1 - rows.table[:, 2])
    _, pair, judges = np.unique(low * (high.max() + 1) + high, return_inverse=True, return_counts=True)
    _, cell, same = np.unique(pair * 3 + (2 * said).astype(np.int64), return_inverse=True, return_counts=True)
    others, agreeing = judges[pair] - 1, same[cell] - 1
    person, item = np.array(answers.people)[rows.ranking], np.array(answers.items)[rows.ranking]
    found = {}
    for one in np.unique(person):
        mine = (person == one) & (others > 0)
        if not mine.any():
            found[int(one)] = Estimate.undefined(gettext_noop("nobody else ranked the same completions"))
            continue
        _, group = np.unique(item[mine], return_inverse=True)
        total = np.bincount(group, others[mine])
        found[int(one)] = clustered_share(list(np.bincount(group, agreeing[mine]) / total), list(total))
    return found


def _with_finding(quality: Quality) -> Quality:
    return Quality(**(vars(quality) | {"finding": _finding(quality.reliability, quality.bias)}))


def _finding(share: Estimate, bias: Estimate) -> str:
    if share.value is None or share.high is None:
        return ""
    if share.high < 0.5:
        return "reversed"
    if share.high < UNRELIABLE:
        return "random"
    if share.value < UNRELIABLE:
        return "unsure"
    if bias.low is not None and bias.low > PULL:
        return "first"
    return "last" if bias.high is not None and bias.high < -PULL else ""

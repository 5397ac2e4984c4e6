"""More answers where people disagree, fewer where it is settled.

What the answers to an item say of each two completions (better, worse, equal) is weighed by how reliably their people
answer: an answer of reliability r is r for what it says and (1 - r) / 2 for each of the others. An item is as certain
as the most likely of the three is, in the mean over its pairs. Where all wanted answers are there and the campaign's
certainty is not reached, one more is asked for, up to the campaign's most; where it is reached by two answers or more,
those still open are not asked for. Each change is kept as a row, with the certainty that led to it.

A worker looks after each ten answers at the items that were answered lately; nobody waits for it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from django.db.models import Count, F, Q, Sum

from labeling.models import Campaign, Kind, OverlapChange, QualityRules, Ranking, Slot
from labeling.protocols.basics import Tiers
from labeling.quality.statistics import latest_statistics
from labeling.queue.overlap import set_overlap
from rewardmodel.stats import reliability

logger = logging.getLogger(__name__)

NEWS = 10  # answers after which items are looked at again
LATEST = 2_000  # answers whose items are looked at
FEWEST = 2  # answers that can settle an item
# Nobody's single answer is taken for surer than this: also reliable people differ about answers that are nearly equal,
# and those of published data agree in 63 to 77 % of all cases.
BOUNDS = (0.4, 0.8)


def adapt_overlaps() -> int:
    """Look at every campaign that wants it and has news; of several workers one does each. How many items changed."""
    changed = 0
    ruled = QualityRules.objects.filter(campaign__state=Campaign.State.OPEN, most_overlap__gt=0)
    for rules in ruled.select_related("campaign"):
        answers = rules.campaign.contributions.aggregate(n=Sum(F("done") + F("extra"), default=0))["n"]
        if abs(answers - rules.adapted) < NEWS:
            continue
        if QualityRules.objects.filter(pk=rules.pk, adapted=rules.adapted).update(adapted=answers):
            changed += adapt(rules)
    return changed


def adapt(rules: QualityRules) -> int:
    """Change the overlap of the items that were answered lately, where their answers say so."""
    campaign = rules.campaign
    usual = Ranking.objects.given().filter(campaign=campaign, kind=Kind.NORMAL, origin=Ranking.Origin.PERSON)
    lately = set(usual.order_by("-pk").values_list("item", flat=True)[:LATEST])
    given: dict[int, list[tuple[int, Tiers]]] = defaultdict(list)
    for item, person, tiers in usual.filter(item__in=lately).values_list("item", "user", "tiers"):
        given[item].append((person or 0, tiers))
    reliable = _reliabilities(campaign)
    wanted: dict[int, list[OverlapChange]] = defaultdict(list)
    for item, *slots in _counted(campaign, lately):
        certainty = certainty_of(given[item], reliable)
        after = wanted_answers(certainty, *slots, enough=rules.certainty / 100, most=rules.most_overlap)
        if after != sum(slots):
            change = OverlapChange(campaign=campaign, item_id=item, before=sum(slots), after=after, certainty=certainty)
            wanted[after].append(change)
    for overlap, changes in wanted.items():
        set_overlap(campaign, [change.item_id for change in changes], overlap)
        OverlapChange.objects.bulk_create(changes)
    count = sum(map(len, wanted.values()))
    if count:
        logger.info("Changed the overlap of %d items of campaign %s.", count, campaign.public_id)
    return count


def wanted_answers(certainty: float, done: int, held: int, still_open: int, *, enough: float, most: int) -> int:
    """How many answers an item should get, that has so many, is in the hands of so many and waits for so many."""
    if certainty >= enough and done >= FEWEST:
        return done + held
    if held + still_open == 0 and done < most:
        return done + 1
    return done + held + still_open


def certainty_of(answers: Sequence[tuple[int, Tiers]], reliable: Mapping[int, float]) -> float:
    """How likely the most likely reading of two completions is, in the mean over all pairs; by (person, tiers)."""
    logs: dict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.zeros(3))
    for person, tiers in answers:
        share = float(np.clip(reliable.get(person, reliability.UNKNOWN), *BOUNDS))
        place = {index: number for number, tier in enumerate(tiers) for index in tier}
        for first, second in combinations(sorted(place), 2):
            said = int(np.sign(place[second] - place[first]))  # 1: the first is better, 0: equal, -1: the second
            logs[first, second] += np.log((1 - share) / 2)
            logs[first, second][said] += np.log(share) - np.log((1 - share) / 2)
    if not logs:
        return 0.0
    table = np.array(list(logs.values()))
    likely = np.exp(table - table.max(axis=1, keepdims=True))
    return float((1 / likely.sum(axis=1)).mean())


def _reliabilities(campaign: Campaign) -> dict[int, float]:
    kept = latest_statistics(campaign)
    known = kept.qualities if kept else []
    return {one.person: one.reliability.value for one in known if one.reliability.value is not None}


def _counted(campaign: Campaign, items: set[int]) -> Sequence[tuple[int, int, int, int]]:
    """These items with their usual slots that are done, held and open, without those that nobody shall be given."""

    def slots(state: Slot.State) -> Count:
        return Count("slots", filter=Q(slots__kind=Kind.NORMAL, slots__state=state))

    found = campaign.items.filter(pk__in=items).exclude(overlap=0)
    return list(
        found.annotate(
            done=slots(Slot.State.DONE), held=slots(Slot.State.LEASED), free=slots(Slot.State.OPEN)
        ).values_list("pk", "done", "held", "free")
    )

"""Gold items: their answer is known, so they tell how well somebody answers. `checks` gives them out.

Managers mark them one by one, by a `gold` field in a file, or because enough people agreed. From then on an item is
nobody's usual work; answers that it has stay. An answer is right when it prefers everything that the gold answer
prefers; of two that are equally good there, it may say anything.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.models import User
from labeling.audit import record
from labeling.events import campaign_changed
from labeling.models import Campaign, Completion, Gold, Item, Kind, Ranking
from labeling.protocols.basics import (
    LABELS,
    InvalidRanking,
    Tiers,
    checked_note,
    in_words,
    labels_of_tiers,
    ranking_tiers,
)
from labeling.queue.overlap import set_overlap
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share, wilson
from rewardmodel.stats.pairs import preferences_of

CLEAR = 3  # people who said the same, and nobody anything else
LATEST_CHECKS = 100  # of a person, by which they are judged
NEWEST = 20_000  # answers that are looked through for such items
SHOWN = 20


@dataclass(frozen=True)
class CheckResults:
    """How one person did: right answers to gold items, and the same answer to what they answered before."""

    gold: Estimate
    consistency: Estimate


@dataclass(frozen=True)
class GoldItem:
    """A gold item, with how often it was answered and how often right; almost never may mean that it is wrong."""

    gold: Gold
    answers: int
    right: int


@dataclass(frozen=True)
class Candidate:
    """An item about which `people` said the same."""

    item: str
    title: str
    tiers: Tiers
    people: int

    @property
    def words(self) -> str:
        """`B > A = C`"""
        return in_words(labels_of_tiers(self.tiers, range(len(LABELS))))


@transaction.atomic
def mark_gold(item: Item, *, tiers: Any, user: User | None, explanation: str = "") -> Gold:
    """From now on the item checks people. Raises InvalidRanking where the answer prefers nothing."""
    values = {
        "campaign": item.campaign,
        "tiers": _gold_tiers(tiers, item.campaign.protocol, item.completions.count()),
        "explanation": checked_note(explanation),
        "user": user,
    }
    gold = Gold.objects.update_or_create(item=item, defaults=values)[0]
    set_overlap(item.campaign, [item.pk], 0)
    record(user, "gold.mark", item.public_id, campaign=item.campaign, tiers=gold.tiers)
    campaign_changed(item.campaign)
    return gold


@transaction.atomic
def unmark_gold(item: Item, *, by: User | None = None) -> None:
    """The item is usual work again. What people answered while it was gold still tells about them."""
    if not Gold.objects.filter(item=item).delete()[0]:
        return
    record(by, "gold.unmark", item.public_id, campaign=item.campaign)
    set_overlap(item.campaign, [item.pk], None)
    campaign_changed(item.campaign)


def mark_imported(campaign: Campaign, rows: Mapping[int, Mapping[str, Any]]) -> int:
    """Make gold of new items whose row in a file had a `gold` answer. How many had one that fits."""
    sizes: dict[int, int] = defaultdict(int)
    claimed = [item for item, row in rows.items() if "gold" in row]
    for item in Completion.objects.filter(item__in=claimed).order_by().values_list("item", flat=True):
        sizes[item] += 1
    golds = []
    for item in claimed:
        try:
            tiers = _gold_tiers(rows[item]["gold"], campaign.protocol, sizes[item])
        except InvalidRanking:
            continue  # the field means something else in this file
        why = str(rows[item].get("gold_explanation", ""))[:10_000]
        golds.append(Gold(item_id=item, campaign=campaign, tiers=tiers, explanation=why))
    Gold.objects.bulk_create(golds)
    if golds:
        set_overlap(campaign, [gold.item_id for gold in golds], 0)
    return len(golds)


def is_right(tiers: Tiers, gold: Tiers) -> bool:
    """Whether an answer prefers everything that the gold answer prefers."""
    place = {index: number for number, tier in enumerate(tiers) for index in tier}
    wanted = [(one.chosen, one.rejected) for one in preferences_of(gold) if one.mu != 0.5]
    return all(better in place and worse in place and place[better] < place[worse] for better, worse in wanted)


# A check with what it is held against: the gold answer, or the person's usual answer to the same item.
CHECKS = """
SELECT kind, user_id, tiers, created_at, CASE kind WHEN 'gold' THEN
           (SELECT gold.tiers FROM labeling_gold gold WHERE gold.item_id = latest.item_id)
       ELSE (SELECT usual.tiers FROM labeling_ranking usual
             WHERE usual.item_id = latest.item_id AND usual.user_id = latest.user_id AND usual.status = 'accepted'
               AND usual.kind = 'normal' AND NOT usual.cannot_tell LIMIT 1) END
FROM unnest(%(people)s::bigint[]) person CROSS JOIN LATERAL (
    SELECT kind, user_id, item_id, tiers, created_at FROM labeling_ranking
    WHERE campaign_id = %(campaign)s AND user_id = person AND kind IN ('gold', 'repeat') AND status = 'accepted'
    ORDER BY id DESC LIMIT %(latest)s) latest
"""


def results_of(
    campaign: Campaign, people: Iterable[int], since: Mapping[int, datetime] | None = None
) -> dict[int, CheckResults]:
    """By person, for those who answered a check: of their latest, of some only of what they answered `since` then."""
    right: dict[int, list[bool]] = defaultdict(list)
    same: dict[int, list[float]] = defaultdict(list)
    parameters: dict[str, Any] = {"campaign": campaign.pk, "people": list(people), "latest": LATEST_CHECKS}
    with connection.cursor() as cursor:
        rows = cursor.execute(CHECKS, parameters).fetchall()
    for kind, user, answer, created_at, known in rows:
        if known is None or (since and created_at < since.get(user, created_at)):
            continue
        if kind == Kind.GOLD:
            right[user].append(_is_right(answer, known))
        elif answer != "[]":
            same[user].append(_share_alike(known, answer))
    nothing = Estimate.undefined(gettext_noop("no such item came yet"))
    return {
        user: CheckResults(
            wilson(sum(right[user]), len(right[user])) if right[user] else nothing,
            clustered_share(same[user], [1.0] * len(same[user])) if same[user] else nothing,
        )
        for user in right.keys() | same.keys()
    }


def shown(campaign: Campaign) -> QuerySet[Gold]:
    """Its gold items, without those that were taken out."""
    return campaign.golds.filter(item__removed_at=None).select_related("item")


def golds_of(golds: Sequence[Gold]) -> list[GoldItem]:
    """With what people answered."""
    answers: dict[int, list[tuple[int, bool]]] = defaultdict(list)
    tiers_of = {gold.pk: gold.tiers for gold in golds}
    given = Ranking.objects.given().filter(kind=Kind.GOLD, item__in=tiers_of)
    for item, tiers, count in given.values_list("item_id", "tiers").annotate(count=Count("pk")):
        answers[item].append((count, is_right(tiers, tiers_of[item])))
    return [
        GoldItem(
            gold,
            sum(count for count, _ in answers[gold.pk]),
            sum(count for count, right in answers[gold.pk] if right),
        )
        for gold in golds
    ]


def share_alike(first: Tiers, second: Tiers) -> float:
    """Share of pairs of completions of which both answers say the same."""
    before, again = _said(first), _said(second)
    both = before.keys() & again.keys()
    return sum(before[pair] == again[pair] for pair in both) / len(both) if both else 0.0


CANDIDATES = """
SELECT item.public_id, left(item.messages->-1->>'content', 400), agreed.tiers, agreed.people
FROM (SELECT item_id, min(tiers::text)::jsonb AS tiers, count(*) AS people
      FROM (SELECT item_id, tiers, cannot_tell FROM labeling_ranking
            WHERE campaign_id = %(campaign)s AND status = 'accepted' AND kind = 'normal' AND origin = 'person'
            ORDER BY id DESC LIMIT %(newest)s) newest
      GROUP BY item_id
      HAVING count(*) >= %(clear)s AND count(DISTINCT tiers) = 1 AND min(jsonb_array_length(tiers)) > 1) agreed
JOIN labeling_item item ON item.id = agreed.item_id
WHERE NOT EXISTS (SELECT FROM labeling_gold gold WHERE gold.item_id = item.id)
ORDER BY agreed.people DESC, item.id LIMIT %(shown)s
"""


def candidates_of(campaign: Campaign) -> list[Candidate]:
    """Items that people agreed about, to make gold of; those with the most answers first."""
    parameters = {"campaign": campaign.pk, "newest": NEWEST, "clear": CLEAR, "shown": SHOWN}
    with connection.cursor() as cursor:
        rows = cursor.execute(CANDIDATES, parameters).fetchall()
    return [Candidate(item, title or "", json.loads(tiers), people) for item, title, tiers, people in rows]


# Of many answers few are different from all others.
@lru_cache(maxsize=10_000)
def _is_right(tiers: str, gold: str) -> bool:
    return is_right(json.loads(tiers), json.loads(gold))


@lru_cache(maxsize=10_000)
def _share_alike(first: str, second: str) -> float:
    return share_alike(json.loads(first), json.loads(second))


def _said(tiers: Tiers) -> dict[frozenset[int], int | None]:
    """Which of each two completions is better, None where they are equal."""
    preferences = preferences_of(tiers)
    return {frozenset(one[:2]): None if one.mu == 0.5 else one.chosen for one in preferences}


def _gold_tiers(tiers: Any, protocol: str, size: int) -> Tiers:
    checked = ranking_tiers(tiers, protocol, size)
    if len(checked) < 2:
        raise InvalidRanking(_("A gold answer says which one is better."))
    return checked

"""Queues ordered by what teaches most: in the background a batch of items is chosen and put in front.

Of the slots that would be next, the items are judged (by the disagreement of a reward ensemble trained on this
campaign where there is one, else by `gains`) and `stats.active.choose` picks a batch: the best, and now and then any.
Its slots get negative priorities in the order chosen, and the propensity of the choice, which stays with the answer.
The rest keeps its random order, and so does everything while nothing is known.

Nobody waits for this. Reading and judging hold no lock; the one statement that writes passes over slots which are being
claimed, as claims pass over slots that it writes. Only a claim that finds nothing at all waits until that statement is
through (`assignment.wait_for_order`) and looks again. Locks are taken in the order: the campaign's row of `Steering`,
its advisory lock, slots without waiting; so whoever holds the advisory lock waits for nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import numpy as np
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Sum
from django.utils import timezone

from labeling.events import campaign_changed
from labeling.models import Campaign, Completion, ItemGain, Slot, Steering
from labeling.quality.answers import read_answers, sources_of
from labeling.queue.assignment import QUEUE_LOCK
from labeling.queue.gains import Gains, gains_by_sources
from rewardmodel.stats import active

logger = logging.getLogger(__name__)

FEWEST = 10  # answers of people before anything is chosen by them
NEWS = 0.02  # share of new answers after which a choice is out of date
CANDIDATES = 20_000  # slots whose items are chosen from
MOST = 1_000  # slots chosen
AHEAD = 10  # times as many are chosen as are answered until the next choice
EXPLORE = 0.1  # chance to choose any candidate instead of the best


@dataclass(frozen=True)
class Standing:
    """How a campaign's queue stands. `waiting` chosen slots are still to be answered.

    `made_at` is None where nothing was chosen: `answers` of `fewest` are there, or nothing tells items apart.
    """

    made_at: datetime | None
    waiting: int
    candidates: int
    judge: str
    answers: int
    fewest: int = FEWEST
    explore: float = EXPLORE


def standing(campaign: Campaign) -> Standing | None:
    """For the campaign's page; None where the order is random by choice."""
    if campaign.order != Campaign.Order.INFORMATIVE:
        return None
    row = Steering.objects.filter(campaign=campaign).first() or Steering(campaign=campaign)
    made_at = row.made_at if row.chosen else None
    return Standing(made_at, _waiting(campaign), row.candidates, row.judge, _answers(campaign))


def order_queues() -> int:
    """Choose anew wherever it is due; of several workers one does each. How many there were."""
    done = 0
    for campaign in Campaign.objects.filter(state=Campaign.State.OPEN, order=Campaign.Order.INFORMATIVE):
        row, answers = Steering.objects.get_or_create(campaign=campaign)[0], _answers(campaign)
        if not _is_due(row, answers):
            continue
        began = Steering.objects.filter(pk=row.pk, turn=row.turn)
        if began.update(turn=F("turn") + 1, answers=answers, wanted=False):
            choose_next(campaign, turn=row.turn + 1, random=np.random.default_rng())
            done += 1
    return done


def choose_next(campaign: Campaign, *, turn: int, random: np.random.Generator) -> None:
    """Judge, choose and put in front; nothing happens if a later turn has begun meanwhile."""
    items, gains, judge = _judged(campaign)
    if not gains.any():
        _put_in_front(campaign, turn, [], [], candidates=0, judge="")
        return
    wanted = min(MOST, AHEAD * _news(_answers(campaign))) // campaign.overlap
    choices = active.choose(gains, max(wanted, 1), explore=EXPLORE, random=random)
    chosen = [items[index] for index in choices.index]
    _put_in_front(campaign, turn, chosen, choices.propensity.tolist(), candidates=len(items), judge=judge)


@transaction.atomic
def start_over(campaign: Campaign) -> None:
    """The way in which the queue is ordered was changed: all is in random order, until something is chosen."""
    row = Steering.objects.select_for_update().get_or_create(campaign=campaign)[0]
    row.turn, row.wanted, row.chosen = row.turn + 1, True, 0
    row.save(update_fields=["turn", "wanted", "chosen"])
    _write(campaign, [], [])


@transaction.atomic
def take_gains(campaign: Campaign, gains: Mapping[str, float], *, model: str) -> None:
    """From now on choose by these gains, by public id of the item, as long as any of these items is open."""
    row = Steering.objects.select_for_update().get_or_create(campaign=campaign)[0]
    row.wanted, row.model = True, model[:120]
    row.save(update_fields=["wanted", "model"])
    ItemGain.objects.filter(item__campaign=campaign).delete()
    items = campaign.items.filter(public_id__in=gains).values_list("pk", "public_id")
    ItemGain.objects.bulk_create(
        ItemGain(item_id=item, gain=gains[public_id]) for item, public_id in items if isfinite(gains[public_id])
    )


def next_items(campaign: Campaign, slots: int) -> list[int]:
    """Items of that many open slots that are next, in the order of the queue."""
    with connection.cursor() as cursor:
        rows = cursor.execute(NEXT_SLOTS, {"campaign": campaign.pk, "slots": slots}).fetchall()
    return list(dict.fromkeys(item for (item,) in rows))


NEXT_SLOTS = """
SELECT item_id FROM labeling_slot
WHERE campaign_id = %(campaign)s AND state = 'open'
ORDER BY priority, random_key LIMIT %(slots)s
"""
# What was chosen before and is still open goes back, unless it is chosen again.
PUT_IN_FRONT = """
WITH chosen AS (
    SELECT * FROM unnest(%(items)s::bigint[], %(propensity)s::float8[]) WITH ORDINALITY
        AS chosen (item_id, propensity, place)
), touched AS MATERIALIZED (
    SELECT id, item_id FROM labeling_slot slot
    WHERE state = 'open' AND id IN (
        SELECT id FROM labeling_slot WHERE item_id IN (SELECT item_id FROM chosen)
        UNION
        SELECT id FROM labeling_slot WHERE campaign_id = %(campaign)s AND state = 'open' AND priority < 0)
    FOR UPDATE OF slot SKIP LOCKED
)
UPDATE labeling_slot slot
SET priority = COALESCE(chosen.place - %(count)s - 1, 0), propensity = chosen.propensity
FROM touched LEFT JOIN chosen USING (item_id) WHERE slot.id = touched.id
RETURNING slot.priority
"""


def _is_due(row: Steering, answers: int) -> bool:
    if row.wanted:
        return answers >= FEWEST or bool(row.model)
    if answers == row.answers:
        return False
    used_up = row.chosen > 0 and _waiting(row.campaign) <= row.chosen // 5
    return used_up or abs(answers - row.answers) >= _news(row.answers)


def _news(answers: int) -> int:
    """How many more answers make a choice by these out of date."""
    return max(FEWEST, int(NEWS * answers))


def _answers(campaign: Campaign) -> int:
    """Of people, a running sum."""
    given: int = campaign.contributions.aggregate(sum=Sum(F("done") + F("extra"), default=0))["sum"]
    return given


def _waiting(campaign: Campaign) -> int:
    return campaign.slots.filter(state=Slot.State.OPEN, priority__lt=0).count()


def _judged(campaign: Campaign) -> tuple[list[int], Gains, str]:
    """Candidates, what each is expected to teach, and the reward model that says so."""
    is_open = Exists(Slot.objects.filter(item=OuterRef("item"), state=Slot.State.OPEN))
    judged = dict(ItemGain.objects.filter(is_open, item__campaign=campaign).values_list("item", "gain"))
    if any(judged.values()):
        return list(judged), np.array(list(judged.values())), Steering.objects.get(campaign=campaign).model
    items = next_items(campaign, CANDIDATES)
    shown: dict[int, list[str]] = {item: [] for item in items}
    for item, source in Completion.objects.filter(item__in=items).order_by().values_list("item", "source").iterator():
        shown[item].append(source)
    answers = read_answers(campaign)
    return items, gains_by_sources(answers, sources_of(answers.items), list(shown.values())), ""


def _put_in_front(
    campaign: Campaign, turn: int, items: list[int], propensity: list[float], *, candidates: int, judge: str
) -> None:
    with transaction.atomic():
        row = Steering.objects.select_for_update().filter(campaign=campaign, turn=turn).first()
        if row is None:
            return
        row.candidates, row.judge, row.made_at = candidates, judge, timezone.now()
        row.chosen = _write(campaign, items, propensity)
        row.save(update_fields=["candidates", "judge", "made_at", "chosen"])
        campaign_changed(campaign)
    logger.info("Put %d slots of campaign %s in front.", row.chosen, campaign.public_id)


def _write(campaign: Campaign, items: list[int], propensity: list[float]) -> int:
    """Give these items' open slots the first places and all others none. How many slots got one."""
    parameters: dict[str, Any] = {
        "campaign": campaign.pk,
        "items": items,
        "propensity": propensity,
        "count": len(items),
    }
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock({QUEUE_LOCK})", parameters)
        return sum(priority < 0 for (priority,) in cursor.execute(PUT_IN_FRONT, parameters).fetchall())

"""The training phase: before the live queue, newcomers answer items whose answer is known, and are told at once.

The items are gold items that have an explanation. Whoever answers enough of them right goes on to the live queue; of
others a manager is told, who lets them go on as after any pause. Whoever worked in the campaign before it had a
training goes on working. Where there is no explained gold item left, nobody is kept waiting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext_noop

from accounts.models import User
from labeling.models import Campaign, Contribution, Gold, PracticeAnswer, QualityRules
from labeling.protocols.basics import LABELS, Tiers, ranking_tiers
from labeling.protocols.questionnaire import parse_form
from labeling.quality.gold import is_right
from labeling.quality.watch import pause
from labeling.queue.assignment import ShownCompletion, Task, lock_contribution

FAILED = gettext_noop("Training: {} of {} right, {} % are needed.")


@dataclass(frozen=True)
class Practice:
    """Where somebody is in their training; `gold` is the next item, None when it is over."""

    answered: int
    right: int
    wanted: int
    gold: Gold | None


def is_due(user: User, campaign: Campaign) -> bool:
    """Whether the person has to train before they are given work."""
    known = Contribution.objects.filter(campaign=campaign, user=user).values_list("practised", flat=True).first()
    if known is not None:
        return not known
    return QualityRules.objects.filter(campaign=campaign, practice_items__gt=0).exists()


def practice_of(user: User, campaign: Campaign) -> Practice:
    rules = QualityRules.objects.get_or_create(campaign=campaign)[0]
    results = list(_answers(user, campaign).values_list("right", flat=True))
    gold = _next_gold(user, campaign) if len(results) < rules.practice_items else None
    return Practice(len(results), sum(results), rules.practice_items, gold)


def task_of(user: User, gold: Gold) -> Task:
    """The item as this person sees it, always in the same order. Nothing is leased."""
    item, campaign = gold.item, gold.campaign
    texts = [completion.messages for completion in item.completions.order_by("index")]
    order = list(range(len(texts)))
    random.Random(f"{user.pk}/{item.pk}").shuffle(order)
    return Task(
        lease=uuid4(),
        expires_at=gold.created_at,
        item=item.public_id,
        protocol=campaign.protocol,
        form=parse_form(campaign.form),
        form_version=campaign.form_version,
        messages=item.messages,
        completions=[ShownCompletion(label, index, texts[index]) for label, index in zip(LABELS, order, strict=False)],
    )


@transaction.atomic
def answer(user: User, gold: Gold, *, tiers: Tiers, cannot_tell: bool = False) -> PracticeAnswer:
    """Keep and judge an answer; the first one to an item counts. Raises InvalidRanking."""
    lock_contribution(user, gold.campaign)
    size = gold.item.completions.count()
    tiers = ranking_tiers(tiers, gold.campaign.protocol, size, cannot_tell=cannot_tell)
    values = {"campaign": gold.campaign, "tiers": tiers, "right": is_right(tiers, gold.tiers)}
    return PracticeAnswer.objects.get_or_create(user=user, item=gold.item, defaults=values)[0]


@transaction.atomic
def finish(user: User, campaign: Campaign, *, now: datetime) -> bool:
    """At the end: let the person into the live queue, or leave that to a manager. Whether they are in."""
    contribution = lock_contribution(user, campaign)
    practice = practice_of(user, campaign)
    if contribution.practised or practice.gold is not None:
        return contribution.practised
    needed = campaign.rules.practice_accuracy
    contribution.practised = True  # whom a manager lets go on need not train again
    contribution.save(update_fields=["practised"])
    if 100 * practice.right >= needed * practice.answered:
        return True
    pause(contribution, because=FAILED.format(practice.right, practice.answered, needed))
    return False


def _answers(user: User, campaign: Campaign) -> QuerySet[PracticeAnswer]:
    return PracticeAnswer.objects.filter(campaign=campaign, user=user)


def _next_gold(user: User, campaign: Campaign) -> Gold | None:
    """Everybody trains with the same items, in the order in which managers explained them."""
    done = Exists(PracticeAnswer.objects.filter(item=OuterRef("item"), user=user))
    explained = campaign.golds.filter(item__removed_at=None).exclude(explanation="").exclude(done)
    return explained.select_related("item", "campaign").order_by("created_at", "pk").first()

"""Hidden checks: gold items, whose answer is known, and repeats of what a person answered before.

They are scheduled per person, not diced per request: of every N items exactly one is a check, at a random place among
them. How many answers make the next one due stands in the person's `Contribution`, so that claiming a usual item costs
no more than before; only when a check is due, a slot is made for this person alone (`Slot.kind`), and gold and repeats
take turns. On the screen, in the API and in a person's own counts nothing tells a check from any other item.

Answers to checks tell about people: they never enter progress, exports, statistics or training
(`RankingQuerySet.accepted`). Who leaves a check without an answer is given one at once; a gold item that was skipped
does not come back.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Floor, Random

from accounts.models import User
from labeling.models import (
    Campaign,
    Completion,
    Contribution,
    Gold,
    Kind,
    PracticeAnswer,
    QualityRules,
    Ranking,
    Skip,
    Slot,
)
from labeling.queue.overlap import is_out

REPEAT_AFTER = 10  # answers of the person in between, so that they hardly remember
AMONG = 200  # items that one is drawn from
FIRST_LEASE = timedelta(minutes=2)  # the claim that follows at once sets the right one


def check_every(campaign: Campaign) -> int:
    """Of how many items one is a check; 0: none."""
    return QualityRules.objects.filter(campaign=campaign).values_list("check_every", flat=True).first() or 0


def first_check(campaign: Campaign) -> int | None:
    """For somebody who has answered nothing yet."""
    every = check_every(campaign)
    return random.randrange(every) if every else None


def reschedule(campaign: Campaign, every: int) -> None:
    """Everybody's next check, after `check_every` was changed."""
    given = F("done") + F("extra") + F("checks")
    campaign.contributions.update(next_check=given + Floor(Random() * every) if every else None)


def plan_check(user: User, campaign: Campaign, *, now: datetime, after: UUID | None = None) -> bool:
    """If a check is due, lease one to the person; if there is none for them, put it off. False if none is due.

    With `after`, ahead of its time: due once that lease is answered. Needs the person's `Contribution` locked.
    """
    person = Contribution.objects.get(campaign=campaign, user=user)
    given = person.given + (after is not None)
    if person.next_check is None or given < person.next_check or person.paused_at:
        return False
    if campaign.state != Campaign.State.OPEN:
        return False
    every = max(check_every(campaign), 1)
    # The next block of N begins where this one ends.
    person.next_check = (given // every + 1) * every + random.randrange(every)
    person.save(update_fields=["next_check"])
    kinds = [Kind.GOLD, Kind.REPEAT]
    for kind in kinds if person.checks % 2 == 0 else reversed(kinds):
        item = _gold_for(user, campaign) if kind == Kind.GOLD else _repeat_for(user, campaign)
        if item is not None and not is_out(item, user.pk):
            _lease(user, campaign, item, kind, now, shown=after is None)
            break
    return True


def check_again(contribution: Contribution) -> None:
    """Somebody left a check unanswered: it is due again. Needs the row locked."""
    if contribution.next_check is not None:
        contribution.next_check = contribution.given
        contribution.save(update_fields=["next_check"])


def _gold_for(user: User, campaign: Campaign) -> int | None:
    mine = {"item": OuterRef("item"), "user": user}
    known = Q(status=Ranking.Status.ACCEPTED) | Q(late=True)
    untouched = campaign.golds.filter(item__removed_at=None).exclude(
        Exists(Slot.objects.filter(**mine))
        | Exists(Skip.objects.filter(**mine))
        | Exists(PracticeAnswer.objects.filter(**mine))
        | Exists(Ranking.objects.filter(known, **mine))
    )
    return _any_of(untouched.order_by("pk"))


def _repeat_for(user: User, campaign: Campaign) -> int | None:
    """An item of which the person gave a usual answer a while ago, and none to a repeat yet."""
    mine = {"item": OuterRef("item"), "user": user}
    usual = Ranking.objects.given().filter(campaign=campaign, user=user, kind=Kind.NORMAL, cannot_tell=False)
    older = usual.order_by("-pk").values("pk")[REPEAT_AFTER : REPEAT_AFTER + AMONG]
    fresh = Ranking.objects.filter(pk__in=older).exclude(
        Exists(Slot.objects.filter(kind=Kind.REPEAT, **mine))
        | Exists(Ranking.objects.filter(kind=Kind.REPEAT, **mine))
        | Exists(Gold.objects.filter(item=OuterRef("item")))
    )
    return _any_of(fresh.order_by("-pk"))


def _any_of(rows: QuerySet[Any]) -> int | None:
    items = list(rows.values_list("item_id", flat=True)[:AMONG])
    return random.choice(items) if items else None


def _lease(user: User, campaign: Campaign, item: int, kind: Kind, now: datetime, *, shown: bool) -> None:
    order = list(Completion.objects.filter(item=item).values_list("index", flat=True))
    random.shuffle(order)
    Slot.objects.create(
        campaign=campaign,
        item_id=item,
        kind=kind,
        state=Slot.State.LEASED,
        user=user,
        lease=uuid4(),
        leased_at=now if shown else None,
        expires_at=now + FIRST_LEASE,
        shown_order=order,
    )

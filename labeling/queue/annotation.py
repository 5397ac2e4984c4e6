"""Submit, undo and revise a ranking: one transaction each, one hint to open pages.

Submitting is a compare-and-set on the lease token, and the token is the idempotency key. An answer is never dropped:
when its lease has lapsed it fills another free slot of the item, or replaces the same person's other answer to it, or
is kept as an extra (`late`). A lease that ran out counts as live as long as nobody took the slot. In a campaign that
is paused or closed, answers to live leases are taken, later ones are kept as extras.

Lock order everywhere: the person's `Contribution`, slots, the item (where it may be taken out), rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NotRequired, TypedDict, Unpack
from uuid import uuid4

from django.db import transaction
from django.db.models import Case, Q, When
from django.utils.translation import gettext as _

from accounts.models import User
from config.postgres.rows import fetch_one, insert
from config.push import CHANNEL
from labeling.campaigns import form_of
from labeling.events import campaign_changed, topic_of
from labeling.models import Campaign, Completion, Contribution, Kind, LapsedLease, Ranking, Slot
from labeling.protocols.basics import plain_lines, ranking_tiers
from labeling.protocols.questionnaire import Details, checked_reply
from labeling.queue.assignment import (
    MAX_LEASE,
    LeaseLost,
    Task,
    claim_locked,
    current_task,
    lock_contribution,
    put_back,
    put_back_ahead,
    remember,
    wait_for_order,
)
from labeling.queue.overlap import is_out

MAX_OPEN_LEASES = 3  # undo gives a person slots besides the one they hold
MAX_ACTIVE_MS = 24 * 3600 * 1000


class Answer(TypedDict):
    """What a person gives. `tiers` hold completion indices, best first; there are none when they cannot tell."""

    tiers: Sequence[Sequence[int]]
    cannot_tell: NotRequired[bool]
    flags: NotRequired[Sequence[str]]
    rationale: NotRequired[str]
    active_ms: NotRequired[int]
    details: NotRequired[Details]
    form_version: NotRequired[int]  # the questions that they saw; left out, those of now


class CannotUndo(Exception):
    """There is nothing to take back, or not now; the message says why."""


# The parts run inside out, each for the EXISTS of the one around it: lock the person's row, then compare and set the
# slot, then count. A row that changed while this waited for its lock is looked at again in its newest version.
COMPLETE = """
WITH locked AS MATERIALIZED (
    SELECT id FROM labeling_contribution WHERE campaign_id = %(campaign)s AND user_id = %(user)s FOR NO KEY UPDATE
), done AS (
    UPDATE labeling_slot SET state = 'done', leased_at = COALESCE(leased_at, %(now)s)
    WHERE EXISTS (SELECT FROM locked) AND lease = %(token)s AND user_id = %(user)s AND state = 'leased'
      AND (expires_at > %(now)s OR EXISTS (SELECT FROM labeling_campaign WHERE id = %(campaign)s AND state = 'open'))
    RETURNING kind
)
UPDATE labeling_contribution
SET done = done + (SELECT count(*) FROM done WHERE kind = 'normal'),
    checks = checks + (SELECT count(*) FROM done WHERE kind <> 'normal')
WHERE EXISTS (SELECT FROM done) AND campaign_id = %(campaign)s AND user_id = %(user)s
RETURNING labeler, pg_notify(%(channel)s, %(topic)s)
"""


@transaction.atomic
def submit_ranking(user: User, lease: Slot | LapsedLease, *, now: datetime, **answer: Unpack[Answer]) -> Ranking:
    """Keep the person's ranking of what the lease showed them. Raises InvalidRanking.

    The same token with the same answer gives the same row; with another answer it raises LeaseLost.
    """
    return _submit(user, lease, now, answer)


@transaction.atomic
def submit_and_claim(
    user: User, lease: Slot | LapsedLease, *, now: datetime, **answer: Unpack[Answer]
) -> tuple[Ranking, Task | None]:
    """`submit_ranking` and the next task, with one commit."""
    ranking = _submit(user, lease, now, answer)
    return ranking, claim_locked(user, lease.campaign, now=now)


@transaction.atomic
def undo_last(user: User, campaign: Campaign, *, now: datetime) -> Task | None:
    """Withdraw the person's last answer and give its slot back to them, as it was shown. Raises CannotUndo.

    None if the answer was an extra: it is withdrawn, but there is no slot to give.
    """
    if campaign.state != Campaign.State.OPEN:
        raise CannotUndo(_("The campaign is not open, so answers stay as they are."))
    contribution = lock_contribution(user, campaign)
    answers = Ranking.objects.given().filter(campaign=campaign, user=user)
    last = answers.select_related("slot").order_by("-id").first()
    if last is None or is_out(last.item_id, user.pk):
        raise CannotUndo(_("There is no answer to take back."))
    put_back_ahead(contribution)
    if Slot.objects.filter(campaign=campaign, user=user, state=Slot.State.LEASED).count() >= MAX_OPEN_LEASES:
        raise CannotUndo(_("Answer the items that you took back first."))
    last.status = Ranking.Status.WITHDRAWN
    last.save(update_fields=["status"])
    campaign_changed(campaign)
    _count(contribution, **{_counted_as(last): -1})
    slot = last.slot
    if slot is None:
        return None
    if slot.lease:
        remember(user, slot.lease, slot)
    slot.state, slot.lease, slot.leased_at, slot.expires_at = Slot.State.LEASED, uuid4(), now, now + MAX_LEASE
    slot.save(update_fields=["state", "lease", "leased_at", "expires_at"])
    return current_task(user, campaign)


@transaction.atomic
def revise(user: User, ranking: Ranking, **answer: Unpack[Answer]) -> Ranking:
    """A new version of an accepted answer of this person; its time is added. Raises InvalidRanking, LeaseLost."""
    campaign = ranking.campaign
    if campaign.state != Campaign.State.OPEN:
        raise LeaseLost(_("The campaign is not open, so answers stay as they are."))
    lock_contribution(user, campaign)
    old = Ranking.objects.given().filter(pk=ranking.pk, user=user).first()
    if old is None or is_out(old.item_id, user.pk):
        raise LeaseLost(_("This answer has been changed or taken back since."))
    shown = LapsedLease(campaign=campaign, item_id=old.item_id, user=user, shown_order=old.shown_order, kind=old.kind)
    new = _new_ranking(user, shown, answer)
    new.active_ms = min(old.active_ms + new.active_ms, MAX_ACTIVE_MS)
    campaign_changed(campaign)
    return _supersede(old, new)


def _submit(user: User, lease: Slot | LapsedLease, now: datetime, answer: Answer) -> Ranking:
    ranking = _new_ranking(user, lease, answer)
    if isinstance(lease, Slot) and (labeler := _complete(user, lease, now)):
        ranking.slot, ranking.labeler = lease, labeler
        insert(ranking)
    else:
        ranking = _submit_lapsed(user, lease, ranking, now)
        campaign_changed(lease.campaign)
    return ranking


def _new_ranking(user: User, lease: Slot | LapsedLease, answer: Answer) -> Ranking:
    campaign = lease.campaign
    cannot_tell = answer.get("cannot_tell", False)
    tiers = ranking_tiers(answer["tiers"], campaign.protocol, len(lease.shown_order), cannot_tell=cannot_tell)
    version = answer.get("form_version", campaign.form_version)
    reply = checked_reply(
        form_of(campaign, version),
        tiers,
        lease.shown_order,
        flags=answer.get("flags", ()),
        rationale=answer.get("rationale", ""),
        details=_without_unchanged(lease, answer.get("details")),
    )
    return Ranking(
        item_id=lease.item_id,
        campaign=campaign,
        user=user,
        tiers=tiers,
        cannot_tell=cannot_tell,
        shown_order=lease.shown_order,
        flags=reply.flags,
        rationale=reply.rationale,
        details=reply.details,
        active_ms=max(0, min(answer.get("active_ms", 0), MAX_ACTIVE_MS)),
        protocol=campaign.protocol,
        guidelines_version=campaign.guidelines_version,
        form_version=version,
        lease=lease.lease,
        kind=lease.kind,
    )


def _without_unchanged(lease: Slot | LapsedLease, details: Any) -> Any:
    """The page offers every completion for editing and sends all of them back: those that changed are edits."""
    answers = details.get("answers") if isinstance(details, dict) else None
    if not isinstance(answers, dict) or not isinstance(texts := answers.get("edit"), list):
        return details
    shown = Completion.objects.filter(item=lease.item_id).order_by("index").values_list("messages", flat=True)
    edits = [
        None if isinstance(text, str) and plain_lines(text) == plain_lines(messages[-1]["content"]) else text
        for text, messages in zip(texts, shown, strict=False)
    ]
    return details | {"answers": answers | {"edit": edits}}


def _complete(user: User, slot: Slot, now: datetime) -> str | None:
    """Compare-and-set: the slot is done if this lease still holds it. Returns the person's pseudonym.

    Says `campaign_changed` with the same statement.
    """
    hint = {"channel": CHANNEL, "topic": topic_of(slot.campaign)}
    parameters = {"token": slot.lease, "user": user.pk, "campaign": slot.campaign_id, "now": now, **hint}
    row = fetch_one(COMPLETE, parameters)
    return None if row is None else str(row[0])


def _submit_lapsed(user: User, lease: Slot | LapsedLease, ranking: Ranking, now: datetime) -> Ranking:
    """The answer to a lease that holds no slot, or that came in after closing time."""
    contribution = lock_contribution(user, lease.campaign)
    if (given := Ranking.objects.filter(lease=lease.lease, user=user).first()) is not None:
        return _same_again(given, ranking)
    ranking.status = Ranking.Status.REMOVED if is_out(lease.item_id, user.pk) else Ranking.Status.ACCEPTED
    put_back(user, lease)
    ranking.labeler = contribution.labeler
    other = Ranking.objects.filter(status=ranking.status, item=lease.item_id, user=user, kind=lease.kind).first()
    if other is not None:
        return _supersede(other, ranking)
    ranking.slot = _take_free_slot(user, lease, now)
    ranking.late = ranking.slot is None
    ranking.save()
    _count(contribution, **{_counted_as(ranking): 1})
    return ranking


def _same_again(given: Ranking, ranking: Ranking) -> Ranking:
    fields = ("tiers", "flags", "rationale", "details")
    if any(getattr(given, field) != getattr(ranking, field) for field in fields):
        raise LeaseLost(_("You have answered this already. Take the answer back to change it."))
    return given


def _take_free_slot(user: User, lease: Slot | LapsedLease, now: datetime) -> Slot | None:
    """Complete another slot of the item with this answer: one that the person holds by another lease, or a free one."""
    if lease.campaign.state != Campaign.State.OPEN:
        return None
    slots = Slot.objects.filter(item=lease.item_id, kind=lease.kind)
    # Their own slot may be passing on to somebody else in this very moment. Unlike for a free one, wait how that ends:
    # beside a slot that stays with them they may have no second one.
    slot = slots.select_for_update().filter(state=Slot.State.LEASED, user=user).first()
    # They may have one of another answer: a reviewer decided instead of it, or it was to a gold item.
    has_one = Slot.objects.filter(item=lease.item_id, user=user, state=Slot.State.DONE).exclude(kind=Kind.REPEAT)
    if slot is None and lease.kind == Kind.NORMAL and not has_one.exists():  # no check is free: each is somebody's
        wait_for_order(lease.campaign)
        free = Q(state=Slot.State.OPEN) | Q(state=Slot.State.LEASED, expires_at__lte=now)
        open_first = Case(When(state=Slot.State.OPEN, then=0), default=1)
        slot = slots.select_for_update(skip_locked=True).filter(free).order_by(open_first).first()
    if slot is None:
        return None
    if slot.lease and slot.user:
        remember(slot.user, slot.lease, slot)
    slot.state, slot.user, slot.lease, slot.shown_order = Slot.State.DONE, user, lease.lease, lease.shown_order
    slot.leased_at, slot.expires_at = slot.leased_at or now, now
    slot.save(update_fields=["state", "user", "lease", "shown_order", "leased_at", "expires_at"])
    return slot


def _supersede(old: Ranking, new: Ranking) -> Ranking:
    new.status, old.status = old.status, Ranking.Status.SUPERSEDED
    old.save(update_fields=["status"])
    new.previous, new.slot_id, new.late, new.labeler = old, old.slot_id, old.late, old.labeler
    new.save()
    return new


def _counted_as(ranking: Ranking) -> str:
    """Which count of its person's `Contribution` the answer is in."""
    if ranking.kind != Kind.NORMAL:
        return "checks"
    return "extra" if ranking.late else "done"


def _count(contribution: Contribution, **deltas: int) -> None:
    """Add to the person's counts. The row is locked, so the values read are the values there are."""
    for name, delta in deltas.items():
        setattr(contribution, name, getattr(contribution, name) + delta)
    contribution.save(update_fields=list(deltas))

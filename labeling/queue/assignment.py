"""Which slot next: leases, overlap, expiry, heartbeat, release, skip.

An item with overlap N has N slot rows. A slot is free when it is open or when its lease ran out; nothing has to sweep.
Claiming is one statement that walks the queue index in the order (priority, random_key), passes over slots which other
transactions hold, and leases the first whose item the person has not touched. The person's `Contribution` row is
locked before, so two requests of one person cannot lease two slots, and nobody else waits.

A lease lasts four times the median time of the campaign's latest answers, at least two and at most fifteen minutes
(items of one campaign are alike; one item has too few answers for a median). A visible page extends it, up to an hour
after it was last asked for. When a slot passes on, a `LapsedLease` remembers the old lease for a late answer.

With an overlap, a claim walks past slots still open of items that its person has answered. They lie anywhere in the
queue, so there are few before its head until somebody has answered much of the campaign alone. Starting behind the
person's last slot would be flat, and leave what others abandoned to wait for the end of the queue.

While a person looks at one item, their page may ask for the one after it, to show it without a wait. Until then it is
a lease like any other, but short and without `leased_at`: no time counts, and it is not the current task. A person
has at most one such lease; it goes back with the item before it, and when an answer is taken back.

In which order items come is `steering`'s business: it writes priorities, this only reads them. When a hidden check is
due (`checks`), nothing is claimed until one was made for the person, which then is what they hold.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.db.models import Q, Value
from django.db.models.functions import Least
from django.utils.translation import gettext as _

from accounts.models import User
from config.postgres.rows import fetch_all, fetch_one
from labeling.events import campaign_changed
from labeling.models import Campaign, Contribution, Kind, LapsedLease, QualityRules, Ranking, Skip, Slot, new_random_key
from labeling.protocols.basics import LABELS, InvalidRanking, Message, checked_note
from labeling.protocols.questionnaire import Form, parse_form
from labeling.queue.checks import check_again, first_check, plan_check

MIN_LEASE = timedelta(minutes=2)
MAX_LEASE = timedelta(minutes=15)
MAX_HOLD = timedelta(hours=1)
LEAVE_LEASE = timedelta(seconds=20)  # enough for a page to load again
AHEAD_LEASE = timedelta(seconds=90)  # three heartbeats of the page


class LeaseLost(Exception):
    """The slot has passed on to somebody else, or back to the queue."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or _("This item has moved on. Take the next one."))


@dataclass(frozen=True)
class ShownCompletion:
    label: str
    index: int
    messages: list[Message]


@dataclass(frozen=True)
class Task:
    """What one person is to compare now. Completions come in shown order, without their sources.

    `comment` is what a reviewer wrote who returned their answer to it.
    """

    lease: UUID
    expires_at: datetime
    item: str
    protocol: str
    form: Form
    form_version: int
    messages: list[Message]
    completions: list[ShownCompletion]
    comment: str = ""


LEASE_LENGTH = """
(SELECT make_interval(secs => LEAST(%(max_lease)s, GREATEST(%(min_lease)s, COALESCE(
     4 * percentile_cont(0.5) WITHIN GROUP (ORDER BY active_ms) / 1000, %(max_lease)s))))
 FROM (SELECT active_ms FROM labeling_ranking
       WHERE campaign_id = %(campaign)s AND status = 'accepted' ORDER BY id DESC LIMIT 25) latest
 WHERE active_ms > 0)
"""
TASK_COLUMNS = """
slot.lease, slot.expires_at, item.public_id, item.messages, slot.shown_order,
(SELECT jsonb_agg(messages ORDER BY index) FROM labeling_completion WHERE item_id = item.id),
COALESCE((SELECT to_jsonb(comment) FROM labeling_review review JOIN labeling_ranking given ON given.id = ranking_id
          WHERE review.item_id = item.id AND given.user_id = slot.user_id AND verdict = 'return'
            AND slot.kind = 'normal' ORDER BY review.id DESC LIMIT 1), '""')
"""
# Untouched: the person has not answered (an extra answer has no slot), skipped, or taken the item in another slot.
# Their own expired slot is untouched: coming back, they get it again. OFFSET 0 keeps each a question about one slot:
# as a join it could be answered with everything that the person did, again for each slot.
UNTOUCHED = """
    NOT EXISTS (SELECT FROM labeling_slot other WHERE other.item_id = slot.item_id AND other.user_id = %(user)s
                AND other.state IN ('leased', 'done') AND other.kind <> 'repeat' AND other.id <> slot.id OFFSET 0)
AND NOT EXISTS (SELECT FROM labeling_skip skip
                WHERE skip.item_id = slot.item_id AND skip.user_id = %(user)s OFFSET 0)
AND NOT EXISTS (SELECT FROM labeling_ranking ranking WHERE ranking.item_id = slot.item_id
                AND ranking.user_id = %(user)s AND (ranking.status = 'accepted' OR ranking.late) OFFSET 0)
"""
# Held by `steering` while it puts slots in order, which claims would pass over.
QUEUE_LOCK = "hashtextextended('queue', %(campaign)s)"
NEXT_FREE = f"""
SELECT id, item_id, state, lease, user_id, shown_order FROM labeling_slot slot
WHERE campaign_id = %(campaign)s AND state IN ('open', 'leased') AND (state = 'open' OR expires_at <= %(now)s)
  AND kind = 'normal' AND EXISTS (SELECT FROM labeling_campaign WHERE id = %(campaign)s AND state = 'open')
  AND EXISTS (SELECT FROM person WHERE check_is_due IS NOT TRUE)
  AND NOT EXISTS (SELECT FROM held) AND {UNTOUCHED}
ORDER BY priority, random_key LIMIT 1 FOR UPDATE OF slot SKIP LOCKED
"""
# The order in which the completions are shown follows from the token. What comes `after` a lease is kept for later.
CLAIM = f"""
WITH person AS MATERIALIZED (
    SELECT done + extra + checks + (%(after)s::uuid IS NOT NULL)::int >= next_check AS check_is_due
    FROM labeling_contribution
    WHERE campaign_id = %(campaign)s AND user_id = %(user)s AND paused_at IS NULL AND practised
), held AS MATERIALIZED (
    SELECT id, lease, shown_order, leased_at FROM labeling_slot
    WHERE campaign_id = %(campaign)s AND user_id = %(user)s AND state = 'leased' AND EXISTS (SELECT FROM person)
      AND lease IS DISTINCT FROM %(after)s
      AND EXISTS (SELECT FROM labeling_campaign WHERE id = %(campaign)s AND state = 'open')
    ORDER BY leased_at DESC NULLS LAST LIMIT 1 FOR UPDATE SKIP LOCKED
), free AS MATERIALIZED (
    {NEXT_FREE}
), lapsed AS (
    INSERT INTO labeling_lapsedlease (lease, campaign_id, item_id, user_id, shown_order)
    SELECT lease, %(campaign)s, item_id, user_id, shown_order FROM free WHERE state = 'leased'
), picked AS (
    SELECT id, lease AS token, shown_order, leased_at FROM held
    UNION ALL
    SELECT id, %(token)s, (SELECT jsonb_agg(index ORDER BY md5(%(token)s::text || '/' || index))
                           FROM labeling_completion WHERE item_id = free.item_id), NULL FROM free
)
UPDATE labeling_slot slot
SET state = 'leased', user_id = %(user)s, lease = picked.token, shown_order = picked.shown_order,
    leased_at = CASE WHEN %(after)s::uuid IS NULL THEN %(now)s ELSE picked.leased_at END,
    expires_at = CASE WHEN %(after)s::uuid IS NULL THEN %(now)s + {LEASE_LENGTH}
                      ELSE GREATEST(slot.expires_at, %(now)s + %(ahead_lease)s) END
FROM picked, labeling_item item
WHERE slot.id = picked.id AND item.id = slot.item_id
RETURNING {TASK_COLUMNS}
"""
CURRENT = f"""
SELECT {TASK_COLUMNS} FROM labeling_slot slot JOIN labeling_item item ON item.id = slot.item_id
WHERE slot.campaign_id = %(campaign)s AND slot.user_id = %(user)s AND slot.state = 'leased' AND leased_at IS NOT NULL
ORDER BY slot.leased_at DESC LIMIT 1
"""
# Two rows at most, the second for what was asked for ahead; the lock keeps two requests from taking them crosswise.
HEARTBEAT = f"""
WITH locked AS MATERIALIZED (
    SELECT id FROM labeling_contribution WHERE campaign_id = %(campaign)s AND user_id = %(user)s FOR NO KEY UPDATE
), seen AS MATERIALIZED (
    SELECT id, leased_at FROM labeling_slot
    WHERE EXISTS (SELECT FROM locked) AND lease = %(token)s AND user_id = %(user)s AND state = 'leased'
)
UPDATE labeling_slot slot
SET expires_at = GREATEST(slot.expires_at, LEAST(
    %(now)s + CASE WHEN slot.leased_at IS NULL THEN %(ahead_lease)s ELSE {LEASE_LENGTH} END,
    COALESCE(seen.leased_at, %(now)s) + %(max_hold)s))
FROM seen
WHERE slot.campaign_id = %(campaign)s AND slot.user_id = %(user)s AND slot.state = 'leased'
  AND (slot.id = seen.id OR slot.leased_at IS NULL)
RETURNING slot.id = seen.id, slot.expires_at
"""


@transaction.atomic
def claim_next(user: User, campaign: Campaign, *, now: datetime) -> Task | None:
    """Lease the next item to `user`, or renew the lease they hold. None: `why_empty` knows the reason."""
    lock_contribution(user, campaign)
    return claim_locked(user, campaign, now=now)


@transaction.atomic
def claim_ahead(user: User, lease: Slot | LapsedLease, *, now: datetime) -> Task | None:
    """What `claim_next` would give once this lease is answered, kept for a short time. None: nothing, or not held."""
    lock_contribution(user, lease.campaign)
    if not Slot.objects.filter(lease=lease.lease, user=user, state=Slot.State.LEASED).exists():
        return None
    return claim_locked(user, lease.campaign, now=now, after=lease.lease)


def claim_locked(user: User, campaign: Campaign, *, now: datetime, after: UUID | None = None) -> Task | None:
    """`claim_next` for a transaction that has already locked the person's `Contribution`; `after` a lease: ahead."""
    parameters = _parameters(user, campaign, now) | {"token": uuid4(), "after": after}
    task = _task(CLAIM, campaign, parameters)
    if task is None and plan_check(user, campaign, now=now, after=after):
        task = _task(CLAIM, campaign, parameters)
    if task is None and wait_for_order(campaign):
        task = _task(CLAIM, campaign, parameters)
    return task


def wait_for_order(campaign: Campaign) -> bool:
    """Let `steering` finish what it is writing, and keep it from writing until this transaction ends.

    For whoever takes only what nobody holds, and may find nothing for that reason. False if it never writes here.
    """
    if campaign.order != Campaign.Order.INFORMATIVE:
        return False
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock_shared({QUEUE_LOCK})", {"campaign": campaign.pk})
    return True


def lock_contribution(user: User, campaign: Campaign) -> Contribution:
    """The person's row, locked until the transaction ends; made on first use."""
    rows = Contribution.objects.select_for_update(no_key=True)
    known = rows.filter(campaign=campaign, user=user).first()
    if known is not None:
        return known
    to_train = QualityRules.objects.filter(campaign=campaign, practice_items__gt=0).exists()
    first = {"next_check": first_check(campaign), "practised": not to_train}
    return rows.get_or_create(campaign=campaign, user=user, defaults=first)[0]


def current_task(user: User, campaign: Campaign) -> Task | None:
    """What the person holds at this moment. Changes nothing: for showing a page again."""
    return _task(CURRENT, campaign, {"user": user.pk, "campaign": campaign.pk})


def heartbeat(user: User, lease: Slot | LapsedLease, *, now: datetime) -> datetime:
    """Extend the lease of a page that is still looked at. Returns when it ends. Raises LeaseLost."""
    parameters = _parameters(user, lease.campaign, now) | {"token": lease.lease, "max_hold": MAX_HOLD}
    extended: dict[bool, datetime] = dict(fetch_all(HEARTBEAT, parameters))
    if True not in extended:
        raise LeaseLost
    return extended[True]


@transaction.atomic
def leave(user: User, lease: Slot | LapsedLease, *, now: datetime) -> None:
    """The page went away, perhaps only to be loaded again: soon the slot is free, with what was claimed ahead."""
    lock_contribution(user, lease.campaign)
    held = Slot.objects.filter(campaign=lease.campaign, user=user, state=Slot.State.LEASED)
    shown_here = held.filter(Q(lease=lease.lease) | Q(leased_at=None))
    shown_here.update(expires_at=Least("expires_at", Value(now + LEAVE_LEASE)))


@transaction.atomic
def release(user: User, lease: Slot | LapsedLease) -> bool:
    """Put the slot back, at another place of the queue, and what was claimed ahead. False if it was not held."""
    contribution = lock_contribution(user, lease.campaign)
    put_back_ahead(contribution)
    held = put_back(user, lease)
    if held and lease.kind != Kind.NORMAL:
        check_again(contribution)
    return held


@transaction.atomic
def skip(user: User, lease: Slot | LapsedLease, *, reason: str, note: str = "") -> None:
    """Pass an item by: this person does not get it again, others do; it does not count towards the overlap."""
    reasons = [option.name for option in parse_form(lease.campaign.form).skip_reasons]
    if reason not in reasons:
        raise InvalidRanking(_("A reason is one of: {reasons}.").format(reasons=", ".join(reasons)))
    lock_contribution(user, lease.campaign)
    answers = Ranking.objects.given().filter(item=lease.item_id, user=user, kind=lease.kind)
    if not put_back(user, lease) and answers.exists():
        raise LeaseLost(_("You have answered this item already."))
    if lease.kind != Kind.REPEAT:  # of a repeat they have given an answer
        given = {"campaign": lease.campaign, "reason": reason, "note": checked_note(note)}
        Skip.objects.get_or_create(item_id=lease.item_id, user=user, defaults=given)
    campaign_changed(lease.campaign)


def put_back(user: User, lease: Slot | LapsedLease) -> bool:
    """Open the slot of a held lease and remember the lease as lapsed. Needs the person's `Contribution` locked.

    A check was for this person only: its slot goes.
    """
    held = Slot.objects.filter(lease=lease.lease, user=user, state=Slot.State.LEASED)
    if lease.kind == Kind.NORMAL:
        opened = held.update(
            state=Slot.State.OPEN,
            user=None,
            lease=None,
            leased_at=None,
            expires_at=None,
            shown_order=[],
            random_key=new_random_key(),
        )
    else:
        opened = held.delete()[0]
    if opened and lease.lease:
        remember(user, lease.lease, lease)
    return bool(opened)


def put_back_ahead(contribution: Contribution) -> None:
    """Give back what was claimed ahead. Needs the row locked."""
    mine = Slot.objects.filter(campaign=contribution.campaign_id, user=contribution.user_id)
    for slot in mine.filter(state=Slot.State.LEASED, leased_at=None):
        put_back(contribution.user, slot)
        if slot.kind != Kind.NORMAL:
            check_again(contribution)


def remember(user: User, token: UUID, lease: Slot | LapsedLease) -> None:
    """Keep what a late answer to this lease would need; after an undo it may be known already."""
    lapsed = LapsedLease(
        lease=token,
        campaign=lease.campaign,
        item_id=lease.item_id,
        user=user,
        shown_order=lease.shown_order,
        kind=lease.kind,
    )
    LapsedLease.objects.bulk_create([lapsed], ignore_conflicts=True)


def _parameters(user: User, campaign: Campaign, now: datetime) -> dict[str, Any]:
    return {
        "user": user.pk,
        "campaign": campaign.pk,
        "now": now,
        "min_lease": MIN_LEASE.total_seconds(),
        "max_lease": MAX_LEASE.total_seconds(),
        "ahead_lease": AHEAD_LEASE,
    }


def _task(statement: str, campaign: Campaign, parameters: dict[str, Any]) -> Task | None:
    row = fetch_one(statement, parameters)
    if row is None:
        return None
    lease, expires_at, item, *documents = row
    messages, shown_order, completions, comment = map(json.loads, documents)
    shown = zip(LABELS, shown_order, strict=False)
    return Task(
        lease=lease,
        expires_at=expires_at,
        item=item,
        protocol=campaign.protocol,
        form=parse_form(campaign.form),
        form_version=campaign.form_version,
        messages=messages,
        completions=[ShownCompletion(label, index, completions[index]) for label, index in shown],
        comment=comment,
    )

"""Signed webhooks: what happens is stored as deliveries in the transaction in which it happens, and sent by workers.

The form is that of Standard Webhooks (standardwebhooks.com): `webhook-id`, `webhook-timestamp` and
`webhook-signature`, an HMAC-SHA256 over all three parts. A delivery is sent at least once; its id stays the same, so
the other side knows what it has. Texts of people are never sent: an event says what to fetch.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from accounts.ids import new_public_id
from accounts.models import User
from config import outbound
from labeling.models import Campaign, Delivery, Import, Ranking, Webhook

EVENTS = {
    "answer.accepted": _("Answers were given (many at once)"),
    "campaign.state": _("A campaign was opened, paused or closed"),
    "import.finished": _("A file was imported"),
}
"""What a campaign's webhooks can hear of."""
SITE_EVENTS = EVENTS | {"run.finished": _("A training run is over"), "artifact.ready": _("A model is ready")}
TEST = "test"
DELAYS = [timedelta(seconds=s) for s in (10, 60, 300, 1800, 7200, 21600, 43200)]  # after each attempt but the last
SENDING = timedelta(seconds=3 * outbound.DEADLINE)  # how long an attempt belongs to the worker that makes it
AT_ONCE = 16
ANSWERS = 200  # in one event
SETTLED = timedelta(seconds=3)  # answers get their ids before they are there for others to read
TOLD = ("pk", "public_id", "labeler", "created_at", "campaign__public_id", "item__public_id")
KEPT = timedelta(days=30)
MOST = 20  # webhooks of a campaign, or of the site
GONE = 410


class WebhookRefused(Exception):
    """It cannot be like this; the message says why."""


# --- What there is ------------------------------------------------------------------------------------------------


def create_webhook(user: User, *, url: str, events: list[str], campaign: Campaign | None = None) -> Webhook:
    """A webhook of a campaign, or of the site. Raises WebhookRefused."""
    try:
        outbound.check_url(url)
    except outbound.NotAllowed as error:
        raise WebhookRefused(str(error)) from None
    if unknown := set(events) - events_for(campaign).keys():
        raise WebhookRefused(_("There is no event {name!r} here.").format(name=min(unknown)))
    if Webhook.objects.filter(campaign=campaign).count() >= MOST:
        raise WebhookRefused(_("There are {most} webhooks already.").format(most=MOST))
    return Webhook.objects.create(
        campaign=campaign, url=url, events=events, created_by=user, answers_after=_newest_answer()
    )


def events_for(campaign: Campaign | None) -> dict[str, str]:
    """Events to choose from. Who manages a campaign need not know of the runs on it."""
    return {name: str(words) for name, words in (EVENTS if campaign else SITE_EVENTS).items()}


def secret_of(webhook: Webhook) -> str:
    """What the other side checks signatures with."""
    key = salted_hmac("labeling.webhooks", webhook.salt, secret=settings.SECRET_KEY, algorithm="sha256").digest()
    return "whsec_" + base64.b64encode(key).decode()


def renew_secret(webhook: Webhook) -> str:
    """Another secret; the old one signs nothing any more."""
    webhook.salt = new_public_id()
    webhook.save(update_fields=["salt"])
    return secret_of(webhook)


def set_active(webhook: Webhook, active: bool) -> None:
    """Send again, or no more. What happens meanwhile is not sent later."""
    if active and not webhook.is_active:
        webhook.answers_after = _newest_answer()
    webhook.is_active, webhook.stopped = active, ""
    webhook.save(update_fields=["is_active", "stopped", "answers_after"])


def send_again(delivery: Delivery) -> None:
    """From the beginning, with the same id: who has it already can tell."""
    delivery.state, delivery.attempts, delivery.next_at = Delivery.State.WAITING, 0, timezone.now()
    delivery.save(update_fields=["state", "attempts", "next_at"])


def _newest_answer() -> int:
    return Ranking.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


# --- What happens -------------------------------------------------------------------------------------------------


def emit(event: str, data: dict[str, Any], *, campaign: Campaign | None = None) -> None:
    """Tell webhooks of the campaign and of the site; leaves with the current transaction."""
    mine = Q(campaign=None) | Q(campaign=campaign) if campaign else Q(campaign=None)
    hooks = Webhook.objects.filter(mine, is_active=True)
    _store([(hook, data) for hook in hooks if not hook.events or event in hook.events], event)


def send_test(webhook: Webhook) -> Delivery:
    """An event that means nothing."""
    [delivery] = _store([(webhook, {"message": "This is a test."})], TEST)
    return delivery


def _store(hooks: list[tuple[Webhook, dict[str, Any]]], event: str) -> list[Delivery]:
    now = timezone.now()
    return Delivery.objects.bulk_create(
        Delivery(
            webhook=hook,
            event=event,
            payload={"type": event, "timestamp": now.isoformat(), "data": data},
            next_at=now,
        )
        for hook, data in hooks
    )


def campaign_state_changed(campaign: Campaign) -> None:
    emit("campaign.state", {"campaign": campaign.public_id, "state": campaign.state}, campaign=campaign)


def import_finished(record: Import) -> None:
    numbers = {name: getattr(record, name) for name in ("accepted", "duplicates", "rejected", "rankings", "failure")}
    data = {"campaign": record.campaign.public_id, "import": record.pk, "name": record.name, **numbers}
    emit("import.finished", data, campaign=record.campaign)


def gather_answers(now: datetime) -> int:
    """Make events of the answers since the last one, for each webhook that wants them; how many answers were told."""
    told = 0
    wanted = Q(events=[]) | Q(events__contains=["answer.accepted"])
    for key in Webhook.objects.filter(wanted, is_active=True).values_list("pk", flat=True):
        while count := _gather(key, now):
            told += count
    return told


@transaction.atomic
def _gather(key: int, now: datetime) -> int:
    hook = Webhook.objects.select_for_update().get(pk=key)
    answers = Ranking.objects.accepted().filter(
        pk__gt=hook.answers_after, origin=Ranking.Origin.PERSON, created_at__lt=now - SETTLED
    )
    if hook.campaign_id:
        answers = answers.filter(campaign=hook.campaign_id)
    page = list(answers.order_by("pk").values(*TOLD)[:ANSWERS])
    if page:
        hook.answers_after = page[-1]["pk"]
        hook.save(update_fields=["answers_after"])
        _store([(hook, {"answers": [_told(row) for row in page]})], "answer.accepted")
    return len(page)


def _told(row: Any) -> dict[str, Any]:
    return {
        "id": row["public_id"],
        "campaign": row["campaign__public_id"],
        "item": row["item__public_id"],
        "labeler": row["labeler"],
        "created_at": row["created_at"].isoformat(),
    }


# --- Sending ------------------------------------------------------------------------------------------------------


def signed(webhook: Webhook, message: str, body: bytes, now: datetime) -> dict[str, str]:
    """The headers of a message."""
    stamp = str(int(now.timestamp()))
    key = base64.b64decode(secret_of(webhook).removeprefix("whsec_"))
    signature = hmac.new(key, f"{message}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "User-Agent": f"Prefloop/{settings.VERSION}",
        "webhook-id": message,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


def deliver_waiting(stop: Callable[[], bool] = lambda: False) -> int:
    """What a worker does every few seconds: gather answers, send what is due. How many were sent."""
    gather_answers(timezone.now())
    count = 0
    while not stop() and (due := _claim(timezone.now())):
        for delivery, (status, outcome) in zip(due, asyncio.run(_send_all(due)), strict=True):
            _record(delivery, status, outcome, timezone.now())
        count += len(due)
    return count


def forget_old() -> int:
    """Delete what is too old for the log; how many deliveries."""
    old = Delivery.objects.filter(created_at__lt=timezone.now() - KEPT).exclude(state=Delivery.State.WAITING)
    return old.delete()[0]


@transaction.atomic
def _claim(now: datetime) -> list[Delivery]:
    """Some deliveries that are due, which no other worker sends meanwhile."""
    waiting = Delivery.objects.filter(state=Delivery.State.WAITING, next_at__lte=now, webhook__is_active=True)
    due = list(
        waiting.select_related("webhook")
        .select_for_update(of=("self",), skip_locked=True)
        .order_by("next_at")[:AT_ONCE]
    )
    Delivery.objects.filter(pk__in=[delivery.pk for delivery in due]).update(next_at=now + SENDING)
    return due


async def _send_all(due: list[Delivery]) -> list[tuple[int | None, str]]:
    return await asyncio.gather(*map(_send, due))


async def _send(delivery: Delivery) -> tuple[int | None, str]:
    """The status that was answered, and the beginning of the answer; or what went wrong."""
    body = json.dumps(delivery.payload).encode()
    headers = signed(delivery.webhook, delivery.public_id, body, timezone.now())
    try:
        answer = await outbound.post(delivery.webhook.url, body, headers)
    except (outbound.NotAllowed, outbound.NoAnswer) as error:
        return None, str(error)
    return answer.status, answer.body[:300].decode(errors="replace").replace("\x00", "")


@transaction.atomic
def _record(delivery: Delivery, status: int | None, outcome: str, now: datetime) -> None:
    delivery.attempts += 1
    delivery.status, delivery.outcome = status, outcome
    if status is not None and 200 <= status < 300:
        delivery.state, delivery.done_at = Delivery.State.DELIVERED, now
    elif delivery.attempts <= len(DELAYS) and status != GONE and delivery.event != TEST:
        delivery.next_at = now + DELAYS[delivery.attempts - 1]
    else:
        delivery.state, delivery.done_at = Delivery.State.FAILED, now
        if delivery.event != TEST:
            _stop(delivery)
    delivery.save(update_fields=["attempts", "status", "outcome", "state", "next_at", "done_at"])


def _stop(delivery: Delivery) -> None:
    """Nobody has listened for most of a day, or said to be gone: leave the address alone."""
    reason = gettext_noop("Turned off after {} attempts without success.").format(delivery.attempts)
    if delivery.status == GONE:
        reason = gettext_noop("Turned off: the other side says that it is gone.")
    Webhook.objects.filter(pk=delivery.webhook_id).update(is_active=False, stopped=reason)


def deliveries_of(webhook: Webhook) -> QuerySet[Delivery]:
    """Its log, newest first."""
    return webhook.deliveries.order_by("-pk")

"""Webhooks: what happens is told once it is certain, signed, and sent until it is taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.models import User
from labeling import webhooks
from labeling.campaigns import change_state
from labeling.data.importing import import_rows
from labeling.models import Campaign, Delivery, Webhook
from labeling.webhooks import create_webhook, deliver_waiting, secret_of
from tests.conftest import client_for
from tests.labeling.conftest import add_items, claim, submit
from tests.receiver import Receiver

State = Delivery.State


@pytest.fixture
def hook(campaign: Campaign, admin: User, settings: Settings, receiver: Receiver) -> Webhook:
    settings.OUTBOUND = ["127.0.0.1"]
    return create_webhook(admin, url=receiver.url, events=[], campaign=campaign)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Time goes on."""
    gone = timedelta()
    now = timezone.now

    def later(more: timedelta) -> None:
        nonlocal gone
        gone += more

    monkeypatch.setattr("labeling.webhooks.timezone.now", lambda: now() + gone)
    return later


def bodies(receiver: Receiver) -> list[Any]:
    return [json.loads(body) for _, body in receiver.got]


def test_what_happens_in_a_campaign_is_told_and_signed(campaign: Campaign, hook: Webhook, receiver: Receiver) -> None:
    import_rows(campaign, [{"prompt": "Q", "completions": ["a", "b"]}, {}], name="rows.jsonl")
    change_state(campaign, "paused")
    assert deliver_waiting() == 2
    paused, imported = sorted(bodies(receiver), key=lambda body: str(body["type"]))
    assert imported["type"] == "import.finished"
    assert (imported["data"]["accepted"], imported["data"]["rejected"], imported["data"]["failure"]) == (1, 1, "")
    assert paused["data"] == {"campaign": campaign.public_id, "state": "paused"}
    assert set(hook.deliveries.values_list("state", "status", "attempts")) == {("delivered", 200, 1)}

    headers, body = receiver.got[0]
    key = base64.b64decode(secret_of(hook).removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - timezone.now().timestamp()) < 60
    assert deliver_waiting() == 0


def test_answers_are_told_many_at_once_without_what_people_wrote(
    campaign: Campaign,
    hook: Webhook,
    anna: User,
    receiver: Receiver,
    later: Callable[[timedelta], None],
) -> None:
    add_items(campaign, 3)
    Delivery.objects.all().delete()
    rankings = [submit(anna, claim(anna, campaign), rationale="A secret.") for _ in range(3)]
    deliver_waiting()
    assert receiver.got == []  # an answer with a smaller id may still be on its way
    later(timedelta(seconds=10))
    deliver_waiting()
    [message] = bodies(receiver)
    assert message["type"] == "answer.accepted"
    assert [answer["id"] for answer in message["data"]["answers"]] == [ranking.public_id for ranking in rankings]
    assert "secret" not in receiver.got[0][1].decode() and "anna" not in receiver.got[0][1].decode()
    later(timedelta(seconds=10))
    deliver_waiting()
    assert len(receiver.got) == 1


def test_what_is_undone_is_not_told(campaign: Campaign, hook: Webhook) -> None:
    class Undone(Exception):
        pass

    def refused() -> None:
        with transaction.atomic():
            change_state(campaign, "paused")
            assert hook.deliveries.count() == 1
            raise Undone

    with pytest.raises(Undone):
        refused()
    assert not hook.deliveries.exists()


def test_a_message_is_sent_again_later_and_later_then_the_webhook_is_turned_off(
    campaign: Campaign,
    hook: Webhook,
    receiver: Receiver,
    later: Callable[[timedelta], None],
) -> None:
    change_state(campaign, "paused")
    times = len(webhooks.DELAYS) + 1
    receiver.answers = [(500, {}, b"Broken.")] * times
    for delay in [*webhooks.DELAYS, None]:
        assert deliver_waiting() == 1
        assert deliver_waiting() == 0
        later((delay or timedelta()) + timedelta(seconds=1))
    delivery = hook.deliveries.get()
    assert (delivery.state, delivery.attempts, delivery.status, delivery.outcome) == ("failed", times, 500, "Broken.")
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    hook.refresh_from_db()
    assert not hook.is_active and "8 attempts" in hook.stopped
    change_state(campaign, "closed")
    assert hook.deliveries.count() == 1  # nobody listens

    webhooks.set_active(hook, True)
    webhooks.send_again(delivery)
    assert deliver_waiting() == 1
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("delivered", 1)


def test_who_says_to_be_gone_is_left_alone_and_a_test_never_turns_off(
    hook: Webhook,
    campaign: Campaign,
    receiver: Receiver,
) -> None:
    receiver.answers = [(500, {}, b"")]
    webhooks.send_test(hook)
    deliver_waiting()
    hook.refresh_from_db()
    assert hook.is_active and hook.deliveries.get().state == State.FAILED
    receiver.answers = [(410, {}, b"")]
    change_state(campaign, "paused")
    deliver_waiting()
    hook.refresh_from_db()
    assert not hook.is_active and "gone" in hook.stopped


def test_a_message_of_a_worker_that_died_is_sent_by_another(
    campaign: Campaign,
    hook: Webhook,
    receiver: Receiver,
    later: Callable[[timedelta], None],
) -> None:
    change_state(campaign, "paused")
    assert len(webhooks._claim(timezone.now())) == 1
    assert webhooks._claim(timezone.now()) == []
    assert deliver_waiting() == 0
    later(webhooks.SENDING + timedelta(seconds=1))
    assert deliver_waiting() == 1


def test_only_the_webhooks_that_want_an_event_get_it(
    campaign: Campaign,
    foreign_campaign: Campaign,
    hook: Webhook,
    admin: User,
    receiver: Receiver,
) -> None:
    picky = create_webhook(admin, url=receiver.url, events=["import.finished"], campaign=campaign)
    site = create_webhook(admin, url=receiver.url, events=["campaign.state", "run.finished"])
    change_state(foreign_campaign, "paused")
    change_state(campaign, "paused")
    webhooks.emit("run.finished", {"run": "x"})
    assert [d.event for d in hook.deliveries.order_by("pk")] == ["campaign.state"]
    assert not picky.deliveries.exists()
    assert [d.event for d in site.deliveries.order_by("pk")] == ["campaign.state", "campaign.state", "run.finished"]


def test_the_secret_is_shown_once_and_is_not_in_the_database(campaign: Campaign, manager: User, hook: Webhook) -> None:
    client = client_for(manager)
    url = f"/api/campaigns/{campaign.public_id}/webhooks"
    body = {"url": hook.url, "events": ["answer.accepted"]}
    made = client.post(url, body, content_type="application/json").json()
    assert made["secret"].startswith("whsec_")
    assert "secret" not in client.get(f"/api/webhooks/{made['id']}").json()
    row = Webhook.objects.filter(public_id=made["id"]).values().get()
    assert made["secret"] not in map(str, row.values())
    renewed = client.post(f"/api/webhooks/{made['id']}/secret").json()["secret"]
    assert renewed != made["secret"]
    for wrong in (
        {"url": "http://10.0.0.1/"},
        {"url": "ftp://127.0.0.1/"},
        {"url": hook.url, "events": ["run.finished"]},
        {"url": "javascript:alert(1)"},
    ):
        assert client.post(url, wrong, content_type="application/json").status_code == 400


def test_the_pages_make_test_and_send_again(
    campaign: Campaign,
    manager: User,
    hook: Webhook,
    receiver: Receiver,
    settings: Settings,
) -> None:
    client = client_for(manager)
    page = client.post(
        f"/campaigns/{campaign.public_id}/webhooks/", {"url": receiver.url, "events": ["campaign.state"]}
    )
    assert "whsec_" in page.text and "whsec_" not in client.get(f"/campaigns/{campaign.public_id}/webhooks/").text
    webhook = Webhook.objects.exclude(pk=hook.pk).get()
    detail = f"/webhooks/{webhook.public_id}/"
    client.post(f"{detail}change", {"action": "test"})
    receiver.answers = [(500, {}, b"<script>alert(1)</script>")]
    deliver_waiting()
    text = client.get(detail).text
    assert "Given up" in text and "<script>alert" not in text
    client.post(f"{detail}deliveries/{webhook.deliveries.get().public_id}/again")
    deliver_waiting()
    assert webhook.deliveries.get().state == State.DELIVERED
    client.post(f"{detail}change", {"action": "off"})
    webhook.refresh_from_db()
    assert not webhook.is_active
    assert "whsec_" in client.post(f"{detail}change", {"action": "secret"}).text
    client.post(f"{detail}change", {"action": "delete"})
    assert not Webhook.objects.filter(pk=webhook.pk).exists()
    settings.OUTBOUND = []
    assert "setting OUTBOUND" in client.get(f"/campaigns/{campaign.public_id}/webhooks/").text


def test_the_log_forgets_what_is_old_but_nothing_that_waits(
    campaign: Campaign, hook: Webhook, later: Callable[[timedelta], None]
) -> None:
    change_state(campaign, "paused")
    deliver_waiting()
    change_state(campaign, "closed")
    assert webhooks.forget_old() == 0
    later(webhooks.KEPT + timedelta(days=1))
    assert webhooks.forget_old() == 1
    assert hook.deliveries.get().state == State.WAITING

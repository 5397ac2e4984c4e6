"""Putting a queue in order while people take from it: nobody waits, nothing is lost and nothing doubled."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from accounts.models import User
from labeling.access import get_lease
from labeling.models import Campaign, Slot, Steering
from labeling.queue.annotation import submit_and_claim
from labeling.queue.assignment import QUEUE_LOCK, claim_next, release, wait_for_order
from labeling.queue.steering import order_queues, take_gains
from tests.conftest import make_user
from tests.labeling.conftest import add_items
from tests.labeling.queue.test_steering import chosen


@pytest.fixture
def chosen_once(transactional_db: None) -> Iterator[Campaign]:
    """An open campaign with 60 open slots in order."""
    owner = make_user("owner", role="admin")
    campaign = Campaign.objects.create(name="Queue", state="open", order="informative", created_by=owner)
    add_items(campaign, 60)
    take_gains(campaign, gains_of(campaign), model="Ensemble")
    order_queues()
    yield campaign


def gains_of(campaign: Campaign) -> dict[str, float]:
    return {name: 1 + number for number, name in enumerate(campaign.items.values_list("public_id", flat=True))}


def test_a_claim_passes_over_what_is_being_ordered(chosen_once: Campaign) -> None:
    """It takes another slot at once; only where there is none it waits for the order, and then finds one."""
    ben = make_user("ben", role="admin")
    writing, claimed = threading.Event(), threading.Event()
    first = chosen(chosen_once).first()
    assert first
    found: list[str] = []

    def hold(slots: Any, until: threading.Event) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_xact_lock({QUEUE_LOCK})", {"campaign": chosen_once.pk})
            slots.update(priority=0)
            writing.set()
            until.wait(20)
        connections.close_all()

    def take() -> None:
        task = claim_next(ben, chosen_once, now=timezone.now())
        found.append(task.item if task else "nothing")
        claimed.set()
        connections.close_all()

    writer = threading.Thread(target=hold, args=[Slot.objects.filter(pk=first.pk), claimed])
    writer.start()
    assert writing.wait(20)
    take()
    writer.join()
    assert found[0] not in ("nothing", first.item.public_id)

    release(ben, get_lease(ben, Slot.objects.get(state="leased").lease))
    writing.clear()
    let_go = threading.Event()
    writer = threading.Thread(target=hold, args=[Slot.objects.filter(campaign=chosen_once), let_go])
    writer.start()
    assert writing.wait(20)
    waiter = threading.Thread(target=take)
    waiter.start()
    while not is_waiting():
        assert waiter.is_alive()
    let_go.set()
    writer.join()
    waiter.join()
    assert found[1] != "nothing"


def is_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        return bool(cursor.fetchone()[0])


def test_eight_people_and_a_restless_worker_lose_and_double_nothing(chosen_once: Campaign) -> None:
    """The order is written again and again while eight people take everything there is, down to the last slot."""
    people = [make_user(f"person{n}", role="admin") for n in range(8)]
    errors: list[BaseException] = []
    ended = threading.Event()
    written = 0

    def work(person: User) -> None:
        try:
            task = claim_next(person, chosen_once, now=timezone.now())
            while task:
                lease = get_lease(person, task.lease)
                _, task = submit_and_claim(person, lease, now=timezone.now(), tiers=[[0], [1]])
            with transaction.atomic():  # what is left is held by others; ordering hid nothing
                wait_for_order(chosen_once)
                assert not list(chosen_once.slots.filter(state="open").select_for_update(skip_locked=True))
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    def order() -> None:
        nonlocal written
        try:
            while not ended.is_set():
                Steering.objects.update(wanted=True)
                written += order_queues()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    worker = threading.Thread(target=order)
    threads = [threading.Thread(target=work, args=[person]) for person in people]
    for thread in (worker, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    worker.join()
    assert not errors
    assert written > 3
    assert {slot.state for slot in chosen_once.slots.all()} == {"done"}
    assert max(Counter(chosen_once.rankings.accepted().values_list("item", flat=True)).values()) == 1
    assert chosen_once.rankings.accepted().count() == 60

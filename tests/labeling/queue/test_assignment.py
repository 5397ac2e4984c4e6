"""Who gets what, for how long, and what they are told when there is nothing."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from labeling.access import get_lease
from labeling.campaigns import change_state
from labeling.models import Campaign, Completion, Item, LapsedLease, Skip, Slot
from labeling.protocols.basics import InvalidRanking
from labeling.queue import assignment
from labeling.queue.assignment import LeaseLost, claim_next, current_task, heartbeat, release, skip
from labeling.queue.progress import Progress, progress, why_empty
from tests.conftest import make_member, make_user
from tests.labeling.conftest import NOW, add_items, claim, submit

MINUTE = timedelta(minutes=1)


def test_a_claim_leases_one_slot_and_shows_the_item_without_sources(campaign: Campaign, anna: User):
    add_items(campaign, 3)
    Completion.objects.update(source="secret model")
    task = claim(anna, campaign)
    slot = Slot.objects.get(state="leased")
    assert (slot.lease, slot.user, slot.expires_at) == (task.lease, anna, task.expires_at)
    assert task.item == slot.item.public_id
    assert task.messages == slot.item.messages
    assert [shown.label for shown in task.completions] == ["A", "B"]
    assert [shown.index for shown in task.completions] == slot.shown_order
    for shown in task.completions:
        assert shown.messages == slot.item.completions.get(index=shown.index).messages
    assert "secret" not in repr(task)


def test_completions_are_shuffled_evenly_and_independently(
    campaign: Campaign, anna: User, monkeypatch: pytest.MonkeyPatch
):
    generator = random.Random(0)
    monkeypatch.setattr(assignment, "uuid4", lambda: UUID(int=generator.getrandbits(128), version=4))
    campaign.protocol = "ranking"
    campaign.save(update_fields=["protocol"])
    add_items(campaign, 90, completions=3)
    orders: Counter[tuple[int, ...]] = Counter()
    while task := claim_next(anna, campaign, now=NOW):
        orders[tuple(shown.index for shown in task.completions)] += 1
        submit(anna, task, [[0], [1], [2]])
    assert len(orders) == 6
    assert min(orders.values()) > 7  # 15 expected of each


def test_whoever_holds_a_lease_gets_the_same_item_again(campaign: Campaign, anna: User):
    add_items(campaign, 5)
    task = claim(anna, campaign)
    again = claim(anna, campaign, NOW + 5 * MINUTE)
    assert (again.lease, again.item, again.completions) == (task.lease, task.item, task.completions)
    assert again.expires_at == task.expires_at + 5 * MINUTE
    # Even when it has run out, as long as nobody took it.
    assert claim(anna, campaign, NOW + 300 * MINUTE).lease == task.lease
    assert current_task(anna, campaign) == claim(anna, campaign, NOW + 300 * MINUTE)
    assert Slot.objects.filter(state="leased").count() == 1


def test_nobody_gets_an_item_twice_and_overlap_gives_it_to_several(campaign: Campaign, anna: User, ben: User):
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    add_items(campaign, 4)
    for person in (anna, ben):
        seen = []
        while task := claim_next(person, campaign, now=NOW):
            seen.append(task.item)
            submit(person, task)
        assert len(seen) == len(set(seen)) == 4
    assert Slot.objects.filter(state="done").count() == 8
    assert why_empty(anna, campaign, now=NOW) == "Every item has all the answers it needs. Thank you."


def test_an_expired_slot_passes_on_and_the_old_lease_is_remembered(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 1)
    mine = claim(anna, campaign)
    assert claim_next(ben, campaign, now=mine.expires_at - timedelta(seconds=1)) is None
    theirs = claim(ben, campaign, mine.expires_at)
    assert theirs.item == mine.item
    assert theirs.lease != mine.lease
    lapsed = LapsedLease.objects.get()
    assert (lapsed.lease, lapsed.user) == (mine.lease, anna)
    assert lapsed.shown_order == [shown.index for shown in mine.completions]
    with pytest.raises(LeaseLost):
        heartbeat(anna, get_lease(anna, mine.lease), now=NOW)


def test_slots_go_out_by_priority_then_random_key(campaign: Campaign, anna: User):
    items = add_items(campaign, 4)
    keys = [(1, 0.1), (0, 0.9), (0, 0.2), (1, 0.05)]
    for item, (priority, random_key) in zip(items, keys, strict=True):
        item.slots.update(priority=priority, random_key=random_key)
    seen = []
    while task := claim_next(anna, campaign, now=NOW):
        seen.append(task.item)
        submit(anna, task)
    assert seen == [items[index].public_id for index in (2, 1, 3, 0)]


def test_a_lease_lasts_four_times_the_median_time_within_bounds(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 12)
    assert claim(anna, campaign).expires_at == NOW + 15 * MINUTE
    for active_ms, minutes in [(60_000, 4), (1000, 2), (1000, 2), (0, 2)]:
        submit(anna, claim(anna, campaign), active_ms=active_ms)
        if active_ms == 60_000:
            assert claim(ben, campaign).expires_at == NOW + minutes * MINUTE
    assert claim(ben, campaign).expires_at == NOW + 2 * MINUTE
    for _ in range(5):
        submit(anna, claim(anna, campaign), active_ms=3_600_000)
    assert claim(ben, campaign).expires_at == NOW + 15 * MINUTE


def test_a_heartbeat_extends_a_lease_up_to_an_hour(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    task = claim(anna, campaign)
    lease = get_lease(anna, task.lease)
    assert heartbeat(anna, lease, now=NOW + 10 * MINUTE) == NOW + 25 * MINUTE
    assert heartbeat(anna, lease, now=NOW + 5 * MINUTE) == NOW + 25 * MINUTE  # never shortens
    assert heartbeat(anna, lease, now=NOW + 58 * MINUTE) == NOW + 60 * MINUTE


def test_a_released_slot_goes_to_another_place_of_the_queue(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    task = claim(anna, campaign)
    before = Slot.objects.get()
    lease = get_lease(anna, task.lease)
    assert release(anna, lease)
    after = Slot.objects.get()
    assert (after.state, after.user, after.lease, after.shown_order) == ("open", None, None, [])
    assert after.random_key != before.random_key
    assert not release(anna, lease)
    assert claim(anna, campaign).item == task.item


def test_a_skipped_item_goes_to_others_and_does_not_count(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 1)
    task = claim(anna, campaign)
    with pytest.raises(InvalidRanking):
        skip(anna, get_lease(anna, task.lease), reason="bored")
    skip(anna, get_lease(anna, task.lease), reason="language", note="Portuguese")
    assert Skip.objects.filter(user=anna, reason="language", note="Portuguese").count() == 1
    assert claim_next(anna, campaign, now=NOW) is None
    assert why_empty(anna, campaign, now=NOW).startswith("You have answered or skipped every item.")
    assert progress(anna, campaign).done == 0
    submit(ben, claim(ben, campaign))
    skip(anna, get_lease(anna, task.lease), reason="language")  # twice is once
    assert Skip.objects.count() == 1


def test_an_answered_item_cannot_be_skipped(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    task = claim(anna, campaign)
    submit(anna, task)
    with pytest.raises(LeaseLost, match="answered this item already"):
        skip(anna, get_lease(anna, task.lease), reason="other")


def test_an_empty_queue_names_its_cause(campaign: Campaign, anna: User, ben: User):
    assert why_empty(anna, campaign, now=NOW) == "Nothing has been imported into this campaign yet."
    add_items(campaign, 1)
    task = claim(ben, campaign)
    assert claim_next(anna, campaign, now=NOW) is None
    assert f"{task.expires_at:%H:%M}" in why_empty(anna, campaign, now=NOW)
    assert "Try again" in why_empty(anna, campaign, now=task.expires_at)
    for state, word in [("paused", "paused"), ("closed", "closed")]:
        shut = change_state(campaign, state)
        assert claim_next(anna, shut, now=task.expires_at) is None
        assert word in why_empty(anna, shut, now=NOW)
    shut.state = "draft"
    assert "not been opened" in why_empty(anna, shut, now=NOW)


def test_pausing_is_seen_by_a_request_that_read_the_campaign_before(campaign: Campaign, anna: User):
    add_items(campaign, 2)
    claim(anna, campaign)
    change_state(campaign, "paused")
    assert campaign.state == "open"
    assert claim_next(anna, campaign, now=NOW) is None


def test_progress_counts_answers_of_all_and_mine(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 3)
    submit(anna, claim(anna, campaign))
    submit(ben, claim(ben, campaign))
    with CaptureQueriesContext(connection) as queries:
        assert progress(anna, campaign) == Progress(done=2, total=3, mine=1)
    assert len(queries) == 1


# --- The one statement --------------------------------------------------------------------------------------------


def explain(user: User, campaign: Campaign) -> str:
    parameters = assignment._parameters(user, campaign, NOW) | {"token": uuid4(), "after": None}
    with connection.cursor() as cursor:
        rows = cursor.execute("EXPLAIN " + assignment.CLAIM, parameters).fetchall()
    return "\n".join(row[0] for row in rows)


def test_claiming_walks_the_queue_index_and_sorts_nothing(campaign: Campaign, anna: User):
    add_items(campaign, 3000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE labeling_slot")
        cursor.execute("ANALYZE labeling_item")
        cursor.execute("ANALYZE labeling_completion")
    plan = explain(anna, campaign)
    free = plan[plan.index("CTE free") : plan.index("CTE lapsed")]
    assert "Index Scan using slot_queue_idx" in free
    assert "Sort" not in free
    assert "Hash" not in free
    assert "Seq Scan on labeling_slot" not in plan
    assert "Seq Scan on labeling_item" not in plan
    assert "Seq Scan on labeling_completion" not in plan


def test_claiming_is_a_lock_and_one_statement(campaign: Campaign, anna: User):
    add_items(campaign, 2)
    submit(anna, claim(anna, campaign))
    with CaptureQueriesContext(connection) as queries:
        claim(anna, campaign)
    assert len([query for query in queries if "SAVEPOINT" not in query["sql"]]) == 2


def held_by_another_connection(*slots: int) -> Any:
    """A second connection that holds these slots, as a request in the middle of its transaction would."""
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("SELECT id FROM labeling_slot WHERE id = ANY(%s) FOR UPDATE", [list(slots)])
    return other


@pytest.mark.django_db(transaction=True)
def test_a_claim_never_waits_for_slots_that_others_are_taking(campaign: Campaign, anna: User):
    add_items(campaign, 3)
    first, second, third = Slot.objects.order_by("priority", "random_key")
    other = held_by_another_connection(first.pk, second.pk)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        started = time.monotonic()
        assert claim(anna, campaign).item == third.item.public_id
        assert time.monotonic() - started < 2
    finally:
        other.rollback()
        other.close()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert Item.objects.count() == 3


def test_people_of_other_campaigns_do_not_matter(campaign: Campaign, foreign_campaign: Campaign, anna: User):
    add_items(campaign, 1)
    add_items(foreign_campaign, 1)
    elsewhere = make_member(foreign_campaign, make_user("dora"), "annotator")
    submit(elsewhere, claim(elsewhere, foreign_campaign))
    assert progress(anna, campaign) == Progress(0, 1, 0)
    claim(anna, campaign)

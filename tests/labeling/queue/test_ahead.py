"""The item after the one that somebody looks at, claimed before it is their turn."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.access import get_lease
from labeling.campaigns import change_state
from labeling.models import Campaign, Slot
from labeling.queue.annotation import submit_and_claim, undo_last
from labeling.queue.assignment import AHEAD_LEASE, Task, claim_ahead, claim_next, current_task, heartbeat, release
from labeling.queue.progress import progress
from tests.conftest import client_for
from tests.labeling.conftest import NOW, add_items, claim, submit

SECOND = timedelta(seconds=1)


def ahead_of(user: User, task: Task, now=NOW) -> Task:
    following = claim_ahead(user, get_lease(user, task.lease), now=now)
    assert following is not None
    return following


def test_what_was_claimed_ahead_is_what_comes_next(campaign: Campaign, anna: User):
    add_items(campaign, 3)
    task = claim(anna, campaign)
    following = ahead_of(anna, task)
    assert following.item != task.item
    assert ahead_of(anna, task) == following  # asking again gives no second one
    assert current_task(anna, campaign) == task
    _, came = submit_and_claim(anna, get_lease(anna, task.lease), tiers=[[0], [1]], now=NOW + SECOND)
    assert came is not None
    assert (came.lease, came.completions) == (following.lease, following.completions)
    assert Slot.objects.get(lease=came.lease).leased_at == NOW + SECOND  # its time begins when it is shown
    assert came.expires_at > following.expires_at


def test_it_is_kept_for_a_short_time_and_longer_while_the_page_is_looked_at(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 2)
    task = claim(anna, campaign)
    following = ahead_of(anna, task)
    assert following.expires_at == NOW + AHEAD_LEASE
    assert claim_next(ben, campaign, now=NOW + SECOND) is None
    heartbeat(anna, get_lease(anna, task.lease), now=NOW + 60 * SECOND)
    assert claim_next(ben, campaign, now=NOW + AHEAD_LEASE + SECOND) is None
    assert claim(ben, campaign, NOW + 60 * SECOND + AHEAD_LEASE).item == following.item
    submit(anna, task)
    assert claim_next(anna, campaign, now=NOW + 61 * SECOND + AHEAD_LEASE) is None


def test_nothing_is_claimed_ahead_of_what_is_not_held(campaign: Campaign, anna: User):
    add_items(campaign, 3)
    task = claim(anna, campaign)
    lease = get_lease(anna, task.lease)
    submit(anna, task)
    assert claim_ahead(anna, lease, now=NOW) is None
    task = claim(anna, campaign)
    change_state(campaign, "paused")
    assert claim_ahead(anna, get_lease(anna, task.lease), now=NOW) is None


def test_it_goes_back_with_the_item_before_it_and_when_an_answer_is_taken_back(campaign: Campaign, anna: User):
    add_items(campaign, 3)
    task = claim(anna, campaign)
    ahead_of(anna, task)
    release(anna, get_lease(anna, task.lease))
    assert not Slot.objects.filter(state="leased").exists()
    first = claim(anna, campaign)
    submit(anna, first)
    second = claim(anna, campaign)
    third = ahead_of(anna, second)
    again = undo_last(anna, campaign, now=NOW + SECOND)
    assert again is not None
    assert Slot.objects.filter(state="leased").count() == 2
    assert get_lease(anna, third.lease).pk == third.lease  # remembered, should an answer to it still come
    assert ahead_of(anna, again).lease == second.lease  # back to what was on the screen


@pytest.mark.parametrize("right", [True, False])
def test_the_page_gets_only_what_it_does_not_show_yet(campaign: Campaign, annotator: User, right: bool):
    add_items(campaign, 3)
    task = claim_next(annotator, campaign, now=timezone.now())
    assert task is not None
    client, base = client_for(annotator), f"/campaigns/{campaign.public_id}/label/"
    page = client.post(f"{base}{task.lease}/ahead")
    following = Slot.objects.get(leased_at=None, state="leased")
    assert f'data-lease="{following.lease}"' in page.text
    shown = following.lease if right else task.lease
    parts = client.post(f"{base}{task.lease}/submit", {"choice": "A", "shown": shown}, headers={"HX-Request": "true"})
    assert ('id="task"' not in parts.text) is right
    assert "Saved" in parts.text and "No. 2" in parts.text
    assert progress(annotator, campaign).mine == 1


def test_where_nothing_is_left_there_is_nothing_ahead(campaign: Campaign, annotator: User):
    add_items(campaign, 1)
    task = claim_next(annotator, campaign, now=timezone.now())
    assert task is not None
    answer = client_for(annotator).post(f"/campaigns/{campaign.public_id}/label/{task.lease}/ahead")
    assert (answer.status_code, answer.content) == (204, b"")

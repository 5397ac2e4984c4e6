"""From one item to the next: shown before the server has answered, right whatever it answers, and nothing lost."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from labeling.models import Campaign, Membership, Ranking, Slot
from labeling.queue.assignment import claim_next, current_task
from tests.conftest import make_user
from tests.e2e.test_annotator import SignIn, begin, lease_of, make_campaign, next_item, wait_until_calm, wait_until_sent

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser


def begin_with_next(page: Page, campaign: Campaign) -> str:
    """Begin, and wait until the item after the first has been fetched. Returns its lease."""
    with page.expect_response("**/ahead"):
        begin(page, campaign)
    return str(Slot.objects.get(state="leased", leased_at=None).lease)


def test_the_next_item_is_shown_while_the_answer_is_on_its_way(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    following = begin_with_next(page, campaign)
    held: list[Route] = []
    page.route("**/submit", lambda route: held.append(route))
    page.keyboard.press("1")
    page.wait_for_function("lease => document.getElementById('task').dataset.lease === lease", arg=following)
    assert page.evaluate("document.activeElement.id") == "task-title"
    assert not Ranking.objects.exists()
    held[0].continue_()
    wait_until_sent(page)
    assert Ranking.objects.count() == 1
    assert lease_of(page) == following
    task = current_task(annotator, campaign)
    assert task is not None
    assert str(task.lease) == following
    assert "1 of 3 answers · 1 by you" in page.locator("#label-progress").inner_text()
    assert page.locator("#task-number").inner_text() == "No. 2"


def test_when_the_item_shown_is_somebody_elses_by_now_another_one_comes(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    other = make_user("other")
    Membership.objects.create(campaign=campaign, user=other)
    sign_in(page.context, annotator)
    following = begin_with_next(page, campaign)
    Slot.objects.filter(state="open").update(priority=1)
    Slot.objects.filter(lease=following).update(expires_at=timezone.now() - timedelta(minutes=1))
    taken = claim_next(other, campaign, now=timezone.now())
    page.keyboard.press("1")
    next_item(page, following)
    task = current_task(annotator, campaign)
    assert taken is not None and task is not None
    assert task.item != taken.item
    page.wait_for_function("lease => document.getElementById('task').dataset.lease === lease", arg=str(task.lease))
    assert Ranking.objects.get().user == annotator


def test_an_answer_the_server_failed_on_brings_its_item_back_as_it_was(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=2)
    sign_in(page.context, annotator)
    following = begin_with_next(page, campaign)
    lease = lease_of(page)
    page.route("**/submit", lambda route: route.fulfill(status=500, body="no"))
    for key in ["2", "1", "r", "a", "Escape", "Enter"]:
        page.keyboard.press(key)
    page.get_by_text("The server answered with an error (500)").wait_for()
    assert lease_of(page) == lease
    assert page.locator("#order").inner_text() == "B > A"
    page.unroute("**/submit")
    wait_until_calm(page)
    page.keyboard.press("Enter")
    next_item(page, lease)
    assert lease_of(page) == following
    assert Ranking.objects.get().rationale == "a"


def test_answers_given_without_a_connection_are_sent_once_it_is_back(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2, items=4)
    sign_in(page.context, annotator)
    begin_with_next(page, campaign)
    page.context.set_offline(True)
    page.keyboard.press("1")
    page.get_by_text("1 answer waits in this browser").wait_for()
    wait_until_calm(page)
    page.keyboard.press("2")
    page.get_by_role("heading", name="The server cannot be reached").wait_for()
    assert "2 answers wait in this browser" in page.locator("#waiting").inner_text()
    assert not Ranking.objects.exists()
    page.context.set_offline(False)
    page.wait_for_selector("#answer")
    wait_until_sent(page)
    assert not page.locator("#waiting").is_visible()
    assert Ranking.objects.accepted().count() == 2
    assert not Ranking.objects.filter(late=True).exists()
    task = current_task(annotator, campaign)
    assert task is not None
    assert str(task.lease) == lease_of(page)


def test_an_answer_that_waits_survives_a_reload(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin_with_next(page, campaign)
    page.route("**/submit", lambda route: route.abort())
    page.route("**/release", lambda route: route.abort())
    page.keyboard.press("1")
    page.get_by_text("1 answer waits in this browser").wait_for()
    page.unroute("**/submit")
    page.reload()
    wait_until_sent(page)
    assert Ranking.objects.count() == 1
    page.wait_for_function("() => document.getElementById('task').dataset.lease")
    task = current_task(annotator, campaign)
    assert task is not None
    assert str(task.lease) == lease_of(page)


def test_taking_back_waits_for_the_answer_that_is_on_its_way(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    following = begin_with_next(page, campaign)
    held: list[Route] = []
    page.route("**/submit", lambda route: held.append(route))
    page.keyboard.press("1")
    page.wait_for_function("lease => document.getElementById('task').dataset.lease === lease", arg=following)
    wait_until_calm(page)
    page.keyboard.press("u")
    held[0].continue_()
    page.get_by_text("Your last answer was taken back").wait_for()
    assert [ranking.status for ranking in Ranking.objects.all()] == ["withdrawn"]

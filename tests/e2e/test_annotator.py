"""An annotator at work in a real browser: by keyboard, by mouse, with and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.access import get_lease
from labeling.data.importing import import_rows
from labeling.models import Campaign, Membership, Ranking, Skip, Slot
from labeling.queue.annotation import submit_ranking
from labeling.queue.assignment import LEAVE_LEASE
from tests.conftest import PASSWORD, Site, make_user

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser
SignIn = Callable[["BrowserContext", User], None]


def make_campaign(protocol: str, size: int, items: int = 3) -> tuple[Campaign, User]:
    admin = make_user("admin", "admin")
    annotator = make_user("annotator")
    campaign = Campaign.objects.create(name="Browser", protocol=protocol, state="open", created_by=admin)
    Membership.objects.create(campaign=campaign, user=annotator)
    rows = [{"prompt": f"Question {n}?", "completions": [f"Answer {n}.{c}" for c in range(size)]} for n in range(items)]
    import_rows(campaign, rows, name="fixture")
    return campaign, annotator


def begin(page: Page, campaign: Campaign) -> None:
    page.goto(f"/campaigns/{campaign.public_id}/label/")
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector("#answer")
    wait_until_calm(page)


def wait_until_calm(page: Page) -> None:
    """Keys right after a new item are taken for late keys of the one before."""
    page.wait_for_timeout(400)


def shown(page: Page) -> dict[str, str]:
    """What stands on the cards: letter -> text."""
    cards = page.locator(".answer-card").all()
    return {card.get_attribute("data-label") or "": card.locator(".answer-body").inner_text().strip() for card in cards}


def stored(ranking: Ranking) -> list[set[str]]:
    """The tiers of a ranking as texts."""
    texts = [completion.messages[0]["content"] for completion in ranking.item.completions.all()]
    return [{texts[index] for index in tier} for tier in ranking.tiers]


def as_texts(order: list[str], texts: dict[str, str]) -> list[set[str]]:
    return [{texts[letter] for letter in tier} for tier in order]


def next_item(page: Page, before: str) -> None:
    page.wait_for_function("lease => document.getElementById('task').dataset.lease !== lease", arg=before)
    wait_until_sent(page)


def wait_until_sent(page: Page) -> None:
    """The next item is shown while the answer is still on its way."""
    sent = "() => Object.entries(localStorage).every(([key, value]) => !/^outbox/.test(key) || value === '[]')"
    page.wait_for_function(sent)


def lease_of(page: Page) -> str:
    return page.locator("#task").get_attribute("data-lease") or ""


def test_ranking_by_keyboard_only_stores_what_was_shown(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=4)
    sign_in(page.context, annotator)
    begin(page, campaign)
    texts, lease = shown(page), lease_of(page)
    for key in "2132":  # A second, B first, C third, D level with A; each digit marks the next card
        page.keyboard.press(key)
    assert page.locator("#order").inner_text() == "B > A = D > C"
    page.keyboard.press("r")
    page.keyboard.type("B names 2 sources")  # digits in a text are text
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    next_item(page, lease)
    ranking = Ranking.objects.get()
    assert stored(ranking) == as_texts(["B", "AD", "C"], texts)
    assert ranking.rationale == "B names 2 sources"
    assert ranking.active_ms > 0
    assert page.evaluate("document.activeElement.id") == "task-title"
    assert page.locator("#announce").inner_text().startswith("Rank the 4 answers: 1 is the best")
    assert page.locator("#order").inner_text().startswith("No ranks yet")


def test_cards_are_marked_by_keys_and_ranks_are_taken_back(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=3)
    sign_in(page.context, annotator)
    begin(page, campaign)
    texts, lease = shown(page), lease_of(page)
    for key in ["j", "j", "1", "k", "0", "ArrowRight", "2", "1", "2"]:
        page.keyboard.press(key)
    # j j: B. B first, then C is marked; k: B, whose rank is taken back; right: C second, then A first, then B second.
    assert page.locator("#order").inner_text() == "A > B = C"
    page.keyboard.press("Enter")
    next_item(page, lease)
    assert stored(Ranking.objects.get()) == as_texts(["A", "BC"], texts)


def test_moving_up_and_down_goes_through_ties(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=3)
    sign_in(page.context, annotator)
    begin(page, campaign)
    order = page.locator("#order")
    for letter in "ABC":
        page.get_by_role("button", name=f"Move {letter} up").click()
    assert order.inner_text() == "A > B > C"
    up = page.get_by_role("button", name="Move C up")
    for expected in ("A > B = C", "A > C > B", "A = C > B", "C > A > B", "C > A > B"):
        up.click()
        assert order.inner_text() == expected
    page.locator("#card-C").focus()
    page.keyboard.press("Alt+ArrowDown")
    assert order.inner_text() == "A = C > B"
    assert "C is 1, level with A" in page.locator("#announce").inner_text()


def test_letters_clicked_from_best_to_worst_make_the_ranking(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=3)
    sign_in(page.context, annotator)
    begin(page, campaign)
    texts, lease, order = shown(page), lease_of(page), page.locator("#order")
    for letter in "CAB":
        page.get_by_role("button", name=letter, exact=True).click()
    assert order.inner_text() == "C > A > B"
    page.get_by_role("button", name="A", exact=True).click()
    assert order.inner_text() == "C > B · A unranked"
    page.get_by_role("button", name="A", exact=True).click()
    assert order.inner_text() == "C > B > A"
    page.keyboard.press("Enter")  # submits: the button that was clicked does not get it
    next_item(page, lease)
    assert stored(Ranking.objects.get()) == as_texts(["C", "B", "A"], texts)


def test_the_first_time_the_guidelines_come_before_the_first_item(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    Campaign.objects.update(guidelines="Prefer the **true** one.")
    sign_in(page.context, annotator)
    page.goto("/campaigns/")
    page.get_by_role("link", name="Label").click()
    page.get_by_role("region", name="Guidelines").get_by_text("true").wait_for()
    page.wait_for_load_state()
    wait_until_calm(page)
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer")
    lease = lease_of(page)
    wait_until_calm(page)
    page.keyboard.press("1")
    next_item(page, lease)
    page.goto("/campaigns/")
    page.get_by_role("button", name="Label").click()
    page.wait_for_selector("#answer")


def test_leaving_some_unranked_takes_a_second_enter(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=4)
    sign_in(page.context, annotator)
    begin(page, campaign)
    texts, lease = shown(page), lease_of(page)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    assert "Rank at least two" in page.locator("#task-problem").inner_text()
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    assert "C, D: no rank yet" in page.locator("#task-problem").inner_text()
    assert not Ranking.objects.exists()
    page.keyboard.press("Enter")
    next_item(page, lease)
    assert stored(Ranking.objects.get()) == as_texts(["A", "B"], texts)


def test_pairs_are_answered_by_single_keys_and_taken_back(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2, items=4)
    sign_in(page.context, annotator)
    begin(page, campaign)
    loaded = page.evaluate("performance.timeOrigin")
    expected = []
    for key, order in (("1", ["A", "B"]), ("2", ["B", "A"]), ("=", ["AB"])):
        texts, lease = shown(page), lease_of(page)
        page.keyboard.press(key)
        next_item(page, lease)
        expected.append(as_texts(order, texts))
        wait_until_calm(page)
    assert [stored(ranking) for ranking in Ranking.objects.order_by("pk")] == expected
    assert "3 of 4 answers · 3 by you" in page.locator("#label-progress").inner_text()
    lease = lease_of(page)
    page.keyboard.press("u")
    next_item(page, lease)
    assert Ranking.objects.order_by("pk").last().status == "withdrawn"
    assert "2 of 4 answers · 2 by you" in page.locator("#label-progress").inner_text()
    assert set(shown(page).values()) == set.union(*expected[-1])
    assert page.evaluate("performance.timeOrigin") == loaded  # never reloaded


def test_a_key_pressed_twice_does_not_answer_the_item_that_came(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease = lease_of(page)
    page.keyboard.press("1")
    page.keyboard.press("1")
    next_item(page, lease)
    page.keyboard.press("1")
    page.wait_for_timeout(300)
    assert Ranking.objects.count() == 1


def test_skip_by_keys_gives_the_reason(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease = lease_of(page)
    for key in ["s", "2", "Enter"]:
        page.keyboard.press(key)
    next_item(page, lease)
    assert Skip.objects.get().reason == "expertise"


@pytest.mark.parametrize("protocol", ["pair", "ranking", "conversation"])
def test_cannot_tell_has_a_key_and_a_button_of_its_own(page: Page, sign_in: SignIn, protocol: str) -> None:
    campaign, annotator = make_campaign(protocol, size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease = lease_of(page)
    page.keyboard.press("r")
    page.keyboard.type("c is a letter here")
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    next_item(page, lease)
    assert "Saved: You cannot tell" in page.locator("#toast").inner_text()
    lease = lease_of(page)
    page.get_by_role("button", name="Can’t tell").click()
    next_item(page, lease)
    answers = Ranking.objects.order_by("pk").values_list("cannot_tell", "tiers", "rationale")
    assert list(answers) == [(True, [], "c is a letter here"), (True, [], "")]
    assert not Skip.objects.exists()


def test_flags_by_keyboard_go_with_the_answer(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease = lease_of(page)
    for key in ["f", "Space", "Escape", "1"]:
        page.keyboard.press(key)
    next_item(page, lease)
    assert Ranking.objects.get().flags == ["fails_task"]


def test_guidelines_and_keys_open_and_close_by_keyboard(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    campaign.guidelines = "Prefer the **true** one" + ", and of two true ones the shorter" * 9
    campaign.save(update_fields=["guidelines"])
    sign_in(page.context, annotator)
    begin(page, campaign)
    page.keyboard.press("g")
    guidelines = page.get_by_role("region", name="Guidelines")
    assert guidelines.get_by_text("true").is_visible()
    assert guidelines.locator("p").first.evaluate("text => text.scrollWidth <= text.clientWidth")  # lines are broken
    page.keyboard.press("1")  # reading is not answering
    page.keyboard.press("Escape")
    assert not page.get_by_role("region", name="Guidelines").is_visible()
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog", name="Keys").is_visible()
    assert not Ranking.objects.exists()


def test_changed_guidelines_are_marked_until_they_are_read(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    changed = page.locator("#guidelines .changed")
    assert not changed.is_visible()
    Campaign.objects.update(guidelines_version=2)
    page.reload()
    changed.wait_for()
    page.get_by_text("Guidelines").first.click()
    changed.wait_for(state="hidden")  # the browser tells of the opened drawer a moment later


def test_leaving_the_page_gives_the_item_back(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    soon = timezone.now() + LEAVE_LEASE + timedelta(seconds=10)
    held = Slot.objects.filter(state="leased", expires_at__gt=soon)
    assert held.exists()
    page.goto("/campaigns/")
    for _ in range(100):  # sent while the page goes away, so nothing here can wait for the reply
        if not held.exists():
            break
        page.wait_for_timeout(50)
    assert not held.exists()


def test_somebody_signed_out_meanwhile_keeps_what_they_entered(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    page.keyboard.press("2")
    page.keyboard.press("1")
    page.context.clear_cookies(name="sessionid")
    page.keyboard.press("Enter")
    page.get_by_text("You are signed out").wait_for()
    assert page.locator("#order").inner_text() == "B > A"
    sign_in(page.context, annotator)
    lease = lease_of(page)
    wait_until_calm(page)
    page.keyboard.press("Enter")
    next_item(page, lease)
    assert Ranking.objects.count() == 1


def test_signing_in_again_in_another_tab_does_not_cost_an_answer(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease = lease_of(page)
    page.context.clear_cookies()  # signing in changes the CSRF token as well
    other = page.context.new_page()
    other.goto("/accounts/login/")
    other.get_by_label("Username or email").fill("annotator")
    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    other.wait_for_url("**/campaigns/")
    page.bring_to_front()
    page.keyboard.press("1")
    next_item(page, lease)
    assert Ranking.objects.count() == 1


def test_an_answer_that_cannot_be_taken_stays_where_it_was_entered(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease = get_lease(annotator, UUID(lease_of(page)))
    submit_ranking(annotator, lease, tiers=[[lease.shown_order[0]], [lease.shown_order[1]]], now=timezone.now())
    for key in ["2", "1", "Enter"]:
        page.keyboard.press(key)
    page.get_by_text("You have answered this already").wait_for()
    assert page.locator("#order").inner_text() == "B > A"
    page.get_by_role("button", name="Next item").click()
    next_item(page, str(lease.lease))
    assert Ranking.objects.count() == 1


def test_time_counts_while_somebody_is_there_and_the_item_stays_theirs(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    page.clock.install()
    begin(page, campaign)
    lease = lease_of(page)
    with page.expect_request(lambda request: request.url.endswith("/heartbeat")):
        page.clock.run_for(600_000)  # ten minutes without a sign of life, of which the first half minute counts
    page.keyboard.press("1")
    next_item(page, lease)
    assert 29_000 < Ranking.objects.get().active_ms < 40_000


def test_the_last_answer_empties_the_queue_and_says_so(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2, items=1)
    sign_in(page.context, annotator)
    begin(page, campaign)
    page.get_by_role("button", name="A is better").click()
    page.get_by_text("Every item has all the answers it needs").wait_for()
    assert page.evaluate("document.activeElement.id") == "task-title"


@pytest.fixture
def plain_page(browser: Browser, site: Site) -> Iterator[Page]:
    """A browser without JavaScript."""
    context = browser.new_context(base_url=site.url, java_script_enabled=False)
    yield context.new_page()
    context.close()


def test_everything_works_without_javascript(plain_page: Page, sign_in: SignIn) -> None:
    page = plain_page
    campaign, annotator = make_campaign("ranking", size=3)
    sign_in(page.context, annotator)
    page.goto("/campaigns/")
    page.get_by_role("button", name="Label").click()
    texts = shown(page)
    ranks: dict[str, Any] = {"A": "2", "B": "1"}
    for letter, rank in ranks.items():
        page.get_by_label(f"Rank of {letter}").select_option(rank)
    page.get_by_role("button", name="Submit").click()
    assert "C: no rank yet" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Rank of A").input_value() == "2"
    page.get_by_label("I leave those without a rank unranked on purpose").check()
    page.get_by_role("button", name="Submit").click()
    assert "Saved: B > A" in page.get_by_role("status").inner_text()
    assert stored(Ranking.objects.get()) == as_texts(["B", "A"], texts)
    page.get_by_role("button", name="Undo").click()
    assert set(shown(page).values()) == set(texts.values())
    page.locator("#skip > summary").click()
    page.get_by_label("The task is not clear to me").check()
    page.get_by_role("button", name="Skip this item").click()
    assert Skip.objects.get().reason == "unclear"
    assert set(shown(page).values()) != set(texts.values())

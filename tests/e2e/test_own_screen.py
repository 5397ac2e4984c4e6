"""The screen as somebody has set it for themselves: keys, layout, texts; and what they entered survives a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts.preferences import set_preferences
from labeling.campaigns import update_campaign
from labeling.data.importing import import_rows
from labeling.models import Ranking, Slot
from labeling.protocols.presets import PRESETS
from tests.e2e.test_annotator import SignIn, begin, lease_of, make_campaign, next_item, shown

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_a_key_is_moved_by_key_and_shown_where_it_is(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    page.keyboard.press("?")
    page.get_by_role("button", name="Change keys").click()
    skip = page.get_by_role("button", name="s: Skip")
    skip.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("f")
    assert "f is taken by: Flags" in page.locator("#keys-problem").inner_text()
    page.keyboard.press("Enter")
    with page.expect_response("**/preferences"):
        page.keyboard.press("x")
    page.get_by_role("button", name="x: Skip").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#skip > summary kbd").inner_text() == "x"
    page.keyboard.press("s")
    assert not page.locator("#skip[open]").count()
    page.keyboard.press("x")
    assert page.locator("#skip[open]").count()
    annotator.refresh_from_db()
    assert annotator.preferences == {"keys": {"s": "x"}}


def test_what_was_entered_survives_a_reload(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=3)
    sign_in(page.context, annotator)
    begin(page, campaign)
    texts, lease = shown(page), lease_of(page)
    for key in ["2", "1", "r", "b", "y", "Escape"]:
        page.keyboard.press(key)
    page.reload()
    page.wait_for_selector("#answer")
    assert (lease_of(page), shown(page)) == (lease, texts)
    assert page.locator("#order").inner_text() == "B > A · C unranked"
    assert page.locator("#rationale").input_value() == "by"


def test_layouts_and_sizes_are_remembered(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    page.locator("#view > summary").click()
    for choice in ("Largest", "One at a time"):
        with page.expect_response("**/preferences"):
            page.get_by_label(choice).check()
    page.keyboard.press("Escape")
    assert [card.is_visible() for card in page.locator(".answer-card").all()] == [True, False]
    page.keyboard.press("]")
    assert [card.is_visible() for card in page.locator(".answer-card").all()] == [False, True]
    lease = lease_of(page)
    page.keyboard.press("2")
    next_item(page, lease)
    assert [card.is_visible() for card in page.locator(".answer-card").all()] == [True, False]
    page.reload()
    assert page.locator("body").get_attribute("data-text-size") == "largest"
    assert page.locator("#card-tabs button").count() == 2


def test_nearly_equal_answers_show_where_they_differ(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2, items=0)
    text = "The parcel was sent on {} and will be with you **soon**, I hope, if nothing else goes wrong."
    import_rows(
        campaign, [{"prompt": "When?", "completions": [text.format("Monday"), text.format("Friday")]}], name="x"
    )
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease = lease_of(page)
    page.get_by_role("button", name="Mark where they differ").click()
    page.wait_for_selector(".answer-card mark")
    assert sorted(page.locator(".answer-card mark").all_inner_texts()) == ["Friday", "Monday"]
    assert lease_of(page) == lease
    page.keyboard.press("d")
    page.wait_for_selector(".answer-card .md")
    assert not Ranking.objects.exists()


def test_a_pause_stops_the_time(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    sign_in(page.context, annotator)
    page.clock.install()
    begin(page, campaign)
    lease = lease_of(page)
    page.keyboard.press("p")
    page.clock.run_for(20_000)
    page.keyboard.press("1")
    page.get_by_role("button", name="Go on").click()
    page.keyboard.press("1")
    next_item(page, lease)
    assert Ranking.objects.get().active_ms < 10_000


def test_an_own_answer_is_found_and_changed_by_keys(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=2)
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease = lease_of(page)
    for key in ["1", "2", "Enter"]:
        page.keyboard.press(key)
    next_item(page, lease)
    page.keyboard.press("h")
    page.get_by_role("link", name="Change").click()
    assert page.locator("#order").inner_text() == "A > B"
    page.wait_for_timeout(400)
    for key in ["j", "2", "j", "1", "Enter"]:
        page.keyboard.press(key)
    page.get_by_text("Your answer is changed.").wait_for()
    old, new = Ranking.objects.order_by("pk")
    assert (old.status, new.status, new.tiers) == ("superseded", "accepted", list(reversed(old.tiers)))


def test_long_answers_are_shown_one_at_a_time_on_a_phone_unless_somebody_chose(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2, items=0)
    long, short = "A sentence that goes on for a while. " * 60, "Short."
    for texts in ([long, long + "!"], [short, short + "!"]):
        import_rows(campaign, [{"prompt": "When?", "completions": texts}], name="x")
    Slot.objects.filter(item=campaign.items.latest("pk")).update(priority=1)
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(page.context, annotator)
    begin(page, campaign)
    cards = page.locator(".answer-card")
    assert [card.is_visible() for card in cards.all()] == [True, False]
    page.evaluate("scrollTo(0, 700)")
    page.keyboard.press("]")
    assert [card.is_visible() for card in cards.all()] == [False, True]
    top, letters = page.locator(".cards").bounding_box(), page.locator("#card-tabs").bounding_box()
    assert top and letters
    assert top["y"] >= letters["y"] + letters["height"] - 1  # what was not read yet begins at its beginning
    page.keyboard.press("[")
    assert page.evaluate("scrollY") == 700
    page.get_by_role("button", name="B", exact=True).click()
    assert [card.is_visible() for card in cards.all()] == [False, True]
    lease = lease_of(page)
    page.get_by_role("button", name="A is better").click()
    next_item(page, lease)
    assert [card.is_visible() for card in cards.all()] == [True, True]
    with page.expect_response("**/preferences"):
        page.locator("#view > summary").click()
        page.get_by_label("One below the other").check()
    with page.expect_response("**/undo"):
        page.get_by_role("button", name="Undo").last.click()
    page.wait_for_function("document.querySelector('.cards').offsetHeight > 1500")
    assert [card.is_visible() for card in cards.all()] == [True, True]


def test_what_is_required_on_a_hidden_answer_is_shown(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    campaign.form = PRESETS["stiennon"].form.document()
    campaign.save(update_fields=["form"])
    set_preferences(annotator, {"layout": "tabs"})
    sign_in(page.context, annotator)
    begin(page, campaign)
    for question in page.locator("#card-A .pick").all():
        question.locator(".point").first.click()
    page.locator(".choices button").first.click()
    page.locator("#card-B").wait_for()
    assert page.evaluate("document.activeElement.closest('.answer-card').id") == "card-B"
    assert not Ranking.objects.exists()


def test_ranking_one_at_a_time_turns_to_the_answer_that_is_next(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("ranking", size=3)
    set_preferences(annotator, {"layout": "tabs"})
    sign_in(page.context, annotator)
    begin(page, campaign)
    cards = page.locator(".answer-card").all()
    assert page.locator("#order").inner_text() == "No ranks yet: give each answer its rank"
    page.keyboard.press("2")
    assert [card.is_visible() for card in cards] == [False, True, False]
    page.keyboard.press("1")
    assert [card.is_visible() for card in cards] == [False, False, True]
    assert page.locator("#card-tabs .ranked").all_inner_texts() == ["A", "B"]
    page.keyboard.press("[")
    page.keyboard.press("3")  # of the answer that is shown
    assert page.locator("#order").inner_text() == "A > B · C unranked"


@pytest.mark.parametrize(("width", "height"), [(1280, 640), (390, 844)])
def test_what_has_the_focus_is_not_behind_the_answer_bar(page: Page, sign_in: SignIn, width: int, height: int) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    update_campaign(campaign, preset="helpsteer2")
    page.set_viewport_size({"width": width, "height": height})
    sign_in(page.context, annotator)
    begin(page, campaign)
    for _ in range(10):
        page.keyboard.press("q")
        seen = page.evaluate(
            """() => {
                const spot = document.activeElement.closest(".point").getBoundingClientRect();
                const top = document.elementFromPoint(spot.x + spot.width / 2, spot.y + spot.height / 2);
                return Boolean(top?.closest(".point"));
            }"""
        )
        assert seen, page.evaluate("document.activeElement.name")
        page.keyboard.press("1")

"""Forms in a real browser: answered by keyboard, and edited with the preview beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from accounts.models import User
from labeling.campaigns import update_campaign
from labeling.models import Campaign, Ranking
from tests.conftest import make_member, make_user
from tests.e2e.test_annotator import as_texts, begin, lease_of, make_campaign, next_item, shown, stored
from tests.e2e.test_axe import violations

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser
SignIn = Callable[["BrowserContext", User], None]


def test_a_scale_has_a_key_for_each_step_and_waits_for_what_is_required(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    update_campaign(campaign, preset="llama2")
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease, texts = lease_of(page), shown(page)
    page.keyboard.press("7")  # the browser points at the safety question
    assert page.evaluate("document.activeElement.name") == "q_safety"
    page.keyboard.press("Enter")  # in a field, it chooses nothing
    assert lease_of(page) == lease
    page.keyboard.press("2")
    assert page.evaluate("document.activeElement.id") == "task-title"
    page.keyboard.press("7")
    next_item(page, lease)
    ranking = Ranking.objects.get()
    assert stored(ranking) == as_texts(["B", "A"], texts)
    assert ranking.details == {"strength": 3, "degrees": 4, "answers": {"safety": "both_safe"}}


def test_ratings_are_given_digit_by_digit(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    update_campaign(campaign, preset="helpsteer2")
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease, texts = lease_of(page), shown(page)
    page.keyboard.press("q")
    page.keyboard.type("43210" + "1" + "01234" + "2" + "3")  # five ratings and safety of each, then how sure
    page.keyboard.press("1")
    next_item(page, lease)
    ranking = Ranking.objects.get()
    assert stored(ranking) == as_texts(["A", "B"], texts)
    answers = ranking.details["answers"]
    first, second = ranking.shown_order
    assert (answers["helpfulness"][first], answers["helpfulness"][second]) == (4, 0)
    assert (answers["verbosity"][first], answers["verbosity"][second]) == (0, 4)
    assert (answers["safety"][first], answers["safety"][second], answers["confidence"]) == ("safe", "unsafe", "high")


def test_an_answer_is_improved_by_keyboard(page: Page, sign_in: SignIn) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    update_campaign(campaign, form={"questions": [{"kind": "edit", "label": "Improve the better one"}]})
    sign_in(page.context, annotator)
    begin(page, campaign)
    lease, texts = lease_of(page), shown(page)
    page.keyboard.press("e")
    page.keyboard.press("Control+End")
    page.keyboard.type(" Better.")
    page.get_by_role("button", name="A is better").click()
    next_item(page, lease)
    ranking = Ranking.objects.get()
    assert ranking.details["answers"]["edit"][ranking.shown_order[0]] == f"{texts['A']} Better."
    assert ranking.details["answers"]["edit"][ranking.shown_order[1]] is None


def test_conversations_are_scrolled_to_where_they_part(page: Page, sign_in: SignIn) -> None:
    from labeling.data.importing import import_rows

    campaign, annotator = make_campaign("conversation", size=2, items=0)
    update_campaign(campaign, form={"questions": [{"kind": "marks", "label": "Turns"}]})
    same = [{"role": role, "content": f"{role} " * 400} for role in ("user", "assistant")]
    more = [{"role": "user", "content": "More?"}, {"role": "assistant", "content": "More."}]
    import_rows(campaign, [{"completions": [same, [*same, *more]]}], name="talks")
    sign_in(page.context, annotator)
    begin(page, campaign)
    differing = page.locator(".aligned-turn.differs")
    assert differing.count() == 2 and differing.first.evaluate("e => e.getBoundingClientRect().top < innerHeight")
    letter = differing.first.evaluate("e => e.closest('.answer-card').dataset.label")
    page.locator(f"#card-{letter} .aligned-turn.differs .mark").get_by_text("Bad").click()
    page.get_by_role("button", name="Equal").click()
    page.get_by_text("Saved: A = B").wait_for()
    assert Ranking.objects.get().details == {"answers": {"marks": [None, {"2": "bad"}]}}


def test_a_manager_puts_a_form_together(page: Page, sign_in: SignIn) -> None:
    campaign, _ = make_campaign("pair", size=2)
    sign_in(page.context, make_member(campaign, make_user("manager"), "manager"))
    page.goto(f"/campaigns/{campaign.public_id}/questions")
    page.locator("summary", has_text="Begin with a published protocol").click()
    page.get_by_role("button", name="Arena").click()
    preview = page.locator("#preview")
    preview.get_by_text("Both bad").wait_for()
    page.get_by_role("button", name="Rating", exact=True).click()
    label = page.get_by_label("Text of the question", exact=True)
    label.wait_for()
    assert label.evaluate("e => e === document.activeElement")
    label.fill("Charm")
    preview.get_by_text("Charm").first.wait_for()
    page.get_by_label("How much better").fill("A bit")
    preview.get_by_text("2 to 4 degrees").wait_for()
    page.get_by_label("How much better").fill("A bit\nMuch")
    preview.get_by_text("Much").first.wait_for()
    page.get_by_role("button", name="Ideal answer").click()
    page.get_by_role("button", name="Move question 2 up").click()
    page.get_by_role("group", name="1. Ideal answer").wait_for()
    assert "\n".join(violations(page)) == ""
    page.get_by_role("button", name="Save the questions").click()
    page.get_by_text("Saved. New answers").wait_for()
    form = Campaign.objects.get().form
    assert [question["label"] for question in form["questions"]] == ["What would the ideal answer be?", "Charm"]
    assert (form["strength"], form["both_bad"]) == (["A bit", "Much"], True)


EVERYTHING = [
    {"kind": "rating", "name": "tone", "label": "Tone", "words": ["Cold", "Warm"], "help": "How it sounds."},
    {"kind": "flags", "label": "Flags", "of": "completion", "options": [{"name": "rude", "label": "Rude"}]},
    {"kind": "rationale", "label": "Why?", "required": True},
    {"kind": "ideal", "label": "Ideal"},
    {"kind": "edit", "label": "Improve"},
    {"kind": "marks", "label": "Turns"},
]


@pytest.mark.parametrize(("preset", "width"), [("helpsteer2", 390), ("stiennon", 1440), ("", 1440), ("", 390)])
def test_questions_are_accessible(page: Page, sign_in: SignIn, preset: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    campaign, annotator = make_campaign("pair", size=2)
    update_campaign(campaign, **({"preset": preset} if preset else {"form": {"questions": EVERYTHING}}))
    sign_in(page.context, annotator)
    begin(page, campaign)
    for fold in page.locator("details.more > summary").all():
        fold.click()
    assert "\n".join(violations(page)) == ""
    assert page.evaluate("document.documentElement.scrollWidth") <= width

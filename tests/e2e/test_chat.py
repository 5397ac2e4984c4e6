"""A live chat in a real browser, with real models behind a real worker: from the first message to the export."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from accounts.models import User
from labeling.models import Campaign, ChatReply, ChatServer, ChatTurn, Ranking
from tests.conftest import client_for, make_member
from tests.e2e.test_axe import violations
from tests.labeling.chats.rooms import NAMES, answer, make_live_chat
from tests.training.conftest import MODEL, Worker, start_worker  # noqa: F401
from training.models import ModelArtifact

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, WebSocketRoute

pytestmark = pytest.mark.browser
SignIn = Callable[["BrowserContext", User], None]


def test_from_setting_up_to_the_export(
    page: Page,
    sign_in: SignIn,
    campaign: Campaign,
    researcher: User,
    annotator: User,
    start_worker: Callable[[], Worker],  # noqa: F811
) -> None:
    Campaign.objects.update(protocol="conversation")
    make_member(campaign, researcher, "manager")
    for name in NAMES:
        ModelArtifact.objects.create(kind="base", name=name, base_model=str(MODEL))
    start_worker()
    sign_in(page.context, researcher)
    page.goto(f"/campaigns/{campaign.public_id}/")
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="Live chat").click()
    for name in NAMES:
        page.get_by_label(name).check()
    page.get_by_label("Longest answer").fill("48")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("not in memory")).to_have_count(2)
    assert violations(page) == []

    sign_in(page.context, annotator)
    page.goto(f"/campaigns/{campaign.public_id}/")
    page.get_by_role("link", name="Chat", exact=True).click()
    page.get_by_role("button", name="Begin a chat").click()
    for number, text in enumerate(("Hello, my lamp from order 12 arrived broken.", "When will it come?")):
        expect(page.locator("#message")).to_be_focused()
        page.keyboard.type(text)
        page.keyboard.press("Enter")
        expect(page.locator("#chat-title")).to_contain_text(f"Turn {number + 1} of")
        expect(page.locator("#vote")).to_have_attribute("data-state", "answered", timeout=120_000)
        expect(page.locator(".side .md")).to_have_count(2 * (number + 1))
    shown = [side.inner_text().strip() for side in page.locator(".side .md").all()]
    assert page.locator("#announce").inner_text().startswith("Both have answered")
    content = page.content()
    assert not any(name in content for name in NAMES)
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    expect(page.locator("#vote")).to_have_attribute("data-state", "voted")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.get_by_text("Ask something")).to_be_visible()

    export = client_for(researcher).get(f"/api/campaigns/{campaign.public_id}/export?what=preferences")
    [row] = [json.loads(line) for line in b"".join(export.streaming_content).splitlines()]  # type: ignore[attr-defined]
    said = [message["content"].strip() for message in row["chosen"] if message["role"] == "assistant"]
    assert said == shown[1::2]
    assert {row["chosen_source"], row["rejected_source"]} == set(NAMES)
    assert Ranking.objects.get().active_ms > 0


def test_without_a_socket_the_answers_come_too(
    page: Page, sign_in: SignIn, campaign: Campaign, annotator: User
) -> None:
    def refuse(route: WebSocketRoute) -> None:
        route.close()

    page.route_web_socket("**/ws/**", refuse)
    make_live_chat(campaign)
    sign_in(page.context, annotator)
    page.goto(f"/campaigns/{campaign.public_id}/chat/")
    page.get_by_role("button", name="Begin a chat").click()
    page.locator("#message").fill("Hello?")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("The models are being loaded.")).to_be_visible()
    page.locator("#message").fill("A draft of what comes next")
    answer(ChatTurn.objects.get(), "**Yes**", "No")
    expect(page.get_by_role("button", name="Equal")).to_be_visible()
    assert page.locator("#message").input_value() == "A draft of what comes next"
    page.get_by_role("button", name="Both bad").click()
    page.locator("#vote[data-state=voted]").wait_for()
    assert Ranking.objects.get().details == {"both_bad": True}


@pytest.mark.parametrize("width", [1440, 390])
def test_the_chat_in_all_its_states_for_screen_readers(
    page: Page, sign_in: SignIn, campaign: Campaign, annotator: User, width: int
) -> None:
    make_live_chat(campaign)
    sign_in(page.context, annotator)
    page.set_viewport_size({"width": width, "height": 850})
    page.goto(f"/campaigns/{campaign.public_id}/chat/")
    found = violations(page)
    page.get_by_role("button", name="Begin a chat").click()
    page.locator("#message").wait_for()
    found += violations(page)
    page.keyboard.type("Hello?")
    page.keyboard.press("Enter")
    page.locator("#vote[data-state=loading]").wait_for()
    found += violations(page)
    ChatReply.objects.filter(side="A").update(state="done", text="Long " * 200)
    ChatReply.objects.filter(side="B").update(state="failed")
    page.locator("#again").wait_for()
    found += violations(page)
    page.get_by_role("button", name="Try again").click()
    page.locator("#vote[data-state=loading]").wait_for()
    ChatServer.objects.update(state="ready", heartbeat_at=timezone.now())
    page.locator("#vote[data-state=writing]").wait_for()
    found += violations(page)
    answer(ChatTurn.objects.get())
    page.locator("#votes").wait_for()
    page.keyboard.press("Escape")
    for key in ("r", "?", "g"):
        page.keyboard.press(key)
        found += violations(page)
        page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.locator("#vote[data-state=voted]").wait_for()
    found += violations(page)
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

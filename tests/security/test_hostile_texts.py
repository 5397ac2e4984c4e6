"""Hostile texts on every page that shows other people's texts, in a real browser.

Nothing may run, nothing may be asked for outside of this site or under a path of the payload's, and no attribute that
htmx or the browser acts on may be left in the rendered text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.access import get_lease
from labeling.data.importing import import_rows
from labeling.models import Campaign, Item
from labeling.queue.annotation import submit_ranking
from labeling.queue.assignment import claim_next
from tests.conftest import Site, make_user
from tests.security.payloads import hostile_texts

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser
SignIn = Callable[["BrowserContext", User], None]
PER_ITEM = 8

# A reader's mouse is part of the question: everything in a rendered text is hovered over and clicked, save real links.
INSPECT = """() => {
  const tags = /^(A|BLOCKQUOTE|BR|CODE|DEL|DIV|EM|H3|HR|LI|OL|P|PRE|S|SPAN|STRONG|TABLE|TBODY|TD|TH|THEAD|TR|UL)$/;
  const attributes = /^(data-)?hx-|^on|^style$|^id$|^src|^form|^action$|^name$/i;
  const bad = [];
  for (const box of document.querySelectorAll(".md")) {
    for (const element of box.querySelectorAll("*")) {
      const { tagName } = element;
      const isMath = element.namespaceURI === "http://www.w3.org/1998/Math/MathML";
      if (!isMath && !tags.test(tagName)) bad.push(tagName);
      for (const { name, value } of element.attributes) {
        if (attributes.test(name)) bad.push(`${tagName} ${name}`);
        if (/href$/i.test(name) && !/^(https?|mailto):/i.test(value)) bad.push(`${tagName} ${name}=${value}`);
      }
      element.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
      if (!element.closest("a[href]")) element.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    }
  }
  return [document.querySelectorAll(".md").length, bad];
}"""


def hostile_campaign() -> tuple[Campaign, User]:
    admin = make_user("admin", "admin")
    texts = [text.replace("\x00", "\x01") for text in hostile_texts()]  # imports refuse NUL
    campaign = Campaign.objects.create(
        name="<script>window.pwned('name')</script>",
        guidelines="\n\n".join(texts),
        protocol="ranking",
        state="open",
        created_by=admin,
    )
    groups = [texts[start : start + PER_ITEM] for start in range(0, len(texts), PER_ITEM)]
    if len(groups[-1]) == 1:
        groups[-2:] = [[*groups[-2], *groups[-1]]]
    rows = [
        {
            "messages": [{"role": "user", "content": "\n\n".join(group)}],
            "completions": [{"text": text, "source": text[:200]} for text in group],
        }
        for group in groups
    ]
    record = import_rows(campaign, rows, name="<img src=x onerror=window.pwned('file')>")
    assert record.errors == []
    return campaign, admin


def answer_everything(campaign: Campaign, user: User) -> None:
    """With hostile rationales, which reviewers read."""
    texts = iter(hostile_texts())
    while task := claim_next(user, campaign, now=timezone.now()):
        tiers = [[shown.index] for shown in task.completions]
        rationale = "\n\n".join(next(texts, "") for _ in range(PER_ITEM))
        submit_ranking(user, get_lease(user, task.lease), tiers=tiers, rationale=rationale, now=timezone.now())


@pytest.fixture
def watched(page: Page, site: Site) -> tuple[Page, list[str]]:
    """A page, and what it did that it should not have done."""
    harm: list[str] = []
    page.expose_function("pwned", lambda *arguments: harm.append(f"ran {arguments}"))
    page.on("dialog", lambda dialog: harm.append(f"dialog {dialog.message}"))
    page.on("popup", lambda popup: harm.append(f"popup {popup.url}"))

    def note(request: Any) -> None:
        if not request.url.startswith(site.url) or "/pwned/" in request.url or request.url.endswith("/logout/"):
            harm.append(f"asked for {request.url}")

    page.context.on("request", note)
    return page, harm


def inspect(page: Page) -> int:
    boxes, bad = page.evaluate(INSPECT)
    assert bad == []
    page.wait_for_timeout(150)  # time for whatever a payload may have started
    return int(boxes)


def test_the_corpus_can_do_harm(watched: tuple[Page, list[str]]) -> None:
    """Put into a page as it is, it runs and asks for things. Otherwise the tests below would prove nothing."""
    page, harm = watched
    page.goto("about:blank")
    page.set_content("\n".join(hostile_texts()))
    page.wait_for_timeout(500)
    assert any(line.startswith("ran") for line in harm)
    assert any("outside.invalid" in line for line in harm)


def test_annotators_see_hostile_texts_as_texts(watched: tuple[Page, list[str]], sign_in: SignIn) -> None:
    page, harm = watched
    campaign, admin = hostile_campaign()
    sign_in(page.context, admin)
    page.goto(f"/campaigns/{campaign.public_id}/label/")
    page.get_by_role("button", name="Start").click()
    seen = 0
    for _ in range(campaign.items.count()):
        page.wait_for_selector("#answer")
        seen += inspect(page)
        lease = page.locator("#task").get_attribute("data-lease")
        for position, menu in enumerate(page.locator(".rank-controls select").all(), 1):
            menu.select_option(str(position))
        page.get_by_role("button", name="Submit").click()
        page.wait_for_function("lease => document.getElementById('task').dataset.lease !== lease", arg=lease)
    assert seen >= len(hostile_texts())
    assert harm == []


def test_reviewers_and_managers_see_hostile_texts_as_texts(watched: tuple[Page, list[str]], sign_in: SignIn) -> None:
    page, harm = watched
    campaign, admin = hostile_campaign()
    answer_everything(campaign, admin)
    sign_in(page.context, admin)
    base = f"/campaigns/{campaign.public_id}"
    paths = ["/", "/items/", "/import", "/settings", "/members", f"/imports/{campaign.imports.get().pk}/"]
    items = [f"/items/{item.public_id}/" for item in Item.objects.filter(campaign=campaign)]
    boxes = 0
    for path in [*paths, *items]:
        page.goto(base + path)
        boxes += inspect(page)
    page.goto("/campaigns/")
    inspect(page)
    assert boxes >= len(hostile_texts()) + 2 * len(items)  # completions, prompts, rationales
    assert harm == []

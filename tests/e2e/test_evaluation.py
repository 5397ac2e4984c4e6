"""The page of a reward run that rewards turns, as a real engine makes it: no fault of axe's, and nothing sticks out."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from accounts.models import User
from labeling.data.importing import import_rows
from labeling.models import Campaign
from tests.conftest import make_member
from tests.e2e.test_axe import violations
from tests.training.conftest import MODEL, THINGS
from tests.training.test_supervisor import run_now
from training.models import ModelArtifact
from training.runs import Inputs, create_run

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser
QUESTIONS = ("My {} arrived broken.", "When will the new {} come?", "Thank you for the {}.")
SETTINGS = {
    "rewards_of": "turns", "members": 2, "reliability": True, "epochs": 2.0, "batch_size": 8, "lora_rank": 4,
    "learning_rate": 3e-3, "threads": 1,
}  # fmt: skip


def talk(draw: random.Random, thing: str) -> tuple[list[dict[str, str]], int]:
    """A conversation of two or three answers, and how many of them are kind."""
    messages, kind = [], 0
    for asked in ("My {} arrived broken.", "When will the new {} come?", "Thank you for the {}.")[
        : draw.choice((2, 3))
    ]:
        friendly = draw.random() < 0.5
        kind += friendly
        answer = f"I am sorry about your {thing}. We will send you a new one. Thank you." if friendly else "No."
        messages += [{"role": "user", "content": asked.format(thing)}, {"role": "assistant", "content": answer}]
    return messages, kind


def rows(draw: random.Random, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < number:
        talks = [talk(draw, draw.choice(THINGS)) for _ in range(2)]
        if talks[0][1] != talks[1][1]:
            person = draw.choice(("ann", "bob", "guess"))
            better = draw.randrange(2) if person == "guess" else int(talks[1][1] > talks[0][1])
            sources = draw.sample(("base", "tuned", "desk"), 2)
            completions = [{"messages": one, "source": by} for (one, _), by in zip(talks, sources, strict=True)]
            found.append({"completions": completions, "ranking": [better, 1 - better], "labeler": person})
    return found


@pytest.mark.timeout(300)
def test_rewards_of_turns_on_wide_and_narrow_screens(
    page: Page, sign_in: Callable[[BrowserContext, User], None], campaign: Campaign, researcher: User
) -> None:
    campaign.protocol = "conversation"
    campaign.save(update_fields=["protocol"])
    make_member(campaign, researcher, "manager")
    assert import_rows(campaign, rows(random.Random(0), 120), name="talks").accepted == 120
    base = ModelArtifact.objects.create(kind="base", name="Support desk", base_model=str(MODEL))
    inputs = Inputs(campaign=campaign, base=base)
    run = run_now(create_run(researcher, kind="reward", inputs=inputs, settings=SETTINGS))
    assert run.state == "succeeded", run.error
    sign_in(page.context, researcher)
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(run.get_absolute_url())
        for fold in page.locator(".evaluation details.fold > summary").all():
            fold.click()
        shown = page.locator(".evaluation").inner_text()
        for text in ("What each turn adds", "Sources compared", "base · tuned", "By annotator", "Does it know what"):
            assert text in shown, text
        assert page.locator(".turns rect").count() >= 8
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert violations(page) == []

"""axe finds nothing to complain about on any page, light and dark.

The pages are found by walking the routes, so a new page is tested from the day it has a URL.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone

from accounts.models import User
from accounts.preferences import set_preferences
from labeling.data.importing import import_rows
from labeling.models import Campaign, Import, Ranking
from labeling.quality.gold import mark_gold
from labeling.quality.rules import change_rules
from labeling.queue.removal import remove_item
from tests.accounts.routes import World, make_world, own_routes
from tests.conftest import client_for
from tests.e2e.test_annotator import make_campaign
from training.models import RunEvent, TrainingRun

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser
SignIn = Callable[["BrowserContext", User], None]

GUIDELINES = """# What to look for

Prefer the answer that is **true**.

1. Correct before complete, see [the handbook](https://example.org)

> When in doubt, a tie.

| Case | Do |
|---|--:|
| both refuse | `tie` |

```python
def is_better(a, b):  # a comment
    return a.score > 1.5 and b.name != "B"
```

$$x = \\frac{1}{2}$$
"""


def populate(world: World) -> None:
    """Put something on every page: guidelines, answers, a refused line, points on the charts."""
    campaign = world.near.campaign
    campaign.guidelines = GUIDELINES
    campaign.overlap = 2
    campaign.save()
    answers = [{"text": GUIDELINES, "source": "new"}, {"text": "Short.", "source": "old"}]
    rows = [{"prompt": f"Question {n}?", "completions": answers} for n in range(4)]
    import_rows(campaign, [*rows, {"prompt": "nothing to compare"}], name="pairs.jsonl")
    Import.objects.filter(campaign=campaign).update(rejected=1, errors=[{"line": 5, "reason": "A line needs answers."}])
    for item in campaign.items.all():
        for name in ("annotator", "reviewer"):
            Ranking.objects.create(
                item=item,
                campaign=campaign,
                user=world.people[name],
                labeler=name,
                tiers=[[0], [1]],
                rationale="*Because.*",
                flags=["opinion"],
                active_ms=4000,
                protocol="pair",
                guidelines_version=1,
            )
    campaign.dataset_samples.update(rows=[json.dumps(row) for row in rows])
    campaign.export_files.update(answers=8, position=3)
    remove_item(campaign.items.get(pk=item.pk), now=timezone.now())
    campaign.contributions.update_or_create(user=world.near.annotator, defaults={"done": 5, "extra": 1})
    for run in TrainingRun.objects.filter(campaign=campaign):
        TrainingRun.objects.filter(pk=run.pk).update(state="running", step=3, total_steps=10, last_seq=3)
        for seq in range(1, 4):
            payload = {"metrics": {"loss/train": 1 / seq, "eval/accuracy": 0.5 + seq / 10}}
            RunEvent.objects.create(run=run, seq=seq, type="metrics", step=seq, time=timezone.now(), payload=payload)


def pages(world: World) -> list[str]:
    """Every address that answers an admin with a whole page."""
    client = client_for(world.people["admin"])
    found = ["/accounts/logout/", "/accounts/password/change/", "/accounts/2fa/"]
    for route in own_routes():
        if route.is_api:
            continue
        for address, is_near in world.urls(route):
            response = client.get(address) if is_near else None
            if response and not response.streaming and response.content.startswith(b"<!doctype html>"):
                found.append(address)
    return found


def violations(page: Page) -> list[str]:
    """Of the page as it stands, in both colour schemes."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for violation in Axe().run(page).response["violations"]:
            for node in violation["nodes"]:
                summary = node.get("failureSummary", "").replace("\n", " ")
                found.append(f"{page.url} {scheme}: {violation['id']} at {node['target']}: {summary}")
    return found


@pytest.mark.timeout(600)
def test_every_page_of_the_site(page: Page, sign_in: SignIn) -> None:
    world = make_world()
    populate(world)
    sign_in(page.context, world.people["admin"])
    addresses = pages(world)
    # Were the walk to find nothing, nothing would be tested.
    assert {"/campaigns/", "/campaigns/new", "/runs/", "/models/", "/people/", "/profile/"} <= set(addresses)
    assert len(addresses) >= 20
    found = []
    for address in addresses:
        page.goto(address)
        found += violations(page)
    assert found == []


@pytest.mark.timeout(120)
def test_the_curves_of_a_run_as_tables(page: Page, sign_in: SignIn) -> None:
    world = make_world()
    populate(world)
    run = TrainingRun.objects.filter(campaign=world.near.campaign).first()
    assert run is not None
    sign_in(page.context, world.people["admin"])
    page.goto(run.get_absolute_url())
    page.locator(".chart canvas").first.wait_for()
    for toggle in page.locator("[data-table]").all():
        toggle.click()
    for fold in page.locator("details.fold > summary").all():
        fold.click()
    assert page.locator(".chart table").count() > 0
    assert violations(page) == []


def test_pages_for_people_who_are_not_signed_in(page: Page) -> None:
    world = make_world()
    found = []
    for address in ("/accounts/login/", f"/invite/{world.near.ids['token']}/", "/invite/no-such-token/"):
        page.goto(address)
        found += violations(page)
    assert found == []


@pytest.mark.parametrize(("protocol", "width"), [("pair", 390), ("ranking", 1440), ("conversation", 1440)])
def test_the_annotators_screen_in_all_its_states(page: Page, sign_in: SignIn, protocol: str, width: int) -> None:
    world = make_world()
    campaign = Campaign.objects.create(
        name="Screen", protocol=protocol, guidelines=GUIDELINES, state="open", created_by=world.people["admin"]
    )
    turns = [{"role": ("user", "assistant")[n % 2], "content": GUIDELINES} for n in range(7)]
    answers = [{"messages": [{"role": "assistant", "content": text}]} for text in (GUIDELINES, "Short.")]
    import_rows(campaign, [{"messages": turns, "completions": answers}], name="fixture")
    sign_in(page.context, world.people["admin"])
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"/campaigns/{campaign.public_id}/label/")
    found = violations(page)
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector("#answer")
    page.wait_for_timeout(400)
    found += violations(page)
    for keys in ("f", "s", "g", "?", *(["1", "Enter"] if protocol == "ranking" else [])):
        page.keyboard.press(keys)
        found += violations(page)
        page.keyboard.press("Escape")
    if protocol == "ranking":
        page.get_by_label("Rank of A").select_option("1")
        page.get_by_label("Rank of B").select_option("2")
        page.get_by_role("button", name="Submit").click()
    else:
        page.get_by_role("button", name="Equal").click()
    page.get_by_role("heading", name="Nothing to label now").wait_for()
    found += violations(page)
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("direction", "width"), [("ltr", 390), ("rtl", 390), ("rtl", 1440)])
def test_the_annotators_pages_in_german_and_from_right_to_left(
    page: Page, sign_in: SignIn, direction: str, width: int
) -> None:
    campaign, annotator = make_campaign("pair", size=2)
    admin = User.objects.get(username="admin")
    for item in campaign.items.all()[:1]:
        mark_gold(item, tiers=[[0], [1]], user=admin, explanation="Das **stimmt**.")
    change_rules(campaign, practice_items=1, practice_accuracy=0)
    set_preferences(annotator, {"language": "de"})
    sign_in(page.context, annotator)
    page.set_viewport_size({"width": width, "height": 900})
    found = []

    def look() -> None:
        page.evaluate("direction => { document.documentElement.dir = direction; }", direction)
        found.extend(violations(page))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.goto("/campaigns/")
    look()
    page.get_by_role("button", name="Beurteilen").click()
    look()
    page.get_by_role("button", name="A ist besser").click()
    look()
    page.get_by_role("link", name="Weiter").click()
    look()
    page.get_by_role("button", name="Anfangen").click()
    page.wait_for_selector("#answer")
    page.wait_for_timeout(400)
    page.locator("#view > summary").click()
    look()
    assert page.locator("#view-form").bounding_box()["x"] >= 0
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("button", name="Tasten ändern").click()
    look()
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    look()
    page.get_by_role("button", name="Weiter").click()
    page.get_by_role("button", name="Gleich gut").click()
    page.get_by_text("Gespeichert").wait_for()
    page.goto(f"/campaigns/{campaign.public_id}/label/answers/")
    look()
    page.get_by_role("link", name="Ändern").click()
    look()
    assert found == []

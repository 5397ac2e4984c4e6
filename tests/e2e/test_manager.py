"""A manager sets up a campaign by hand in a real browser, and watches it live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from accounts.models import User
from labeling.events import campaign_changed
from labeling.models import Campaign, Ranking
from tests.conftest import PASSWORD, Site, make_user
from tests.e2e.test_axe import violations

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser
SignIn = Callable[["BrowserContext", User], None]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Six good lines, one that is there twice, one that is no JSON."""
    rows = [{"prompt": f"Question {n}?", "completions": [f"Yes, {n}.", f"No, {n}."]} for n in range(6)]
    lines = [json.dumps(row) for row in [*rows, rows[0]]]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([*lines, "oops"]))
    return path


def test_a_manager_creates_imports_invites_opens_and_sees_answers_come_in(
    page: Page, browser: Browser, site: Site, pairs: Path, transactional_db: None
) -> None:
    make_user("rosa", "researcher")
    page.goto("/campaigns/")
    page.get_by_label("Username or email").fill("rosa")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    # Create, with the guidelines seen as annotators will see them
    page.goto("/campaigns/")
    page.get_by_role("link", name="New campaign").click()
    page.get_by_label("Name").fill("Yes or no")
    page.get_by_label("Guidelines").fill("Prefer **yes**.")
    page.locator("#preview strong", has_text="yes").wait_for()
    page.get_by_role("button", name="Create the draft").click()

    # Import, and read the report
    page.get_by_label("File", exact=True).set_input_files(pairs)
    page.get_by_role("button", name="Import").click()
    page.wait_for_url("**/imports/*/")
    numbers = [stat.inner_text() for stat in page.locator(".stat b").all()]
    assert numbers == ["6", "1", "1", "0"]  # new, already here, refused, imported rankings
    assert page.get_by_role("row", name="8 The line is not valid JSON").is_visible()

    # Invite
    page.get_by_role("navigation", name="Campaign", exact=True).get_by_role("link", name="People").click()
    page.get_by_role("navigation", name="Pages of this tab").get_by_role("link", name="Invitations").click()
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("The invitation link").input_value()

    # Open
    campaign = Campaign.objects.get()
    page.goto(f"/campaigns/{campaign.public_id}/")
    page.get_by_role("button", name="Open").click()
    page.get_by_text("No answers yet").wait_for()
    loaded = page.evaluate("performance.timeOrigin")

    # Somebody follows the link, makes an account, labels
    other = browser.new_context(base_url=site.url)
    guest = other.new_page()
    guest.goto(link)
    guest.get_by_label("Username").fill("ada")
    guest.get_by_label("Password").fill(PASSWORD)
    guest.get_by_role("button").filter(has_text="account").click()
    guest.get_by_role("link", name="Label").click()
    guest.get_by_role("button", name="Start").click()  # after the guidelines
    guest.get_by_role("button", name="A is better").click()
    guest.get_by_text("Saved: A > B").wait_for()
    other.close()

    # The manager's page follows without reloading
    page.get_by_role("row", name="ada").wait_for()
    assert "of 6 answers" in page.locator("#live").inner_text()
    assert page.evaluate("performance.timeOrigin") == loaded
    assert Ranking.objects.get().user == User.objects.get(username="ada")


def test_a_refused_upload_says_why_without_leaving_the_page(page: Page, sign_in: SignIn, tmp_path: Path) -> None:
    admin = make_user("admin", "admin")
    campaign = Campaign.objects.create(name="Shut", state="closed", created_by=admin)
    sign_in(page.context, admin)
    page.goto(f"/campaigns/{campaign.public_id}/import")
    (tmp_path / "rows.jsonl").write_text("{}")
    page.get_by_label("File", exact=True).set_input_files(tmp_path / "rows.jsonl")
    page.get_by_role("button", name="Import").click()
    page.get_by_role("status").filter(has_text="The campaign is closed.").wait_for()


def test_a_chosen_file_is_previewed_and_its_columns_are_mapped(page: Page, sign_in: SignIn, tmp_path: Path) -> None:
    admin = make_user("admin", "admin")
    campaign = Campaign.objects.create(name="New", created_by=admin)
    sign_in(page.context, admin)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/campaigns/{campaign.public_id}/import")
    rows = "".join(f"Why {n}?,Because.,{'So. ' * 20}\n" for n in range(30_000))  # more than is sent for a preview
    (tmp_path / "table.csv").write_text("Question,One,Two\n" + rows[:2_000_000].rsplit("\n", 1)[0])
    page.get_by_label("File", exact=True).set_input_files(tmp_path / "table.csv")
    page.get_by_text("No item can be made of these rows.").wait_for()
    page.get_by_label("Read it as").select_option("columns")
    page.get_by_label("Prompt", exact=True).select_option("Question")
    page.get_by_label("Answer a").select_option("One")
    page.get_by_label("Answer b").focus()
    page.get_by_label("Answer b").select_option("Two")
    page.get_by_role("status").filter(has_text="Preview of the first 20 rows").wait_for()
    page.get_by_text("Why 0?").wait_for()
    assert page.evaluate("document.activeElement.id") == "id_column-answer_b"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
    page.get_by_role("button", name="Import").click()
    page.get_by_text("Every line could be read.").wait_for()


def test_closing_a_campaign_asks_first(page: Page, sign_in: SignIn) -> None:
    admin = make_user("admin", "admin")
    campaign = Campaign.objects.create(name="Open", state="open", created_by=admin)
    sign_in(page.context, admin)
    page.goto(f"/campaigns/{campaign.public_id}/")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Close").click()
    campaign.refresh_from_db()
    assert campaign.state == "open"
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Close").click()
    page.get_by_text("The campaign is closed.").wait_for()
    campaign.refresh_from_db()
    assert campaign.state == "closed"


def test_a_removed_reviewer_hears_nothing_more(page: Page, sign_in: SignIn) -> None:
    admin, mina = make_user("admin", "admin"), make_user("mina")
    campaign = Campaign.objects.create(name="Watched", state="open", created_by=admin)
    membership = campaign.memberships.create(user=mina, role="reviewer")
    sign_in(page.context, mina)
    with page.expect_websocket() as opened:
        page.goto(f"/campaigns/{campaign.public_id}/")
    socket = opened.value
    socket.wait_for_event("framereceived")
    membership.delete()
    with socket.expect_event("close"):
        campaign_changed(campaign)

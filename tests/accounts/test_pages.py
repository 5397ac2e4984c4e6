"""The pages about people in a real browser: accessible in both colour schemes, no wider than a phone, usable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from accounts import invitations
from accounts.models import User
from accounts.tokens import create_token
from labeling.models import Campaign
from tests.conftest import PASSWORD, Site

pytestmark = pytest.mark.browser
SignIn = Callable[[BrowserContext, User], None]


def check(page: Page) -> None:
    """axe has no complaint, and nothing sticks out sideways."""
    expect(page.locator("main")).to_be_visible()
    page.wait_for_load_state()
    violations = Axe().run(page).response["violations"]
    assert [(found["id"], [node["html"] for node in found["nodes"]]) for found in violations] == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_fit_a_phone(
    browser: Browser, site: Site, sign_in: SignIn, admin: User, manager: User, campaign: Campaign, scheme: str
) -> None:
    _, token = invitations.create_invitation(admin, campaign=campaign, email="a.rather.long.address@mail.example.org")
    create_token(admin, name="export script")
    context = browser.new_context(
        base_url=site.url,
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": 390, "height": 844},
    )
    page = context.new_page()
    for path in ("/accounts/login/", "/accounts/signup/", f"/invite/{token}/", "/invite/unknown/", "/nowhere/"):
        page.goto(path)
        check(page)
    page.goto(f"/invite/{token}/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("short")
    page.get_by_role("button", name="Make my account").click()
    expect(page.get_by_text("This user name is taken.")).to_be_visible()
    check(page)
    sign_in(context, admin)
    for path in (
        "/people/",
        f"/campaigns/{campaign.public_id}/invitations/",
        "/profile/",
        f"/invite/{token}/",
        "/accounts/logout/",
        "/accounts/password/change/",
        "/accounts/2fa/",
        "/accounts/reauthenticate/",
    ):
        page.goto(path)
        check(page)
    page.goto("/people/")
    page.get_by_role("button", name="Make a link").click()
    check(page)
    page.goto("/profile/")
    page.get_by_label("Name").fill("notebook")
    page.get_by_role("button", name="Make a token").click()
    check(page)
    context.close()


def test_a_newcomer_follows_a_link_from_an_admin_into_the_campaign(
    page: Page, browser: Browser, site: Site, admin: User, campaign: Campaign
) -> None:
    page.goto("/people/")
    page.get_by_label("Username or email").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Campaign", exact=False).first.select_option(label=str(campaign))
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("The invitation link").input_value()

    newcomer = browser.new_context()
    theirs = newcomer.new_page()
    theirs.goto(link)
    theirs.get_by_label("Username").fill("newcomer")
    theirs.get_by_label("Password").fill(PASSWORD)
    theirs.get_by_role("button", name="Make my account").click()
    expect(theirs.get_by_role("heading", name="Campaigns")).to_be_visible()
    expect(theirs.get_by_role("link", name=campaign.name)).to_be_visible()
    newcomer.close()

    page.reload()
    expect(page.get_by_role("rowheader", name="newcomer")).to_be_visible()


def test_a_second_factor_is_set_up_in_the_browser(page: Page, site: Site, outsider: User) -> None:
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time

    page.goto("/profile/")
    page.get_by_label("Username or email").fill("outsider")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Two-factor sign-in").click()
    page.get_by_role("link", name="Activate").click()
    page.get_by_label("Password").fill(PASSWORD)  # such a change asks for it again
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_label("Authenticator secret")).to_be_visible()
    check(page)
    secret = page.get_by_label("Authenticator secret").input_value()
    code = format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))
    page.get_by_label("Authenticator code").fill(code)
    page.get_by_role("button", name="Activate").click()
    page.goto("/accounts/2fa/")
    expect(page.get_by_text("Authentication using an authenticator app is active.")).to_be_visible()
    check(page)
    page.goto("/accounts/2fa/recovery-codes/")
    check(page)

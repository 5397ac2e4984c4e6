"""Signing in again in another tab changes session and token; a page that was open before goes on working."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from django.test import Client

from accounts.models import User
from labeling.models import Campaign, Ranking
from tests.conftest import PASSWORD
from tests.labeling.conftest import add_items

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

LOGIN = "/accounts/login/"


def fill_in(page: Page, user: User) -> None:
    page.goto(LOGIN)
    page.get_by_label("Username or email").fill(user.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: not url.endswith(LOGIN))


@pytest.mark.browser
def test_a_page_answers_with_the_token_of_the_newest_sign_in(
    page: Page, sign_in: Callable[[BrowserContext, User], None], campaign: Campaign, annotator: User
) -> None:
    add_items(campaign, 2)
    fill_in(page, annotator)
    page.goto(f"/campaigns/{campaign.public_id}/label/")
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector("#answer")
    before = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}

    other = page.context.new_page()
    other.goto("/profile/")
    other.locator("details.menu summary").click()
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url(f"**{LOGIN}")
    fill_in(other, annotator)
    after = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    assert after["csrftoken"] != before["csrftoken"]
    assert after["sessionid"] != before["sessionid"]

    lease = page.locator("#task").get_attribute("data-lease")
    page.get_by_role("button", name="A is better").click()
    page.wait_for_function("lease => document.getElementById('task').dataset.lease !== lease", arg=lease)
    page.get_by_text("Saved").first.wait_for()  # the next item may be shown before the answer has arrived
    assert Ranking.objects.get().user == annotator


@pytest.mark.django_db
def test_a_form_with_an_old_token_is_refused_with_what_to_do(campaign: Campaign, annotator: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get(LOGIN)
    old = client.cookies["csrftoken"].value
    client.force_login(annotator)
    client.cookies["csrftoken"] = "b" * 32
    url = f"/campaigns/{campaign.public_id}/label/next"
    for token in (old, "", "b" * 31):
        answer = client.post(url, {"csrfmiddlewaretoken": token})
        assert answer.status_code == 403
        assert b"eload" in answer.content
    assert client.post(url, {"csrfmiddlewaretoken": "b" * 32}).status_code == 302
    api = f"/api/campaigns/{campaign.public_id}/next"
    assert client.post(api, {}, "application/json").status_code == 403
    assert client.post(api, {}, "application/json", headers={"X-CSRFToken": "b" * 32}).status_code == 200

"""What people set for themselves."""

from __future__ import annotations

import json

import pytest

from accounts.models import User
from accounts.preferences import InvalidPreference, Preferences, preferences_of, set_preferences
from tests.conftest import client_for


def test_settings_are_kept_one_by_one_and_only_where_they_differ(admin: User) -> None:
    assert preferences_of(admin) == Preferences()
    set_preferences(admin, {"text_size": "large", "diff": "yes"})
    set_preferences(admin, {"diff": "", "keys": '{"s": "x", "f": "f"}'})
    admin.refresh_from_db()
    assert admin.preferences == {"text_size": "large", "keys": {"s": "x"}}
    assert preferences_of(admin).keys == {"s": "x"}


REFUSED = [
    {"text_size": "huge"},
    {"language": "tlh"},
    {"password": "x"},
    {"keys": "no"},
    {"keys": "[]"},
    {"keys": '{"s": "f"}'},
    {"keys": '{"s": "xy"}'},
    {"keys": '{"Enter": "x"}'},
    {"keys": '{"s": "é", "f": "é"}'},
    {"keys": '{"s": 1}'},
]


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_no_setting_is_refused_and_nothing_changes(admin: User, given: dict[str, str]) -> None:
    with pytest.raises(InvalidPreference):
        set_preferences(admin, {"layout": "tabs"} | given)
    admin.refresh_from_db()
    assert admin.preferences == {}


def test_two_keys_may_change_places(admin: User) -> None:
    assert set_preferences(admin, {"keys": '{"s": "f", "f": "s"}'}).keys == {"s": "f", "f": "s"}


def test_the_page_saves_with_and_without_a_script(admin: User) -> None:
    client = client_for(admin)
    answer = client.post("/profile/preferences", {"keys": json.dumps({"s": "x"})}, headers={"HX-Request": "true"})
    assert answer.status_code == 204
    refused = client.post("/profile/preferences", {"keys": '{"f": "u"}'})
    assert (refused.status_code, refused.text) == (422, "u is taken by another action.")
    plain = client.post("/profile/preferences", {"raw": ["", "yes"], "next": "/campaigns/"})
    assert (plain.status_code, plain["Location"]) == (302, "/campaigns/")
    assert client.post("/profile/preferences", {"next": "https://evil.example/"})["Location"] == "/profile/"
    admin.refresh_from_db()
    assert admin.preferences == {"keys": {"s": "x"}, "raw": True}


def test_pages_speak_the_language_that_was_set_else_what_the_browser_asks_for(admin: User) -> None:
    client = client_for(admin)
    assert '<html lang="en" dir="ltr">' in client.get("/profile/").text
    assert '<html lang="de" dir="ltr">' in client.get("/profile/", headers={"Accept-Language": "de-AT,de;q=0.9"}).text
    set_preferences(admin, {"language": "de"})
    page = client.get("/profile/", headers={"Accept-Language": "en"})
    assert (page["Content-Language"], "Sprache" in page.text) == ("de", True)

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import URLPattern

from accounts import sign_in_urls
from accounts.models import User
from config.settings import BASE_DIR
from tests.conftest import PASSWORD, child_environment, client_for

pytestmark = pytest.mark.django_db
LOGIN = "/accounts/login/"


@pytest.fixture(autouse=True)
def _forget_rates(db: None) -> Iterator[None]:
    yield
    cache.clear()


@pytest.mark.parametrize("name", ["outsider", "Outsider", "outsider@example.org"])
def test_people_sign_in_with_name_or_address(outsider: User, name: str) -> None:
    client = Client()
    assert client.post(LOGIN, {"login": name, "password": PASSWORD}).status_code == 302
    assert client.session["_auth_user_id"] == str(outsider.pk)


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(outsider: User) -> None:
    sentences = []
    for name in ("outsider", "nobody"):
        answer = Client().post(LOGIN, {"login": name, "password": "wrong password"})
        assert answer.status_code == 200
        sentences.append(answer.context["form"].errors.as_text())
    assert sentences[0] == sentences[1]


def test_guessing_a_password_is_locked_out_even_for_the_right_one(outsider: User) -> None:
    for _ in range(5):
        Client().post(LOGIN, {"login": "outsider", "password": "wrong password"})
    client = Client()
    answer = client.post(LOGIN, {"login": "outsider", "password": PASSWORD})
    assert "_auth_user_id" not in client.session
    assert b"Too many failed login attempts" in answer.content


def test_guessing_names_from_one_address_is_locked_out(outsider: User) -> None:
    for number in range(10):
        Client().post(LOGIN, {"login": f"name{number}", "password": "wrong password"})
    client = Client()
    client.post(LOGIN, {"login": "outsider", "password": PASSWORD})
    assert "_auth_user_id" not in client.session


GUESSES = """
import django
django.setup()
from django.test import Client
for _ in range(5):
    Client().post("/accounts/login/", {"login": "outsider", "password": "wrong password"})
"""


@pytest.mark.django_db(transaction=True)
def test_web_processes_count_guesses_together(outsider: User) -> None:
    environment = child_environment(DJANGO_SETTINGS_MODULE="tests.settings")
    subprocess.run([sys.executable, "-c", GUESSES], cwd=BASE_DIR, env=environment, check=True)
    client = Client()
    answer = client.post(LOGIN, {"login": "outsider", "password": PASSWORD})
    assert "_auth_user_id" not in client.session
    assert b"Too many failed login attempts" in answer.content


def test_the_form_waits_for_a_name_or_an_address(db: None) -> None:
    page = Client().get("/accounts/login/").content.decode()
    assert "Username or email" in page
    assert re.search(r'<input[^>]+name="login"[^>]* autofocus', page)


def test_sign_up_is_closed(db: None) -> None:
    page = Client().get("/accounts/signup/")
    assert b"made by invitation" in page.content
    Client().post("/accounts/signup/", {"username": "x", "password1": PASSWORD, "email": ""})
    assert not User.objects.exists()


def test_an_inactive_person_does_not_get_in(outsider: User) -> None:
    User.objects.update(is_active=False)
    client = Client()
    client.post(LOGIN, {"login": "outsider", "password": PASSWORD})
    assert "_auth_user_id" not in client.session


def test_sign_in_returns_to_where_one_was_going_but_never_to_another_site(outsider: User) -> None:
    answer = Client().post(LOGIN, {"login": "outsider", "password": PASSWORD, "next": "/profile/"})
    assert answer.headers["Location"] == "/profile/"
    answer = Client().post(LOGIN, {"login": "outsider", "password": PASSWORD, "next": "https://evil.example/"})
    assert answer.headers["Location"] == "/"


def test_signing_in_changes_the_session_key(outsider: User) -> None:
    client = Client()
    session = client.session
    session["seen"] = True
    session.save()
    client.cookies["sessionid"] = str(session.session_key)
    client.post(LOGIN, {"login": "outsider", "password": PASSWORD})
    assert client.cookies["sessionid"].value != session.session_key


def test_signing_out_needs_a_post(outsider: User) -> None:
    client = client_for(outsider)
    client.get("/accounts/logout/")
    assert "_auth_user_id" in client.session
    client.post("/accounts/logout/")
    assert "_auth_user_id" not in client.session


def test_a_form_from_another_site_is_refused(outsider: User) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(LOGIN, {"login": "outsider", "password": PASSWORD}).status_code == 403


def test_password_reset_exists_only_where_mail_can_be_sent(settings: Any) -> None:
    names = {pattern.name for pattern in sign_in_urls.urlpatterns if isinstance(pattern, URLPattern)}
    assert "account_reset_password" not in names
    settings.EMAIL_HOST = "mail.example.org"
    with_mail = runpy.run_path(sign_in_urls.__file__)["urlpatterns"]
    assert "account_reset_password" in {pattern.name for pattern in with_mail if isinstance(pattern, URLPattern)}
    assert b"Forgot your password" not in Client().get(LOGIN).content


def test_a_second_factor_is_asked_for_once_it_is_set_up(outsider: User) -> None:
    from allauth.mfa.totp.internal.auth import (
        TOTP,
        format_hotp_value,
        generate_totp_secret,
        hotp_value,
        yield_hotp_counters_from_time,
    )

    secret = generate_totp_secret()
    TOTP.activate(outsider, secret)
    client = Client()
    answer = client.post(LOGIN, {"login": "outsider", "password": PASSWORD})
    assert answer.headers["Location"] == "/accounts/2fa/authenticate/"
    assert "_auth_user_id" not in client.session
    counter = next(iter(yield_hotp_counters_from_time()))
    client.post("/accounts/2fa/authenticate/", {"code": format_hotp_value(hotp_value(secret, counter))})
    assert client.session["_auth_user_id"] == str(outsider.pk)

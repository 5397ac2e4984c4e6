from __future__ import annotations

import io
import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.test import Client
from django.utils import timezone

from accounts import people
from accounts.models import ApiToken, User
from accounts.people import LastAdmin
from accounts.tokens import create_token
from tests.conftest import PASSWORD, client_for, make_user

pytestmark = pytest.mark.django_db


def test_an_admin_changes_a_role(admin: User, outsider: User) -> None:
    client_for(admin).post(f"/people/{outsider.pk}/role", {"role": "researcher"})
    outsider.refresh_from_db()
    assert outsider.is_researcher
    client_for(admin).post(f"/people/{outsider.pk}/role", {"role": "emperor"})
    outsider.refresh_from_db()
    assert outsider.role == "researcher"


def test_deactivating_ends_sessions_and_tokens_at_once(admin: User, outsider: User) -> None:
    client, (_, token) = client_for(outsider), create_token(outsider, name="script")
    assert client.get("/profile/").status_code == 200
    assert Client().get("/api/schema/", HTTP_AUTHORIZATION=f"Bearer {token}").status_code == 200
    client_for(admin).post(f"/people/{outsider.pk}/active", {"active": "0"})
    assert client.get("/profile/").status_code == 302
    assert Client().get("/api/schema/", HTTP_AUTHORIZATION=f"Bearer {token}").status_code == 401
    client_for(admin).post(f"/people/{outsider.pk}/active", {"active": "1"})
    assert client.get("/profile/").status_code == 200


def test_the_last_admin_stays(admin: User) -> None:
    client = client_for(admin)
    client.post(f"/people/{admin.pk}/role", {"role": "annotator"})
    client.post(f"/people/{admin.pk}/active", {"active": "0"})
    admin.refresh_from_db()
    assert admin.is_site_admin
    assert b"last active admin" in client.get("/people/").content
    make_user("second", "admin")
    client.post(f"/people/{admin.pk}/role", {"role": "annotator"})
    admin.refresh_from_db()
    assert not admin.is_site_admin


def test_demoting_takes_a_superuser_flag_along(admin: User) -> None:
    other = make_user("other", "admin", is_superuser=True, is_staff=True)
    people.change_role(other, "annotator")
    assert not other.is_site_admin


@pytest.mark.django_db(transaction=True)
def test_of_two_admins_who_demote_each_other_at_once_one_is_refused() -> None:
    pair = [make_user("one", "admin"), make_user("two", "admin")]
    start, refused = threading.Barrier(2), []

    def demote(user: User) -> None:
        start.wait()
        try:
            people.change_role(user, "annotator")
        except LastAdmin:
            refused.append(user)
        finally:
            connection.close()

    threads = [threading.Thread(target=demote, args=(user,)) for user in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert User.objects.filter(role="admin").count() == 1


def test_names_and_addresses_are_unique_in_any_case(outsider: User) -> None:
    with pytest.raises(IntegrityError):
        make_user("OUTSIDER")


def test_a_token_is_shown_once_and_stored_as_a_hash(outsider: User) -> None:
    client = client_for(outsider)
    token = client.post("/profile/tokens", {"name": "export", "days": 30, "scope": "read"}).context["new_token"]
    assert token not in client.get("/profile/").content.decode()
    assert token not in str(ApiToken.objects.values().get())
    header = f"Bearer {token}"
    assert Client().get("/api/schema/", HTTP_AUTHORIZATION=header).status_code == 200
    row = ApiToken.objects.get()
    assert row.last_used_at is not None
    assert client.post("/profile/tokens", {"name": "export", "days": 30, "scope": "read"}).status_code == 422
    assert client.post(f"/profile/tokens/{row.pk}/revoke").status_code == 302
    assert Client().get("/api/schema/", HTTP_AUTHORIZATION=header).status_code == 401
    assert client.post("/profile/tokens", {"name": "export", "days": 30, "scope": "read"}).status_code == 200


def test_an_expired_token_is_refused(outsider: User) -> None:
    row, token = create_token(outsider, name="old")
    ApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert Client().get("/api/schema/", HTTP_AUTHORIZATION=f"Bearer {token}").status_code == 401


@pytest.mark.parametrize("header", ["Bearer", "Bearer pf_wrong", "Bearer \xff\xfe", "bearer  ", "Basic eDp5"])
def test_a_wrong_token_is_401(db: None, header: str) -> None:
    assert Client().get("/api/schema/", HTTP_AUTHORIZATION=header).status_code == 401


def test_nobody_revokes_the_token_of_another(outsider: User, annotator: User, admin: User) -> None:
    row, _ = create_token(outsider, name="mine")
    for user in (annotator, admin):
        assert client_for(user).post(f"/profile/tokens/{row.pk}/revoke").status_code == 404
    row.refresh_from_db()
    assert row.is_usable


def test_the_command_makes_the_first_admin(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    call_command("create_user", "chief", "--role", "admin", stdout=io.StringIO())
    chief = User.objects.get(username="chief")
    assert chief.is_site_admin
    assert chief.check_password(PASSWORD)
    assert client_for(chief).get("/admin/").status_code == 200


@pytest.mark.parametrize(("name", "password"), [("chief", "short"), ("OUTSIDER", PASSWORD), ("a b", PASSWORD)])
def test_the_command_refuses_in_one_sentence(
    outsider: User, monkeypatch: pytest.MonkeyPatch, name: str, password: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    with pytest.raises(CommandError):
        call_command("create_user", name)


def test_the_admin_site_is_for_site_admins_and_has_no_door_of_its_own(admin: User, researcher: User) -> None:
    assert client_for(admin).get("/admin/accounts/user/").status_code == 200
    assert client_for(researcher).get("/admin/accounts/user/").status_code == 404
    assert client_for(researcher).get("/admin/login/").status_code == 404
    answer = Client().get("/admin/login/?next=/admin/accounts/")
    assert answer.headers["Location"] == "/accounts/login/?next=/admin/accounts/"


def test_links_and_tokens_can_only_be_looked_at_in_the_admin_site(admin: User) -> None:
    row, _ = create_token(admin, name="mine")
    page = client_for(admin).get(f"/admin/accounts/apitoken/{row.pk}/change/")
    assert page.status_code == 200
    assert row.digest not in page.content.decode()
    assert client_for(admin).post(f"/admin/accounts/apitoken/{row.pk}/change/", {"name": "x"}).status_code == 403

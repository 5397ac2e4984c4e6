"""Everybody can have what is stored about them, and be taken out of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

from accounts.models import ApiToken, User
from accounts.privacy import personal_data
from accounts.tokens import create_token
from labeling.data.exporting import export_lines
from labeling.models import AuditEntry, Campaign, Membership, Ranking, Slot
from tests.conftest import PASSWORD, client_for
from tests.labeling.conftest import add_items, claim, submit

pytestmark = pytest.mark.django_db


@pytest.fixture
def secret(annotator: User, campaign: Campaign) -> str:
    """An annotator who has done a bit of everything; the secret of their second factor."""
    add_items(campaign)
    submit(annotator, claim(annotator, campaign), rationale="Because I said so.")
    claim(annotator, campaign)
    create_token(annotator, name="script")
    made: str = generate_totp_secret()
    TOTP.activate(annotator, made)
    return made


def test_people_download_what_refers_to_them_and_no_secrets(annotator: User, secret: str) -> None:
    answer = client_for(annotator).get("/profile/data")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    lines = [json.loads(line) for line in answer.content.decode().splitlines()]
    kinds = {line["what"] for line in lines}
    assert {"account", "membership", "ranking", "slot", "api token", "contribution", "authenticator"} <= kinds
    account = next(line for line in lines if line["what"] == "account")
    assert account["email"] == annotator.email
    assert any(line.get("rationale") == "Because I said so." for line in lines)
    text = answer.content.decode()
    annotator.refresh_from_db()
    token = ApiToken.objects.get(user=annotator)
    for hidden in (annotator.password, token.digest, secret, str(Slot.objects.get(state="leased").lease)):
        assert hidden not in text
    assert len(client_for(annotator).get("/api/me/data").content.splitlines()) == len(lines)


def test_nobody_elses_data_is_in_it(annotator: User, secret: str, outsider: User, admin: User) -> None:
    text = "".join(personal_data(outsider))
    assert f'"{annotator.username}"' not in text.replace('"role": "annotator"', "")
    assert "Because I said so." not in text
    assert annotator.email not in "".join(personal_data(admin))


def test_an_erased_person_is_gone_and_their_answers_stay(
    annotator: User, secret: str, campaign: Campaign, admin: User
) -> None:
    theirs = client_for(annotator)
    before = list(export_lines(campaign, "rankings", "jsonl"))
    ranking = Ranking.objects.get()
    client = client_for(admin)
    assert client.post(f"/people/{annotator.pk}/active", {"active": "0"}).status_code == 302
    assert "Erase" in client.get("/people/").content.decode()
    assert client.post(f"/people/{annotator.pk}/erase").status_code == 302

    person = User.objects.get(pk=annotator.pk)
    assert person.username.startswith("erased-")
    assert (person.email, person.is_active, person.check_password(PASSWORD)) == ("", False, False)
    assert theirs.get("/profile/").status_code == 302
    assert not Membership.objects.filter(user=person).exists()
    assert not ApiToken.objects.filter(user=person).exists()
    assert list(Ranking.objects.all()) == [ranking]
    assert list(export_lines(campaign, "rankings", "jsonl")) == before
    stored = "".join(personal_data(person))
    assert "annotator@example.org" not in stored
    assert secret not in stored
    assert AuditEntry.objects.filter(verb="person.erase", actor=admin).exists()


def test_the_last_admin_is_not_erased_and_nobody_else_erases(admin: User, annotator: User, secret: Any) -> None:
    assert client_for(admin).delete(f"/api/people/{admin.pk}").status_code == 409
    assert client_for(annotator).delete(f"/api/people/{admin.pk}").status_code == 404
    assert client_for(annotator).post(f"/people/{admin.pk}/erase").status_code == 404
    admin.refresh_from_db()
    assert (admin.username, admin.is_active) == ("admin", True)
    assert client_for(admin).delete(f"/api/people/{annotator.pk}").status_code == 204

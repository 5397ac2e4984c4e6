from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import invitations
from accounts.invitations import CannotJoin, InvitationRefused, InvitationUnusable
from accounts.models import Invitation, User
from labeling.models import Campaign, Membership
from tests.conftest import PASSWORD, client_for, make_user

pytestmark = pytest.mark.django_db
NEW = {"username": "newcomer", "email": "new@example.org", "password": PASSWORD}


def invite(sender: User, **what: Any) -> str:
    return invitations.create_invitation(sender, **what)[1]


def test_a_newcomer_gets_an_account_a_membership_and_is_signed_in(manager: User, campaign: Campaign) -> None:
    token = invite(manager, campaign=campaign, campaign_role="reviewer")
    client = Client()
    assert b"invites you to <strong>Support replies" in client.get(f"/invite/{token}/").content
    answer = client.post(f"/invite/{token}/", NEW)
    assert answer.status_code == 302
    user = User.objects.get(username="newcomer")
    assert user.role == "annotator"
    assert user.check_password(PASSWORD)
    assert client.session["_auth_user_id"] == str(user.pk)
    assert Membership.objects.get(campaign=campaign, user=user).role == "reviewer"
    assert Invitation.objects.get().accepted_by == user


def test_the_token_is_not_stored(admin: User) -> None:
    token = invite(admin, role="researcher")
    assert token not in str(Invitation.objects.values().get())


def test_a_link_works_once(admin: User) -> None:
    token = invite(admin)
    assert Client().post(f"/invite/{token}/", NEW).status_code == 302
    again = Client().post(f"/invite/{token}/", NEW | {"username": "second", "email": ""})
    assert again.status_code == 404
    assert not User.objects.filter(username="second").exists()


@pytest.mark.parametrize("fate", ["expired", "revoked", "unknown"])
def test_links_that_do_not_work_all_look_the_same(admin: User, fate: str) -> None:
    invitation, token = invitations.create_invitation(admin)
    if fate == "expired":
        Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    elif fate == "revoked":
        invitations.revoke(invitation)
    else:
        token = "no-such-token"
    for send in (Client().get, Client().post):
        answer = send(f"/invite/{token}/", NEW)
        assert answer.status_code == 404
        assert b"does not work any more" in answer.content
    assert not User.objects.filter(username="newcomer").exists()


def test_a_signed_in_person_joins_with_their_account(manager: User, campaign: Campaign, outsider: User) -> None:
    token = invite(manager, campaign=campaign)
    client = client_for(outsider)
    assert b"Join Support replies?" in client.get(f"/invite/{token}/").content
    assert client.post(f"/invite/{token}/").status_code == 302
    assert Membership.objects.get(campaign=campaign, user=outsider).role == "annotator"


def test_an_invitation_never_changes_a_membership_or_a_site_role(
    admin: User, campaign: Campaign, manager: User
) -> None:
    token = invite(admin, role="admin", campaign=campaign, campaign_role="annotator")
    with pytest.raises(CannotJoin, match="member"):
        invitations.accept_as(manager, token)
    manager.refresh_from_db()
    assert manager.role == "annotator"
    assert Membership.objects.get(user=manager).role == "manager"
    assert invitations.find_usable(token), "a refusal leaves the link usable"


def test_an_invitation_without_a_campaign_is_nothing_for_a_member(admin: User, outsider: User) -> None:
    token = invite(admin, role="admin")
    client = client_for(outsider)
    assert b"for somebody new" in client.get(f"/invite/{token}/").content
    assert client.post(f"/invite/{token}/").status_code == 409
    outsider.refresh_from_db()
    assert outsider.role == "annotator"


@pytest.mark.parametrize(
    "what", [{}, {"role": "researcher"}, {"role": "researcher", "campaign": True}, {"foreign": True}]
)
def test_a_manager_invites_annotators_to_their_campaign_and_nobody_else(
    manager: User, campaign: Campaign, foreign_campaign: Campaign, what: dict[str, Any]
) -> None:
    what = what | ({"campaign": campaign} if what.pop("campaign", False) else {})
    what = what | ({"campaign": foreign_campaign} if what.pop("foreign", False) else {})
    with pytest.raises(InvitationRefused):
        invite(manager, **what)


@pytest.mark.parametrize("loss", ["membership", "active"])
def test_a_link_dies_with_its_senders_rights(manager: User, campaign: Campaign, loss: str) -> None:
    token = invite(manager, campaign=campaign)
    if loss == "membership":
        Membership.objects.filter(user=manager).update(role="reviewer")
    else:
        User.objects.filter(pk=manager.pk).update(is_active=False)
    with pytest.raises(InvitationUnusable):
        invitations.find_usable(token)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"username": "Manager"}, "This user name is taken."),
        ({"email": "MANAGER@example.org"}, "An account with this address exists."),
        ({"password": "short"}, "too short"),
        ({"password": "newcomer123"}, "too similar"),
        ({"username": "a b"}, "valid username"),
        ({"username": ""}, "required"),
    ],
)
def test_a_form_with_a_mistake_says_which_and_keeps_the_link(
    manager: User, campaign: Campaign, change: dict[str, str], sentence: str
) -> None:
    token = invite(manager, campaign=campaign)
    answer = Client().post(f"/invite/{token}/", NEW | change)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert invitations.find_usable(token)


@pytest.mark.django_db(transaction=True)
def test_of_many_people_with_one_link_exactly_one_gets_in(admin: User, campaign: Campaign) -> None:
    token = invite(admin, campaign=campaign)
    start, outcomes = threading.Barrier(6), []

    def accept(number: int) -> None:
        start.wait()
        try:
            invitations.accept_as_new_person(token, username=f"person{number}", email="", password=PASSWORD)
            outcomes.append("in")
        except InvitationUnusable:
            outcomes.append("out")
        finally:
            connection.close()

    threads = [threading.Thread(target=accept, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in", *["out"] * 5]
    assert Membership.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_invited_people_who_want_one_name_one_is_told(admin: User) -> None:
    """Both forms saw the name free; the constraint decides, and the loser's link still works."""
    token = invite(admin)
    make_user("NewComer")
    with pytest.raises(CannotJoin, match="taken"):
        invitations.accept_as_new_person(token, **NEW)
    assert invitations.find_usable(token)


def test_an_admin_makes_and_revokes_links_on_the_people_page(admin: User) -> None:
    client = client_for(admin)
    answer = client.post("/people/invite", {"role": "researcher", "campaign_role": "annotator", "days": 3})
    invitation = Invitation.objects.get()
    token = answer.context["link"].rstrip("/").rsplit("/", 1)[1]
    assert invitations.find_usable(token) == invitation
    assert token not in client.get("/people/").content.decode(), "shown once"
    assert client.post(f"/invitations/{invitation.pk}/revoke").status_code == 302
    with pytest.raises(InvitationUnusable):
        invitations.find_usable(token)


def test_a_manager_makes_links_for_their_campaign(manager: User, campaign: Campaign) -> None:
    client = client_for(manager)
    url = f"/campaigns/{campaign.public_id}/invitations/"
    answer = client.post(url, {"campaign_role": "annotator", "days": 3})
    assert "/invite/" in answer.context["link"]
    invitation = Invitation.objects.get()
    assert invitation.campaign == campaign
    assert client.post(url, {"campaign_role": "emperor", "days": 3}).status_code == 422
    assert client.post(f"/invitations/{invitation.pk}/revoke").status_code == 302
    invitation.refresh_from_db()
    assert invitation.revoked_at is not None


def test_others_cannot_revoke_an_invitation(admin: User, researcher: User, annotator: User, manager: User) -> None:
    invitation, _ = invitations.create_invitation(admin)
    for user in (researcher, annotator, manager):
        assert client_for(user).post(f"/invitations/{invitation.pk}/revoke").status_code == 404
    invitation.refresh_from_db()
    assert invitation.revoked_at is None

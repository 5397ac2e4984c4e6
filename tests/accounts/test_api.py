"""People, invitations and tokens over the API."""

from __future__ import annotations

from typing import Any

from django.test import Client

from accounts.models import ApiToken, Invitation, User
from accounts.tokens import create_token
from labeling.models import Campaign
from tests.conftest import client_for, make_user


def send(client: Client, method: str, url: str, status: int = 200, **body: Any) -> Any:
    response = getattr(client, method)(f"/api/{url}", body, content_type="application/json")
    assert response.status_code == status, response.content
    return response.json() if response.content else None


def test_an_admin_looks_after_people(admin: User, annotator: User) -> None:
    client = client_for(admin)
    people = client.get("/api/people/?page_size=1").json()
    assert [row["username"] for row in people["results"]] == ["annotator"]
    assert client.get(people["next"]).json()["results"][0]["username"] == "admin"
    assert send(client, "patch", f"people/{annotator.pk}", role="researcher")["role"] == "researcher"
    assert send(client, "patch", f"people/{annotator.pk}", is_active=False)["is_active"] is False
    assert "last active admin" in send(client, "patch", f"people/{admin.pk}", 409, role="annotator")["detail"]
    admin.refresh_from_db()
    assert admin.role == "admin"
    assert client.get(f"/api/people/{annotator.pk}").json()["role"] == "researcher"


def test_an_invitation_made_over_the_api_works_once_until_it_is_revoked(campaign: Campaign, manager: User) -> None:
    client = client_for(manager)
    url = f"campaigns/{campaign.public_id}/invitations"
    made = send(client, "post", url, 201, campaign_role="reviewer", days=3)
    assert Client().get(made["link"]).status_code == 200
    assert [row["id"] for row in client.get(f"/api/{url}").json()["results"]] == [made["id"]]
    assert "link" not in client.get(f"/api/{url}").json()["results"][0]
    send(client_for(make_user("stranger")), "delete", f"invitations/{made['id']}", 404)
    send(client, "delete", f"invitations/{made['id']}", 204)
    assert Client().get(made["link"]).status_code == 404
    assert send(client, "post", url, 400, days=1000)["detail"].startswith("days:")


def test_an_admin_invites_to_the_site_and_to_a_campaign(admin: User, campaign: Campaign) -> None:
    client = client_for(admin)
    made = send(client, "post", "invitations/", 201, role="researcher", campaign=campaign.public_id)
    assert (made["role"], made["campaign"]) == ("researcher", campaign.public_id)
    assert Invitation.objects.get().campaign == campaign
    send(client, "post", "invitations/", 404, campaign="nowhere")


def test_tokens_are_made_with_a_session_and_shown_once(annotator: User, campaign: Campaign) -> None:
    client = client_for(annotator)
    made = send(client, "post", "me/tokens", 201, name="script")
    program = Client(headers={"authorization": f"Bearer {made['token']}"})
    me = program.get("/api/me").json()
    assert me["username"] == "annotator"
    assert me["memberships"] == [{"campaign": campaign.public_id, "name": campaign.name, "role": "annotator"}]
    assert "cannot make tokens" in send(program, "post", "me/tokens", 403, name="another")["detail"]
    assert "of this name" in send(client, "post", "me/tokens", 400, name="script")["detail"]
    [listed] = client.get("/api/me/tokens").json()["results"]
    assert "token" not in listed and listed["last_used_at"]
    foreign, _ = create_token(make_user("stranger"), name="theirs")
    send(client, "delete", f"me/tokens/{foreign.pk}", 404)
    send(client, "delete", f"me/tokens/{made['id']}", 204)
    assert program.get("/api/me").status_code == 401
    assert ApiToken.objects.get(pk=made["id"]).revoked_at is not None

"""The audit log: what is in it, who reads it, and that nobody changes it."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, transaction

from accounts import invitations
from accounts.models import User
from labeling import audit
from labeling.models import AuditEntry, Campaign
from tests.conftest import client_for
from tests.labeling.conftest import add_items


def test_what_people_do_to_a_campaign_is_written_down(campaign: Campaign, manager: User, annotator: User) -> None:
    client, path = client_for(manager), f"/campaigns/{campaign.public_id}"
    add_items(campaign, 1)
    client.post(f"{path}/state", {"state": "paused"})
    client.post(f"{path}/settings", {"name": "New", "overlap": 2, "guidelines": "Read.", "protocol": "pair"})
    client.post(f"{path}/members/{annotator.pk}/role", {"role": "reviewer"})
    client.post(f"{path}/members/{annotator.pk}/remove")
    entries, following = audit.entries(campaign)
    assert [(entry.verb, entry.actor) for entry in entries[:4]] == [
        ("member.remove", manager),
        ("member.set", manager),
        ("campaign.change", manager),
        ("campaign.state", manager),
    ]
    assert entries[3].facts == {"before": "open", "after": "paused"}
    assert (entries[4].verb, entries[4].actor, following) == ("items.import", None, None)
    text = client.get(f"{path}/log").text
    assert "removed a member" in text.lower() and "annotator" in text
    assert "removed a member" not in client.get(f"{path}/log?verb=campaign.state").text.split("<tbody>")[1].lower()
    assert client.get(f"{path}/log?verb=x&actor=%00&before=999999999999999999999").status_code == 200
    assert client.get("/log/").status_code == 404  # of the whole site only admins


def test_an_entry_stays_as_it_is_whatever_becomes_of_those_it_names(campaign: Campaign, admin: User) -> None:
    audit.record(admin, "campaign.state", campaign, after="open")
    entry = AuditEntry.objects.get()
    for change in (lambda: AuditEntry.objects.update(verb="campaign.create"), AuditEntry.objects.all().delete):
        with pytest.raises(DatabaseError, match="only grows"), transaction.atomic():
            change()
    campaign.delete()
    entry.refresh_from_db()
    assert (entry.campaign, entry.target, entry.actor_name) == (None, "Support replies", "admin")
    assert "Support replies" in client_for(admin).get("/log/").text
    with pytest.raises(ValueError, match="no verb"):
        audit.record(admin, "something else")


def test_the_log_goes_page_by_page(campaign: Campaign, admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE_SIZE", 2)
    for number in range(5):
        audit.record(admin, "items.export", f"file {number}", campaign=campaign)
    seen, before = [], None
    while True:
        page, before = audit.entries(campaign, before=before)
        seen += [entry.target for entry in page]
        if before is None:
            break
    assert seen == [f"file {number}" for number in (4, 3, 2, 1, 0)]


def test_tokens_invitations_accounts_and_exports_are_written_down(
    campaign: Campaign, admin: User, manager: User
) -> None:
    client = client_for(manager)
    client.post("/profile/tokens", {"name": "script", "days": 30, "scope": "read"})
    client.post(f"/profile/tokens/{manager.api_tokens.get().pk}/revoke")
    invitation, _ = invitations.create_invitation(manager, campaign=campaign)
    client.post(f"/invitations/{invitation.pk}/revoke")
    client.get(f"/api/campaigns/{campaign.public_id}/export?what=preferences")
    client_for(admin).post(f"/people/{manager.pk}/role", {"role": "researcher"})
    entries, _ = audit.entries(None)
    assert {(entry.verb, entry.actor) for entry in entries} >= {
        ("token.create", manager),
        ("token.revoke", manager),
        ("invitation.create", manager),
        ("invitation.revoke", manager),
        ("items.export", manager),
        ("person.role", admin),
    }

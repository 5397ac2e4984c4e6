"""Lists ask the database as often for 30 rows as for 3, and go on behind the last row of a page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import invitations
from accounts.models import User
from accounts.tokens import create_token
from labeling.audit import record
from labeling.data.importing import import_rows
from labeling.models import Campaign, Delivery, Membership, Ranking, Webhook
from labeling.quality.gold import mark_gold
from tests.conftest import client_for, make_user
from training.models import ModelArtifact, TrainingRun

pytestmark = pytest.mark.django_db
SITE = ["/campaigns/", "/people/", "/log/", "/webhooks/", "/profile/", "/runs/", "/models/"]
SITE += ["/api/campaigns/", "/api/people/", "/api/invitations/", "/api/log/", "/api/webhooks/", "/api/me/tokens"]
SITE += ["/api/runs/", "/api/artifacts/"]
PAGES = ["", "live", "items/", "import", "quality/gold", "leaks/", "quality/", "review/", "members", "invitations/"]
PAGES += ["report", "health", "webhooks/", "log", "label/answers/"]
API = ["items", "imports", "gold", "leaks", "people", "members", "invitations", "report", "webhooks", "log", "answers"]


def fill(campaign: Campaign, admin: User, first: int, last: int) -> None:
    """One of everything that is listed, for each number."""
    manager = campaign.memberships.get(user__username="manager").user
    site_hook = Webhook.objects.filter(campaign=None).earliest("pk")
    for n in range(first, last):
        person = make_user(f"person{n}")
        Membership.objects.create(campaign=campaign, user=person, role="annotator")
        own = Campaign.objects.create(name=f"Campaign {n}", created_by=admin, state="open")
        Membership.objects.create(campaign=own, user=manager, role="manager")
        rows = [{"prompt": f"Which, {n}.{k}?", "completions": ["I am ChatGPT.", "Nobody."]} for k in range(2)]
        import_rows(campaign, rows, name=f"file{n}")
        item, gold = campaign.items.order_by("-pk")[:2]
        mark_gold(gold, tiers=[[0], [1]], user=admin)
        for user, target, kind in ((person, item, "normal"), (person, gold, "gold"), (admin, item, "normal")):
            Ranking.objects.create(
                **{"item": target, "campaign": campaign, "user": user, "labeler": user.username, "kind": kind},
                **{"tiers": [[0], [1]], "shown_order": [0, 1], "flags": ["opinion"], "protocol": "pair"},
                guidelines_version=1,
            )
        campaign.contributions.create(user=person, done=1, checks=1)
        hook = Webhook.objects.create(campaign=campaign, url=f"https://example.org/{n}", created_by=admin)
        for one in (hook, site_hook):
            Delivery.objects.create(webhook=one, event="test", payload={}, state="failed", next_at=timezone.now())
        Webhook.objects.create(url=f"https://example.org/{n}", created_by=admin)
        invitations.create_invitation(admin, campaign=campaign, email=f"p{n}@example.org")
        create_token(admin, name=f"token{n}")
        record(admin, "member.set", f"person{n}", campaign=campaign)
        run = TrainingRun.objects.create(name=f"run{n}", kind="reward", owner=admin, campaign=campaign)
        ModelArtifact.objects.create(name=f"model{n}", kind="reward", base_model="base", run=run, created_by=admin)


def asked(client: Any, address: str) -> list[str]:
    """The statements of a page that was there before: the first visit may compute what is kept."""
    client.get(address)
    with CaptureQueriesContext(connection) as queries:
        response = client.get(address)
    assert response.status_code == 200, address
    return [query["sql"] or "" for query in queries.captured_queries]


def test_no_list_asks_more_for_more_rows(campaign: Campaign, manager: User, admin: User) -> None:
    hook = Webhook.objects.create(url="https://example.org/all", created_by=admin)
    client = client_for(admin)
    addresses = [*SITE, f"/webhooks/{hook.public_id}/", f"/api/webhooks/{hook.public_id}/deliveries"]
    addresses += [f"/campaigns/{campaign.public_id}/{name}" for name in PAGES]
    addresses += [f"/api/campaigns/{campaign.public_id}/{name}" for name in API]
    fill(campaign, admin, 0, 3)
    few = {address: asked(client, address) for address in addresses}
    fill(campaign, admin, 3, 30)
    many = {address: asked(client, address) for address in addresses}
    assert {a: len(many[a]) - len(few[a]) for a in addresses if len(many[a]) > len(few[a])} == {}


def test_the_next_pages_have_the_other_rows(campaign: Campaign, manager: User, admin: User) -> None:
    Webhook.objects.create(url="https://example.org/all", created_by=admin)
    fill(campaign, admin, 0, 52)
    client = client_for(manager)
    for name in ("members", "quality/", "import", "webhooks/", "quality/gold", "invitations/", "leaks/", "../"):
        query, shown = "", []
        while query is not None:
            page = client.get(
                f"/campaigns/{campaign.public_id}/{name}{query}" if name != "../" else f"/campaigns/{query}"
            )
            shown += [row.pk for row in page.context["page"].rows]
            following = re.search(r'<a class="button" href="(\?[^"]+)" rel="next">', page.text)
            query = following[1].replace("&amp;", "&") if following else None
        assert len(set(shown)) == len(shown) >= 52, name


def test_people_are_found_by_their_names(campaign: Campaign, manager: User, admin: User) -> None:
    Webhook.objects.create(url="https://example.org/all", created_by=admin)
    fill(campaign, admin, 0, 3)
    client, base = client_for(admin), f"/campaigns/{campaign.public_id}/"
    for address in (f"{base}members", f"{base}quality/", "/people/"):
        rows = client.get(address, {"find": "PERSON2"}).context["page"].rows
        assert [str(getattr(row, "user", row)) for row in rows] == ["person2"], address
        assert "Nothing found" in client.get(address, {"find": "nobody\x00"}).text
    found = client.get("/campaigns/", {"find": "campaign 1"})
    assert [one.name for one in found.context["page"].rows] == ["Campaign 1"]
    assert "Nothing found" in client.get("/campaigns/", {"find": "%"}).text

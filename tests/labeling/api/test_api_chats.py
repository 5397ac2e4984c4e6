"""Live chats over the API: from choosing models to the vote, and who may do what."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.models import Campaign, ChatServer, ChatTurn, Contestant, Ranking
from tests.conftest import client_for, make_member
from tests.labeling.chats.rooms import NAMES, answer, make_live_chat
from training.models import ModelArtifact

pytestmark = pytest.mark.django_db


def models(owner: User) -> list[str]:
    made = [
        ModelArtifact.objects.create(kind="base", name=name, base_model="/base", created_by=owner) for name in NAMES
    ]
    return [model.public_id for model in made]


def test_a_manager_chooses_the_models(campaign: Campaign, researcher: User, manager: User) -> None:
    Campaign.objects.update(protocol="conversation")
    make_member(campaign, researcher, "manager")
    url, client = f"/api/campaigns/{campaign.public_id}/live-chat", client_for(researcher)
    assert client.get(url).json()["contestants"] == []
    chosen = models(researcher)
    put: dict[str, Any] = {"content_type": "application/json"}
    shown = client.put(url, {"models": chosen, "max_turns": 4}, **put).json()
    assert {one["name"] for one in shown["contestants"]} == set(NAMES)
    assert (shown["max_turns"], shown["is_on"], shown["votes"]) == (4, True, 0)
    for models_, reason in ((chosen[:1], "at least two"), ([*chosen, "nothere"], "'nothere'")):
        refused = client.put(url, {"models": models_}, **put)
        assert refused.status_code == 400 and reason in refused.json()["detail"]
    assert client.put(url, {"models": chosen, "temperature": 0}, **put).status_code == 400
    # Who is no researcher sees no models, but keeps those that are chosen.
    other = client_for(manager)
    assert other.put(url, {"models": chosen, "is_on": False}, **put).json()["is_on"] is False
    ModelArtifact.objects.create(kind="base", name="New", base_model="/base")
    new = ModelArtifact.objects.get(name="New").public_id
    assert other.put(url, {"models": [*chosen, new]}, **put).status_code == 400
    assert Contestant.objects.filter(is_active=True).count() == 2


def test_a_chat_from_beginning_to_end(campaign: Campaign, annotator: User) -> None:
    make_live_chat(campaign)
    url, client = f"/api/campaigns/{campaign.public_id}/chat", client_for(annotator)
    assert client.get(url).json() == {"chat": None, "why": "", "votes": 0, "target": 5}
    begun = client.post(url).json()["chat"]
    assert (begun["state"], begun["turns"]) == ("new", [])
    which = {"chat": begun["id"]}
    said = client.post(f"{url}/say", which | {"turn": 0, "message": "Hello?"}, content_type="application/json").json()
    assert said["chat"]["state"] == "loading"
    ChatServer.objects.update(state="ready", heartbeat_at=timezone.now())
    assert client.get(url).json()["chat"]["state"] == "writing"
    early = client.post(f"{url}/vote", which | {"choice": "A"}, content_type="application/json")
    assert (early.status_code, early.json()["detail"]) == (409, "Wait until both have answered.")
    ChatTurn.objects.get().replies.update(state="failed")
    assert client.get(url).json()["chat"]["state"] == "failed"
    assert client.post(f"{url}/again", which, content_type="application/json").json()["chat"]["state"] == "writing"
    answer(ChatTurn.objects.get(), "Left", "Right")
    replies = client.get(url).json()["chat"]["turns"][0]["replies"]
    assert [(one["side"], one["text"]) for one in replies] == [("A", "Left"), ("B", "Right")]
    voted = client.post(
        f"{url}/vote", which | {"choice": "B", "active_ms": 900}, content_type="application/json"
    ).json()
    assert (voted["chat"]["state"], voted["votes"]) == ("voted", 1)
    assert Ranking.objects.get().active_ms == 900
    assert client.delete(url).status_code == 204
    assert client.get(url).json()["chat"] is None
    gone = client.post(f"{url}/say", which | {"turn": 1, "message": "Hello?"}, content_type="application/json")
    assert gone.status_code == 409

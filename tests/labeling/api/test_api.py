"""The API as a client sees it: the contract, the doors, the cost of a request."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.tokens import create_token
from labeling.models import Campaign, Ranking
from tests.conftest import client_for, make_user
from tests.labeling.conftest import add_items, claim


def post(client: Client, url: str, body: Any = None, status: int = 200) -> Any:
    response = client.post(f"/api/{url}", json.dumps(body), content_type="application/json")
    assert response.status_code == status, response.content
    return response.json() if response.content else None


def test_a_campaign_from_draft_to_export(researcher: User):
    client = client_for(researcher)
    created = post(client, "campaigns/", {"name": "New", "protocol": "ranking", "overlap": 1}, 201)
    url = f"campaigns/{created['id']}"
    assert created["state"] == "draft"
    assert post(client, f"{url}/state", {"state": "open"}, 409)["detail"].startswith("Import items first")

    rows = [{"prompt": "Q", "completions": [{"text": t, "source": t} for t in "abc"]}, {"prompt": "P"}]
    file = io.BytesIO(b"\n".join(json.dumps(row).encode() for row in rows))
    file.name = "items.jsonl"
    report = client.post(f"/api/{url}/imports", {"file": file}).json()
    assert (report["accepted"], report["rejected"]) == (1, 1)
    assert report["errors"] == [
        {"line": 2, "reason": 'A line needs "completions", or "chosen" and "rejected", or another known form.'}
    ]
    assert post(client, f"{url}/state", {"state": "open"})["state"] == "open"

    make_user("carla")
    member = post(client, f"{url}/members", {"username": "carla", "role": "annotator"}, 201)
    assert (member["username"], member["role"]) == ("carla", "annotator")
    assert post(client, f"{url}/members", {"username": "nobody"}, 400)["detail"] == "username: There is no such person."
    carla = client_for(User.objects.get(username="carla"))
    task = post(carla, f"{url}/next")["task"]
    assert "source" not in json.dumps(task)
    texts = {completion["label"]: completion["messages"][0]["content"] for completion in task["completions"]}
    assert sorted(texts.values()) == ["a", "b", "c"]
    answer = {
        "tiers": [["C"], ["A", "B"]],
        "flags": ["opinion"],
        "rationale": "Because.",
        "active_ms": 1500,
        "next": True,
    }
    done = post(carla, f"leases/{task['lease']}/submit", answer)
    assert done["late"] is False
    assert done["task"] is None
    assert done["why"] == "Every item has all the answers it needs. Thank you."
    assert done["progress"] == {"done": 1, "total": 1, "mine": 1}

    response = client.get(f"/api/{url}/export?what=rankings")
    [row] = [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]  # type: ignore[attr-defined]
    assert row["id"] == done["ranking"]
    by_rank = [{row["completions"][index]["source"] for index in tier} for tier in row["tiers"]]
    assert by_rank == [{texts["C"]}, {texts["A"], texts["B"]}]
    assert [texts[label] for label in "ABC"] == [row["completions"][index]["source"] for index in row["shown_order"]]
    assert (row["flags"], row["rationale"], row["active_ms"]) == (["opinion"], "Because.", 1500)
    assert "carla" not in json.dumps(row)
    preferences = client.get(f"/api/{url}/export?what=preferences")
    mus = [json.loads(line)["mu"] for line in b"".join(preferences.streaming_content).splitlines()]  # type: ignore[attr-defined]
    assert sorted(mus) == [0.5, 1.0, 1.0]
    report = client.get(f"/api/{url}/report").json()
    assert report["people"][0]["username"] == "carla"
    assert report["statistics"]["agreement"]["reason"].startswith("undefined because")
    changed = client.patch(f"/api/{url}", {"guidelines": "Be kind."}, content_type="application/json").json()
    assert changed["guidelines_version"] == 2
    assert changed["progress"]["total"] == 1
    assert [entry["id"] for entry in client.get("/api/campaigns/").json()["results"]] == [created["id"]]


def test_submit_with_the_next_task_takes_eight_queries_and_one_commit(campaign: Campaign, anna: User):
    add_items(campaign, 5)
    client = client_for(anna)
    task = post(client, f"campaigns/{campaign.public_id}/next")["task"]
    answer = {"tiers": [["A"], ["B"]], "next": True}
    with CaptureQueriesContext(connection) as queries:
        response = post(client, f"leases/{task['lease']}/submit", answer)
    assert response["task"]["lease"] != task["lease"]
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert len(statements) <= 8, "\n".join(statements)
    # The test's own transaction turns the request's only transaction into one savepoint.
    assert sum(query["sql"].startswith("SAVEPOINT") for query in queries) == 1


def test_cannot_tell_has_to_be_said(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    client = client_for(anna)
    task = post(client, f"campaigns/{campaign.public_id}/next")["task"]
    url = f"leases/{task['lease']}/submit"
    assert "empty" in post(client, url, {"tiers": []}, 400)["detail"]
    assert "Either rank" in post(client, url, {"tiers": [["A"], ["B"]], "cannot_tell": True}, 400)["detail"]
    given = post(client, url, {"cannot_tell": True})
    ranking = Ranking.objects.get(public_id=given["ranking"])
    assert (ranking.tiers, ranking.cannot_tell, ranking.slot is not None) == ([], True, True)


def test_a_bearer_token_works_as_well_as_a_session(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    _, token = create_token(anna, name="script")
    response = Client().post(f"/api/campaigns/{campaign.public_id}/next", headers={"authorization": f"Bearer {token}"})
    assert response.json()["task"]["item"]


def test_a_session_needs_the_csrf_token_and_a_stranger_a_login(campaign: Campaign, anna: User):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(anna)
    assert strict.post(f"/api/campaigns/{campaign.public_id}/next").status_code == 403
    assert Client().post(f"/api/campaigns/{campaign.public_id}/next").status_code == 401


def test_the_same_submit_twice_gives_the_same_ranking(campaign: Campaign, anna: User):
    add_items(campaign, 3)
    client = client_for(anna)
    task = post(client, f"campaigns/{campaign.public_id}/next")["task"]
    url = f"leases/{task['lease']}/submit"
    first = post(client, url, {"tiers": [["A"], ["B"]], "next": True})
    again = post(client, url, {"tiers": [["A"], ["B"]], "next": True})
    assert again["ranking"] == first["ranking"]
    assert again["task"]["lease"] == first["task"]["lease"]
    assert "answered this already" in post(client, url, {"tiers": [["B"], ["A"]]}, 409)["detail"]
    assert Ranking.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "The ranking is empty."),
        ({"tiers": []}, "The ranking is empty."),
        ({"tiers": [["A"]]}, "Say which of the two is better"),
        ({"tiers": [["A"], ["Z"]]}, "There is no answer 'Z' here."),
        ({"tiers": [["A"], ["A"]]}, "ranked twice"),
        ({"tiers": [["A"], ["B"]], "flags": ["nonsense"]}, "flags"),
        ({"tiers": [["A"], ["B"]], "rationale": "x" * 10_001}, "rationale"),
        ({"tiers": [["A"], ["B"]], "rationale": "a\x00b"}, "rationale: Null characters"),
        ({"tiers": [["A"], ["B"]], "rationale": "\ud800"}, "rationale: Surrogate characters"),
        ({"tiers": [["A"], ["B"]], "active_ms": -1}, "active_ms"),
        ({"tiers": "A > B"}, "tiers: Expected a list"),
        ([], "non_field_errors: Invalid data"),
    ],
)
def test_an_invalid_ranking_is_refused_with_a_sentence_and_the_lease_stays(
    campaign: Campaign, anna: User, body: Any, problem: str
):
    add_items(campaign, 1)
    client = client_for(anna)
    task = claim(anna, campaign)
    assert problem in post(client, f"leases/{task.lease}/submit", body, 400)["detail"]
    assert post(client, f"leases/{task.lease}/submit", {"tiers": [["A", "B"]]})["late"] is False


def test_heartbeat_release_skip_and_undo(campaign: Campaign, anna: User):
    add_items(campaign, 3)
    client = client_for(anna)
    url = f"campaigns/{campaign.public_id}"
    assert post(client, f"{url}/undo", status=409)["detail"] == "There is no answer to take back."
    first = post(client, f"{url}/next")["task"]
    assert post(client, f"leases/{first['lease']}/heartbeat")["expires_at"] >= first["expires_at"]
    post(client, f"leases/{first['lease']}/release", status=204)
    assert "moved on" in post(client, f"leases/{first['lease']}/heartbeat", status=409)["detail"]
    second = post(client, f"{url}/next")["task"]
    assert "reason" in post(client, f"leases/{second['lease']}/skip", {"reason": "bored"}, 400)["detail"]
    third = post(client, f"leases/{second['lease']}/skip", {"reason": "broken", "next": True})["task"]
    assert third["item"] != second["item"]
    post(client, f"leases/{third['lease']}/submit", {"tiers": [["B"], ["A"]]})
    back = post(client, f"{url}/undo")
    assert back["task"]["item"] == third["item"]
    assert back["task"]["completions"] == third["completions"]
    assert back["progress"]["mine"] == 0


def test_what_one_may_not_know_of_is_404(campaign: Campaign, foreign_campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 2)
    client = client_for(anna)
    theirs = claim(ben, campaign)
    for action in ("submit", "heartbeat", "release", "skip"):
        for lease in (theirs.lease, uuid4()):
            post(client, f"leases/{lease}/{action}", {"tiers": [["A"], ["B"]], "reason": "other"}, 404)
    for place in (foreign_campaign.public_id, "nowhere", "%00"):
        for action in ("next", "undo", "state", "members", "imports"):
            post(client, f"campaigns/{place}/{action}", {}, 404)
        for action in ("", "/export", "/report"):
            assert client.get(f"/api/campaigns/{place}{action}").status_code == 404
    for action in ("state", "members", "imports"):  # a member, but no manager
        post(client, f"campaigns/{campaign.public_id}/{action}", {}, 404)
    assert client.get(f"/api/campaigns/{campaign.public_id}/export").status_code == 404
    assert client.patch(f"/api/campaigns/{campaign.public_id}", {}).status_code == 404
    post(client, "campaigns/", {"name": "Mine"}, 404)
    assert [entry["id"] for entry in client.get("/api/campaigns/").json()["results"]] == [campaign.public_id]


def test_a_removed_member_loses_the_lease_with_the_campaign(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    task = claim(anna, campaign)
    campaign.memberships.filter(user=anna).delete()
    post(client_for(anna), f"leases/{task.lease}/submit", {"tiers": [["A"], ["B"]]}, 404)


def test_an_upload_of_nothing_or_of_a_form_field_is_answered(campaign: Campaign, manager: User):
    client = client_for(manager)
    url = f"/api/campaigns/{campaign.public_id}/imports"
    assert client.post(url, {}).json() == {"detail": "file: No file was submitted."}
    assert client.post(url, {"file": "text"}).status_code == 400
    empty = client.post(url, {"file": SimpleUploadedFile("empty.jsonl", b"")})
    assert empty.json()["errors"] == [{"line": 1, "reason": "The file is empty."}]
    packed = SimpleUploadedFile("x.gz", gzip.compress(b'{"prompt": "Q", "completions": ["a", "b"]}'))
    assert client.post(url, {"file": packed, "name": "mine"}).json()["name"] == "mine"
    row = SimpleUploadedFile("x.jsonl", b'{"prompt": "Q", "completions": ["a", "c"]}')
    assert "does not look like TRL" in client.post(url, {"file": row, "form": "trl"}).json()["errors"][0]["reason"]
    assert client.post(url, {"file": row, "form": "none"}).status_code == 400
    campaign.state = "closed"
    campaign.save(update_fields=["state"])
    assert client.post(url, {"file": SimpleUploadedFile("x", b"{}")}).json() == {"detail": "The campaign is closed."}


def test_own_answers_are_listed_and_given_anew(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 2)
    client, url = client_for(anna), f"campaigns/{campaign.public_id}/answers"
    task = post(client, f"campaigns/{campaign.public_id}/next")["task"]
    given = post(client, f"leases/{task['lease']}/submit", {"tiers": [["A"], ["B"]]})
    page = client.get(f"/api/{url}").json()
    assert [(row["id"], row["order"], row["item"]) for row in page["results"]] == [
        (given["ranking"], [["A"], ["B"]], task["item"])
    ]
    assert page["more"] is None and client.get(f"/api/{url}?before=x").status_code == 400
    post(client_for(ben), f"{url}/{given['ranking']}", {"tiers": [["B"], ["A"]]}, 404)
    changed = post(client, f"{url}/{given['ranking']}", {"tiers": [["B"], ["A"]], "rationale": "Now I see."})
    [row] = client.get(f"/api/{url}").json()["results"]
    assert (row["id"], row["order"], row["rationale"]) == (changed["ranking"], [["B"], ["A"]], "Now I see.")
    post(client, f"{url}/{given['ranking']}", {"tiers": [["A"], ["B"]]}, 404)  # it has been replaced
    Campaign.objects.filter(pk=campaign.pk).update(edit_minutes=0)
    assert "time to change" in post(client, f"{url}/{changed['ranking']}", {"tiers": [["A"], ["B"]]}, 409)["detail"]

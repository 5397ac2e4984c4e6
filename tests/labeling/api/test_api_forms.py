"""Forms over the API: made with a campaign, carried by tasks, answered, and read again."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from accounts.models import User
from labeling.campaigns import update_campaign
from labeling.models import Campaign, Ranking
from labeling.protocols.presets import PRESETS
from tests.conftest import client_for, make_member, make_user
from tests.labeling.conftest import add_items


def send(client: Client, method: str, url: str, body: Any = None, status: int = 200) -> Any:
    call = getattr(client, method)
    response = call(f"/api/{url}", json.dumps(body or {}), content_type="application/json")
    assert response.status_code == status, response.text
    return response.json()


def test_a_campaign_begins_with_a_preset_or_a_form_of_its_own(researcher: User):
    client = client_for(researcher)
    made = send(client, "post", "campaigns/", {"name": "A", "preset": "instructgpt"}, 201)
    assert (made["protocol"], made["form"]) == ("ranking", PRESETS["instructgpt"].form.document())
    made = send(client, "post", "campaigns/", {"name": "B", "form": {"both_bad": True}}, 201)
    assert (made["protocol"], made["form"]["both_bad"], made["form_version"]) == ("pair", True, 1)
    changed = send(client, "patch", f"campaigns/{made['id']}", {"preset": "hh"})
    assert (changed["form"], changed["form_version"]) == (PRESETS["hh"].form.document(), 2)
    wrong_forms: list[Any] = [{"ties": 1}, [], "hh", {"questions": [{"kind": "colour"}]}]
    for form in wrong_forms:
        send(client, "patch", f"campaigns/{made['id']}", {"form": form}, 400)
    wrong = send(client, "patch", f"campaigns/{made['id']}", {"protocol": "ranking"}, 400)
    assert "compare pairs" in wrong["detail"]


def test_a_task_carries_its_form_and_an_answer_its_details(campaign: Campaign, anna: User, reviewer: User):
    campaign = update_campaign(campaign, preset="helpsteer2")
    (item,) = add_items(campaign, 1)
    client = client_for(anna)
    task = send(client, "post", f"campaigns/{campaign.public_id}/next")["task"]
    assert (task["form"], task["form_version"]) == (PRESETS["helpsteer2"].form.document(), 2)
    answers: dict[str, Any] = {
        question["name"]: {"A": 4, "B": 0} for question in task["form"]["questions"] if question["kind"] == "rating"
    }
    answers |= {"safety": {"A": "safe", "B": "unsafe"}, "confidence": "high"}
    url = f"leases/{task['lease']}/submit"
    body = {"tiers": [["A"], ["B"]], "form_version": 2, "details": {"answers": answers}}
    less = {"answers": answers | {"correctness": {"A": 4}}}
    refused = send(client, "post", url, body | {"details": less}, 400)
    assert refused["detail"] == "Correctness: please answer this for B, too."
    for wrong in ({"answers": {"safety": {"C": "safe"}}}, {"answers": 3}, {"strength": 1}):
        send(client, "post", url, body | {"details": wrong}, 400)
    send(client, "post", url, body | {"form_version": 3}, 400)
    send(client, "post", url, body)
    ranking = Ranking.objects.get()
    expected = [4, 0] if ranking.shown_order == [0, 1] else [0, 4]
    assert ranking.details["answers"]["correctness"] == expected
    assert (ranking.form_version, ranking.details["answers"]["confidence"]) == (2, "high")

    update_campaign(campaign, preset="arena")
    read = client_for(reviewer).get(f"/api/campaigns/{campaign.public_id}/items/{item.public_id}").json()
    assert read["answers"][0]["details"] == ranking.details
    page = client_for(reviewer).get(f"/campaigns/{campaign.public_id}/items/{item.public_id}/").text
    assert f"A: {expected[0]}; B: {expected[1]}" in page  # by the questions of then
    assert "Very sure" in page


def test_a_skip_takes_the_reasons_of_the_form(campaign: Campaign, anna: User):
    update_campaign(campaign, preset="helpsteer2")
    add_items(campaign, 1)
    client = client_for(anna)
    task = send(client, "post", f"campaigns/{campaign.public_id}/next")["task"]
    url = f"leases/{task['lease']}/skip"
    assert "coding" in send(client, "post", url, {"reason": "expertise"}, 400)["detail"]
    assert send(client, "post", url, {"reason": "coding", "next": True})["task"] is None


def test_both_bad_is_no_tie(campaign: Campaign, anna: User):
    campaign = update_campaign(campaign, preset="arena")
    add_items(campaign, 2)
    ben = client_for(make_member(campaign, make_user("ben"), "annotator"))
    for client, details in ((client_for(anna), {}), (ben, {"both_bad": True})):
        lease = send(client, "post", f"campaigns/{campaign.public_id}/next")["task"]["lease"]
        send(client, "post", f"leases/{lease}/submit", {"tiers": [["A", "B"]], "details": details})
    assert [ranking.details for ranking in Ranking.objects.order_by("pk")] == [{}, {"both_bad": True}]

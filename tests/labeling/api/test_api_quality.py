"""Quality over HTTP does what the pages do."""

from __future__ import annotations

from typing import Any

from accounts.models import User
from labeling.data.importing import import_rows
from labeling.models import Campaign, Gold
from labeling.quality.rules import change_rules
from tests.conftest import client_for
from tests.labeling.conftest import add_items, claim, submit

JSON = "application/json"


def test_rules_people_and_pauses(campaign: Campaign, anna: User, manager: User, reviewer: User) -> None:
    add_items(campaign, 3)
    submit(anna, claim(anna, campaign))
    client, path = client_for(manager), f"/api/campaigns/{campaign.public_id}"
    changed = client.patch(f"{path}/rules", {"check_every": 7, "hourly_pay": "12.50"}, content_type=JSON)
    assert changed.status_code == 200 and client.get(f"{path}/rules").json()["check_every"] == 7
    assert client.patch(f"{path}/rules", {"certainty": 100}, content_type=JSON).status_code == 400
    (person,) = client_for(reviewer).get(f"{path}/people").json()["results"]
    assert (person["username"], person["answers"], person["gold"]["value"]) == ("anna", 1, None)
    pause = f"{path}/people/{anna.pk}/pause"
    assert client.put(pause, {"because": "we should talk"}, content_type=JSON).status_code == 204
    (person,) = client.get(f"{path}/people").json()["results"]
    assert person["paused_because"] == "we should talk"
    assert client.delete(pause).status_code == 204
    assert client.get(f"{path}/people").json()["results"][0]["paused_at"] is None
    assert client_for(reviewer).put(pause, {}, content_type=JSON).status_code == 404


def test_gold_leaks_health_and_log(campaign: Campaign, manager: User, admin: User) -> None:
    change_rules(campaign, hold_leaks=True)
    item = add_items(campaign, 1)[0]
    import_rows(campaign, [{"prompt": "Who?", "completions": ["I am ChatGPT.", "Me."]}], name="file")
    client, path = client_for(manager), f"/api/campaigns/{campaign.public_id}"
    gold = f"{path}/items/{item.public_id}/gold"
    assert client.put(gold, {"tiers": [[0, 1]]}, content_type=JSON).status_code == 400
    made = client.put(gold, {"tiers": [[1], [0]], "explanation": "B is right."}, content_type=JSON)
    assert made.json()["tiers"] == [[1], [0]] and Gold.objects.get().user == manager
    assert [one["item"] for one in client.get(f"{path}/gold").json()["results"]] == [item.public_id]
    assert client.delete(gold).status_code == 204 and not Gold.objects.exists()
    (leak,) = client.get(f"{path}/leaks").json()["results"]
    assert (leak["what"], leak["held"]) == ("ChatGPT", True)
    assert client.post(f"{path}/items/{leak['item']}/release").status_code == 204
    assert client.post(f"{path}/leaks").status_code == 204
    assert client.get(f"{path}/health").json()["total"] == 2
    verbs = [entry["verb"] for entry in client.get(f"{path}/log").json()["results"]]
    assert verbs[:4] == ["items.scan", "items.release", "gold.unmark", "gold.mark"]
    assert client.get("/api/log/").status_code == 404
    assert client_for(admin).get("/api/log/").json()["results"][0]["campaign"] == campaign.public_id


def test_reviews(campaign: Campaign, anna: User, reviewer: User) -> None:
    add_items(campaign, 3)
    change_rules(campaign, review_share=100)
    rankings = [submit(anna, claim(anna, campaign)) for _ in range(3)]
    client, path = client_for(reviewer), f"/api/campaigns/{campaign.public_id}/review"
    found = client.get(path).json()
    assert (found["waiting"], found["answer"]["ranking"]) == (3, rankings[-1].public_id)

    def decide(number: int, **verdict: Any) -> Any:
        return client.post(f"{path}/{rankings[number].public_id}", verdict, content_type=JSON)

    assert decide(0, verdict="return").status_code == 409  # a comment is missing
    assert decide(0, verdict="return", comment="Look again.").status_code == 201
    assert decide(1, verdict="replace", tiers=[[5], [0]]).status_code == 400
    assert decide(1, verdict="replace", tiers=[[1], [0]]).json()["replacement"]
    assert decide(2, verdict="accept").json()["verdict"] == "accept"
    assert client.get(path).json() == {"answer": None, "waiting": 0}

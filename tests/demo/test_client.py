"""Simulated annotators against the real server: what they mean is what is stored."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from demo import gold, world
from demo.client import Client, Quota, RequestRefused, answer_tasks
from demo.labelers import Labeler
from demo.stages import desk_replies
from tests.conftest import PASSWORD, Site, make_user

COLD = Labeler("annotator01", temperature=1e-6, random_rate=0.0, tie_threshold=0.0, skip_rate=0.0)


@pytest.fixture
def open_campaign(site: Site) -> Callable[[bytes, int], tuple[Client, str]]:
    def make(rows: bytes, overlap: int) -> tuple[Client, str]:
        make_user("researcher", "researcher")
        for number in (1, 2):
            make_user(f"annotator{number:02d}")
        researcher = Client(site.url, "researcher", PASSWORD)
        body = {"name": "Replies", "guidelines": "", "protocol": "ranking", "overlap": overlap}
        campaign = researcher.post("/api/campaigns/", body)["id"]
        researcher.upload(f"/api/campaigns/{campaign}/imports", "rows.jsonl", rows)
        for number in (1, 2):
            member = {"username": f"annotator{number:02d}", "role": "annotator"}
            researcher.post(f"/api/campaigns/{campaign}/members", member)
        researcher.post(f"/api/campaigns/{campaign}/state", {"state": "open"})
        return researcher, campaign

    return make


def work(site: Site, campaign: str, person: Labeler, answers: int, *, shuffle: bool = False) -> int:
    with Client(site.url, person.name, PASSWORD) as client:
        return answer_tasks(client, campaign, person, Quota(answers), seed=0, shuffle=shuffle)


def test_the_stored_ranking_is_the_annotators_opinion_whatever_the_order_shown(site: Site, open_campaign) -> None:
    researcher, campaign = open_campaign(desk_replies(0), 2)
    assert work(site, campaign, COLD, 100) == 24
    rows = researcher.lines(f"/api/campaigns/{campaign}/export", what="rankings")
    assert len(rows) == 24
    assert len({tuple(row["shown_order"]) for row in rows}) > 5
    for row in rows:
        prompt = row["messages"][-1]["content"]
        worth = [
            [gold.utility(prompt, row["completions"][place]["messages"][-1]["content"]) for place in tier]
            for tier in row["tiers"]
        ]
        flat = [value for tier in worth for value in tier]
        assert flat == sorted(flat, reverse=True)
        assert row["active_ms"] > 0


def test_shuffled_opinions_do_not_follow_gold(site: Site, open_campaign) -> None:
    researcher, campaign = open_campaign(desk_replies(0), 2)
    work(site, campaign, COLD, 100, shuffle=True)
    work(site, campaign, replace(COLD, name="annotator02"), 100, shuffle=True)
    right = []
    for row in researcher.lines(f"/api/campaigns/{campaign}/export", what="preferences"):
        prompt = row["prompt"][-1]["content"]
        chosen, rejected = (gold.utility(prompt, row[side][-1]["content"]) for side in ("chosen", "rejected"))
        right += [chosen > rejected] * (chosen != rejected)
    assert len(right) > 150
    assert 0.3 < sum(right) / len(right) < 0.7


def test_a_quota_is_shared_and_a_person_stops_at_it(site: Site, open_campaign) -> None:
    researcher, campaign = open_campaign(desk_replies(1), 2)
    quota = Quota(10)
    with Client(site.url, COLD.name, PASSWORD) as first, Client(site.url, "annotator02", PASSWORD) as second:
        assert answer_tasks(first, campaign, COLD, quota, seed=0, shuffle=False) == 10
        assert answer_tasks(second, campaign, COLD, quota, seed=0, shuffle=False) == 0
    assert researcher.get(f"/api/campaigns/{campaign}")["progress"]["done"] == 10


def test_what_is_not_understood_is_skipped(site: Site, open_campaign) -> None:
    row = {"messages": [{"role": "user", "content": "What is a kettle?"}], "completions": ["A pot.", "A pan."]}
    researcher, campaign = open_campaign(json.dumps(row).encode(), 1)
    assert work(site, campaign, COLD, 5) == 0
    people = researcher.get(f"/api/campaigns/{campaign}/report")["people"]
    assert [person["skipped"] for person in people if person["username"] == COLD.name] == [1]
    assert "kettle" in world.ITEMS


def test_a_wrong_password_is_refused_with_a_reason(site: Site) -> None:
    make_user("annotator01")
    with pytest.raises(RequestRefused, match="annotator01 could not sign in"):
        Client(site.url, "annotator01", "wrong")

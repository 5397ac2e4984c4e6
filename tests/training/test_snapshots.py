from __future__ import annotations

import hashlib
import json
import random

import pytest

from accounts.models import User
from labeling.data.importing import import_rows
from labeling.models import Campaign, Contribution, Item
from labeling.quality.reliability import UNKNOWN_WEIGHT
from tests.conftest import make_user
from tests.training.conftest import label, rank
from training.engine.rundir import read_jsonl
from training.selection import NoPrompts, PromptOptions, best_completion_rows, prompt_rows
from training.snapshots import NothingToFreeze, SnapshotFilters, freeze

pytestmark = pytest.mark.django_db


def rows_of(snapshot) -> list[dict]:
    return list(read_jsonl(snapshot.path))


def test_the_same_content_gives_the_same_hash_and_file(labeled: Campaign, researcher: User) -> None:
    first, second = freeze(labeled, by=researcher), freeze(labeled, by=researcher)
    assert first.path == second.path
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256 == second.sha256
    assert first.path.stat().st_mode & 0o077 == 0
    rank(labeled.items.first(), [[1], [0]], labeler="bob")
    assert freeze(labeled, by=researcher).sha256 != first.sha256
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256


def test_ties_partial_orders_and_labelers_reach_the_file_and_the_counts(labeled: Campaign, researcher: User) -> None:
    item = labeled.items.first()
    rank(item, [[1], [0]], labeler="bob")
    rank(item, [[0, 1]], labeler="cleo")
    rank(item, [[1]], labeler="dora")
    withdrawn = rank(item, [[1], [0]], labeler="emil")
    withdrawn.status = "withdrawn"
    withdrawn.save(update_fields=["status"])
    labeled.rankings.create(
        item=item, labeler="fred", origin="imported", tiers=[], cannot_tell=True, protocol="pair", guidelines_version=1
    )
    snapshot = freeze(labeled, by=researcher)
    assert snapshot.counts == {
        "rankings": 19,
        "items": 16,
        "labelers": 4,
        "pairs": 17,
        "ties": 1,
        "no_preference": 2,
    }
    first = [row for row in rows_of(snapshot) if row["item"] == item.public_id]
    assert [(row["labeler"], row["tiers"]) for row in first] == [
        ("ann", [[0], [1]]),
        ("bob", [[1], [0]]),
        ("cleo", [[0, 1]]),
        ("dora", [[1]]),
    ]
    assert first[0]["messages"] == item.messages
    assert first[0]["completions"] == [completion.messages for completion in item.completions.all()]
    assert first[0]["weight"] == 1.0
    assert all(row["sources"] == ["desk", "bot"] for row in rows_of(snapshot))


def test_sources_are_null_where_nobody_knows_and_absent_where_nobody_knows_any(
    labeled: Campaign, researcher: User
) -> None:
    some, none = labeled.items.order_by("id")[:2]
    some.completions.filter(index=0).update(source="")
    none.completions.update(source="")
    rows = {row["item"]: row for row in rows_of(freeze(labeled, by=researcher))}
    assert rows[some.public_id]["sources"] == [None, "bot"]
    assert "sources" not in rows[none.public_id]


def test_any_text_reaches_the_file_unchanged(labeled: Campaign, researcher: User) -> None:
    hostile = '"], "tiers": [[1]], "x": "\\\n\r\t\x7f\u2028 {0} %s </script> 😀'
    row = {
        "messages": [{"role": "system", "content": hostile}, {"role": "user", "content": ""}],
        "completions": [[{"role": "assistant", "content": text}] for text in (hostile, "\\", "b")],
        "tiers": [[2], [0, 1]],
        "labeler": hostile[:60],
    }
    labeled = Campaign.objects.create(name="Hostile", protocol="ranking", state="open", created_by=researcher)
    assert import_rows(labeled, [row], name="hostile.jsonl").accepted == 1
    item = labeled.items.get().public_id
    assert rows_of(freeze(labeled, by=researcher)) == [row | {"item": item, "weight": 1.0}]


def test_filters_choose_origin_and_labelers(labeled: Campaign, researcher: User) -> None:
    rank(labeled.items.first(), [[1], [0]], labeler="bob", user=researcher)
    people = freeze(labeled, by=researcher, filters=SnapshotFilters(origin="person"))
    assert (people.counts["rankings"], people.filters["origin"]) == (1, "person")
    ann = freeze(labeled, by=researcher, filters=SnapshotFilters(labelers=("ann",)))
    assert ann.counts["rankings"] == 16
    with pytest.raises(NothingToFreeze, match="Label some items"):
        freeze(labeled, by=researcher, filters=SnapshotFilters(labelers=("nobody",)))
    with pytest.raises(ValueError, match="origin must be"):
        SnapshotFilters(origin="machine")


def test_a_snapshot_holds_rankings_of_its_own_campaign_only(
    labeled: Campaign, foreign_campaign: Campaign, researcher: User
) -> None:
    other = Item.objects.create(campaign=foreign_campaign, messages=[], content_hash="x")
    rank(other, [[0], [1]])
    assert freeze(labeled, by=researcher).counts["rankings"] == 16


def test_prompts_come_once_each_and_keep_their_side(labeled: Campaign) -> None:
    double = labeled.items.first()
    Item.objects.create(campaign=labeled, messages=double.messages, content_hash="again")
    rows = list(prompt_rows(labeled, PromptOptions(eval_fraction=0.25)))
    assert len({json.dumps(row["messages"]) for row in rows}) == len(rows) == 16
    held_out = {row["id"] for row in rows if row.get("split") == "eval"}
    assert len(held_out) == 4
    again = list(prompt_rows(labeled, PromptOptions(eval_fraction=0.25)))
    assert again == rows
    fewer = list(prompt_rows(labeled, PromptOptions(limit=5)))
    assert len(fewer) == 5 and held_out <= {row["id"] for row in fewer}  # the same draw decides both


def test_a_campaign_of_whole_conversations_has_no_prompts(campaign: Campaign) -> None:
    Item.objects.create(campaign=campaign, messages=[], content_hash="x")
    with pytest.raises(NoPrompts, match="whole conversations"):
        list(prompt_rows(campaign, PromptOptions()))


def test_the_best_completion_is_the_one_most_people_put_first(labeled: Campaign, researcher: User) -> None:
    first, second, third = labeled.items.order_by("id")[:3]
    rank(first, [[1], [0]], labeler="bob")
    rank(first, [[1], [0]], labeler="cleo")
    rank(second, [[0, 1]], labeler="bob")  # no preference, no vote
    third.rankings.update(status="withdrawn")
    rows = list(best_completion_rows(rows_of(freeze(labeled, by=researcher))))
    assert len(rows) == 15
    assert rows[0]["messages"] == first.messages + [{"role": "assistant", "content": "No."}]
    assert rows[1]["messages"][-1]["content"].startswith("I am sorry")


def test_people_can_be_left_out(labeled: Campaign, researcher: User) -> None:
    rank(labeled.items.first(), [[1], [0]], labeler="bob")
    snapshot = freeze(labeled, by=researcher, filters=SnapshotFilters(without=("ann",)))
    assert [row["labeler"] for row in rows_of(snapshot)] == ["bob"]


def test_rankings_weigh_what_their_annotators_reliability_deserves(campaign: Campaign, researcher: User) -> None:
    label(campaign, items=150)  # imported answers of "ann", of whom nothing is known
    with pytest.raises(NothingToFreeze, match="Nobody's reliability is known"):
        freeze(campaign, by=researcher, filters=SnapshotFilters(weigh=True))
    draw = random.Random(0)
    for name in ("careful", "also-careful", "third", "guessing"):
        person = make_user(name)
        Contribution.objects.create(campaign=campaign, user=person, labeler=name)
        for item in campaign.items.all():
            better = draw.random() < (0.5 if name == "guessing" else 0.9)
            rank(item, [[0], [1]] if better else [[1], [0]], labeler=name, user=person)
    rows = rows_of(freeze(campaign, by=researcher, filters=SnapshotFilters(weigh=True)))
    weights = {row["labeler"]: row["weight"] for row in rows}
    assert len({(row["labeler"], row["weight"]) for row in rows}) == len(weights) == 5
    assert weights["guessing"] < 0.4 < 0.6 < weights["careful"] <= 1
    assert weights["ann"] == UNKNOWN_WEIGHT
    assert {row["weight"] for row in rows_of(freeze(campaign, by=researcher))} == {1.0}

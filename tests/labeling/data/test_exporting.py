"""What was brought in and answered comes out as it was, for our own data and for real data."""

from __future__ import annotations

import gc
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from labeling.data.exporting import CHUNK, export_lines
from labeling.data.importing import import_file
from labeling.models import Campaign
from labeling.queue.annotation import revise, undo_last
from tests.conftest import SHARED
from tests.labeling.conftest import NOW, add_items, claim, submit


def exported(campaign: Campaign, what: str = "rankings") -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(campaign, what)]


def bring(campaign: Campaign, rows: list[dict[str, Any]]) -> None:
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    record = import_file(campaign, io.BytesIO(content), name="file.jsonl")
    assert (record.accepted, record.rejected) == (len(rows), 0)


def with_protocol(campaign: Campaign, protocol: str) -> Campaign:
    campaign.protocol = protocol
    campaign.save(update_fields=["protocol"])
    return campaign


def test_an_import_comes_out_unchanged_and_can_be_brought_again(campaign: Campaign, foreign_campaign: Campaign):
    rows = [
        {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Q\n\n\u2028 "}],
            "completions": [
                {"messages": [{"role": "assistant", "content": text}], "source": source, "meta": {"score": 0.1}}
                for text, source in [("a", "one"), ("b ", "two"), ("", "three")]
            ],
            "tiers": [[2], [0, 1]],
            "labeler": "mt-47",
            "meta": {"id": 7, "nested": {"deep": [1, None, "x"]}},
        }
    ]
    bring(with_protocol(campaign, "ranking"), rows)
    [row] = exported(campaign)
    assert {key: row[key] for key in rows[0]} == rows[0]
    assert (row["origin"], row["late"], row["shown_order"]) == ("imported", False, [])
    bring(with_protocol(foreign_campaign, "ranking"), [row])
    [again] = exported(foreign_campaign)
    content = ("messages", "completions", "tiers", "labeler")
    assert {key: again[key] for key in content} == {key: row[key] for key in content}


def test_preferences_are_derived_from_rankings_and_can_be_brought_again(campaign: Campaign, foreign_campaign: Campaign):
    ranked = {"prompt": "Q", "completions": ["a", "b", "c"], "ranking": [[2], [0, 1]], "labeler": "x"}
    bring(with_protocol(campaign, "ranking"), [ranked])
    rows = exported(campaign, "preferences")
    texts = [(row["chosen"][0]["content"], row["rejected"][0]["content"], row["mu"]) for row in rows]
    assert sorted(texts) == [("a", "b", 0.5), ("c", "a", 1.0), ("c", "b", 1.0)]
    assert sum(row["weight"] for row in rows) == pytest.approx(1)
    assert all(row["prompt"] == [{"role": "user", "content": "Q"}] for row in rows)
    bring(foreign_campaign, rows)
    again = exported(foreign_campaign, "preferences")
    assert sorted((row["chosen"][0]["content"], row["rejected"][0]["content"], row["mu"]) for row in again) == sorted(
        texts
    )


def test_withdrawn_and_superseded_answers_stay_inside_and_nobody_is_named(campaign: Campaign, anna: User):
    add_items(campaign, 2)
    old = submit(anna, claim(anna, campaign), [[0], [1]])
    revise(anna, old, tiers=[[0, 1]])
    submit(anna, claim(anna, campaign))
    undo_last(anna, campaign, now=NOW)
    [row] = exported(campaign)
    assert row["tiers"] == [[0, 1]]
    assert "anna" not in json.dumps(row)


def test_cannot_tell_comes_out_marked_and_can_be_brought_again(
    campaign: Campaign, foreign_campaign: Campaign, anna: User
):
    add_items(campaign, 1)
    submit(anna, claim(anna, campaign), [], cannot_tell=True)
    [row] = exported(campaign)
    assert (row["tiers"], row["cannot_tell"]) == ([], True)
    assert exported(campaign, "preferences") == []
    bring(foreign_campaign, [row])
    bring(foreign_campaign, [row | {"labeler": "x"}])
    assert [(again["labeler"], again["cannot_tell"]) for again in exported(foreign_campaign)] == [
        (row["labeler"], True),
        ("x", True),
    ]


def test_memory_and_queries_do_not_grow_with_the_rows(campaign: Campaign, foreign_campaign: Campaign):
    peaks = []
    for place, count in [(foreign_campaign, 2 * CHUNK), (campaign, 6 * CHUNK)]:
        bring(place, [{"prompt": f"{n}" + 1000 * "x", "chosen": "y", "rejected": f"{n}"} for n in range(count)])
        tracemalloc.start()
        with CaptureQueriesContext(connection) as queries:
            for number, line in enumerate(export_lines(place, "rankings"), 1):
                assert len(line) > 1000
                if number % CHUNK == 0:
                    gc.collect()  # rows and their prefetched completions refer to each other
        assert number == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(queries) <= 1 + count // CHUNK
    assert peaks[1] < 1.3 * peaks[0]


# --- Real data ----------------------------------------------------------------------------------------------------


def real(name: str) -> list[dict[str, Any]]:
    path: Path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def as_hh_text(messages: list[dict[str, str]]) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[message['role']]}: {message['content']}" for message in messages)


def test_hh_conversations_come_out_as_they_went_in(campaign: Campaign):
    rows = real("hh_harmless_pairs.jsonl")
    with_protocol(campaign, "conversation")
    with (SHARED / "data" / "hh_harmless_pairs.jsonl").open("rb") as file:
        record = import_file(campaign, file, name="hh.jsonl")
    assert (record.accepted + record.duplicates, record.rejected) == (len(rows), 0)
    out = set()
    for row in exported(campaign):
        chosen, rejected = (row["completions"][tier[0]]["messages"] for tier in row["tiers"])
        assert row["messages"], "two answers to one conversation share its beginning"
        out.add((as_hh_text(row["messages"] + chosen), as_hh_text(row["messages"] + rejected)))
    assert out == {(row["chosen"], row["rejected"]) for row in rows}
    again = exported(campaign, "preferences")
    assert {
        (as_hh_text(row["prompt"] + row["chosen"]), as_hh_text(row["prompt"] + row["rejected"])) for row in again
    } == out


def test_alpaca_rankings_come_out_as_they_went_in(campaign: Campaign):
    rows = real("alpaca_eval_rankings.jsonl")
    with_protocol(campaign, "ranking")
    with (SHARED / "data" / "alpaca_eval_rankings.jsonl").open("rb") as file:
        record = import_file(campaign, file, name="alpaca.jsonl")
    assert (record.accepted, record.rejected, record.rankings) == (len(rows), 0, len(rows))
    for row, out in zip(rows, exported(campaign), strict=True):
        assert out["messages"] == [{"role": "user", "content": row["prompt"]}]
        assert out["tiers"] == row["ranking"]
        assert out["labeler"] == row["labeler"]
        assert [
            {"text": completion["messages"][0]["content"], "source": completion["source"], **completion["meta"]}
            for completion in out["completions"]
        ] == row["completions"]

"""Real data by the whole way that a user's file goes: upload, export, frozen run, engine, model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import User
from labeling.models import Campaign
from tests.conftest import SHARED, client_for, make_member
from training.engine.rundir import RunDir, read_events, read_jsonl
from training.models import TrainingRun

MODEL = SHARED / "models" / "english-6m"
Row = dict[str, Any]
Content = tuple[list[str], list[list[int]]]
"""The texts that were compared, and their tiers by number."""


def alpaca_content(row: Row) -> Content:
    return [row["prompt"], *(completion["text"] for completion in row["completions"])], row["ranking"]


def alpaca_exported(row: Row) -> Content:
    assert [message["role"] for message in row["messages"]] == ["user"]
    completions = [message["content"] for completion in row["completions"] for message in completion["messages"]]
    return [row["messages"][0]["content"], *completions], row["tiers"]


def hh_content(row: Row) -> Content:
    return [row["chosen"], row["rejected"]], [[0], [1]]


def hh_exported(row: Row) -> Content:
    """As whole conversations in the published form, the better one first."""
    names = {"user": "Human", "assistant": "Assistant"}
    best_first = [row["completions"][index]["messages"] for [index] in row["tiers"]]
    texts = ["".join(f"\n\n{names[m['role']]}: {m['content']}" for m in row["messages"] + tail) for tail in best_first]
    return texts, [[0], [1]]


@pytest.mark.skipif(not (SHARED / "data").exists() or not MODEL.exists(), reason="the real data are not in ../shared")
@pytest.mark.parametrize(
    ("name", "protocol", "count", "content", "exported"),
    [
        ("alpaca_eval_rankings.jsonl", "ranking", 10, alpaca_content, alpaca_exported),
        ("hh_harmless_pairs.jsonl", "conversation", 24, hh_content, hh_exported),
    ],
)
def test_real_data_go_from_an_upload_to_a_trained_reward_model(
    campaign: Campaign,
    researcher: User,
    name: str,
    protocol: str,
    count: int,
    content: Callable[[Row], Content],
    exported: Callable[[Row], Content],
) -> None:
    """The first lines only; that whole files come out as they went in is shown where exports are tested."""
    campaign.protocol = protocol
    campaign.save(update_fields=["protocol"])
    client = client_for(make_member(campaign, researcher, "manager"))
    with (SHARED / "data" / name).open("rb") as file:
        lines = list(islice(file, count))
    upload = {"file": SimpleUploadedFile(name, b"".join(lines))}
    report = client.post(f"/api/campaigns/{campaign.public_id}/imports", upload).json()
    assert (report["accepted"], report["rejected"]) == (count, 0)

    given = [content(json.loads(line)) for line in lines]
    export: Any = client.get(f"/api/campaigns/{campaign.public_id}/export?what=rankings")
    assert [exported(json.loads(line)) for line in export.getvalue().splitlines()] == given

    run = start_reward_run(client, campaign)
    frozen = list(read_jsonl(run.data / "rankings.jsonl"))
    wrapped = [row | {"completions": [{"messages": m} for m in row["completions"]]} for row in frozen]
    assert [exported(row) for row in wrapped] == given

    engine = [sys.executable, "-m", "training.engine", str(run.path)]
    done = subprocess.run(
        engine, cwd=settings.BASE_DIR, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert_learned(run, frozen)


def start_reward_run(client: Client, campaign: Campaign) -> RunDir:
    """Through the API, as any client would; no worker takes it from the queue."""
    base = client.post("/api/artifacts/", {"path": str(MODEL)}, content_type="application/json").json()["id"]
    settings = {"epochs": 3, "batch_size": 4, "max_length": 96, "learning_rate": 1e-3, "lora_rank": 4, "threads": 1}
    body = {"kind": "reward", "campaign": campaign.public_id, "base": base, "settings": settings | {"device": "cpu"}}
    answer = client.post("/api/runs/", body, content_type="application/json")
    assert answer.status_code == 201, answer.content
    return TrainingRun.objects.get(public_id=answer.json()["id"]).rundir


def assert_learned(run: RunDir, rows: list[Row]) -> None:
    from rewardmodel.model import RewardModel

    events = read_events(run.events, 0)[0]
    losses = [event["metrics"]["loss/train"] for event in events if "loss/train" in event.get("metrics", {})]
    third = len(losses) // 3
    assert third and sum(losses[-third:]) < sum(losses[:third])
    scores = RewardModel.load(run.artifact).score([row["messages"] + row["completions"][0] for row in rows])
    assert all(abs(score) < 10 for score in scores) and len(set(scores)) > 1

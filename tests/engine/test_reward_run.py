"""A reward run in its run directory: events, artifact, resume after a kill, errors a person can act on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from rewardmodel.ensemble import Ensemble
from rewardmodel.model import RewardModel
from tests.engine.tiny import without_clock
from tests.rewardmodel.conftest import save_bert, save_llama
from tests.rewardmodel.worlds import planted_rows, planted_talks
from training.engine.__main__ import main
from training.engine.episodes import Episodes
from training.engine.models import RoleModel
from training.engine.reward_sources import AdapterReward
from training.engine.rollout import Completion
from training.engine.rundir import RunDir, read_events, write_atomic, write_jsonl
from training.engine.session import EngineError

SETTINGS = {"epochs": 2, "learning_rate": 1e-2, "lora_rank": 4, "threads": 1, "checkpoint_every": 3, "device": "cpu"}


@pytest.fixture(autouse=True)
def _keep_signal_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_llama(tmp_path_factory.mktemp("base")))


def make_run(path: Path, rows: list[dict[str, Any]], **settings: Any) -> RunDir:
    run = RunDir(path)
    run.create()
    write_atomic(run.config, json.dumps({"kind": "reward", "settings": SETTINGS | settings}))
    run.write_manifest({"rankings.jsonl": write_jsonl(run.data / "rankings.jsonl", rows)})
    return run


def events_of(run: RunDir) -> list[dict[str, Any]]:
    return read_events(run.events, 0)[0]


def artifact_of(run: RunDir) -> dict[str, bytes]:
    return {
        str(path.relative_to(run.artifact)): path.read_bytes() for path in run.artifact.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(("make_base", "rank"), [(save_llama, 4), (save_llama, 0), (save_bert, 4)])
def test_a_run_writes_events_and_a_model_that_scores(tmp_path: Path, make_base: Any, rank: int) -> None:
    base = str(make_base(tmp_path / "base"))
    rate = 1e-2 if rank else 3e-3
    run = make_run(tmp_path / "run", planted_rows(150, 4, 0), base=base, lora_rank=rank, learning_rate=rate, epochs=4)
    assert main([str(run.path)]) == 0
    events = events_of(run)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    stages = [event["stage"] for event in events if event["type"] == "stage"]
    assert stages == ["load", "train", "finish"]
    metrics = [event["metrics"] for event in events if event["type"] == "metrics"]
    assert all({"loss/train", "learning_rate"} <= m.keys() for m in metrics[:-1])
    evaluations = [m for m in metrics if "eval/loss" in m]
    assert len(evaluations) >= 3
    assert {"eval/accuracy", "eval/accuracy_low", "eval/accuracy_high"} <= evaluations[0].keys()
    assert metrics[-1].keys() == {"eval/accuracy_length_only"}
    best = min(evaluations, key=lambda m: m["eval/loss"])
    assert best["eval/accuracy"] > 0.85
    status = run.read_status()
    assert (status["state"], status["error"], status["step"]) == ("succeeded", None, status["total_steps"])
    card = json.loads((run.artifact / "card.json").read_text())
    assert (card["kind"], card["format"], card["base"]) == ("reward", "adapter" if rank else "model", base)
    assert card["metrics"]["eval/accuracy"] == pytest.approx(best["eval/accuracy"], abs=1e-5)
    model = RewardModel.load(run.artifact)
    better, worse = model.score([[{"role": "assistant", "content": text}] for text in ("azzzb", "abcab")])
    assert better > worse


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "rao_kupper", "noise": 0.1},
        {"loss": "davidson", "reliability": True},
        {"top": 1, "label_smoothing": 0.1, "reliability": True},
    ],
)
def test_a_run_can_doubt_people_and_learn_from_ties(tmp_path: Path, base: str, settings: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", planted_rows(200, 3, 0, people=2), base=base, epochs=4, **settings)
    assert main([str(run.path)]) == 0
    card = json.loads((run.artifact / "card.json").read_text())
    assert card["metrics"]["eval/accuracy"] > 0.8
    assert ("tie_threshold" in card["metrics"]) == (settings.get("loss") is not None)
    report = json.loads((run.artifact / "evaluation.json").read_text())
    people = {one["name"]: one["reliability"] for one in report["people"]["labelers"]}
    assert people.keys() == {"person 0", "person 1"}
    assert all(value > 0.9 if settings.get("reliability") else value is None for value in people.values())


@pytest.mark.parametrize(("loss", "learns"), [("plackett_luce", False), ("rao_kupper", True), ("davidson", True)])
def test_rankings_of_one_tier_teach_losses_that_know_ties(tmp_path: Path, base: str, loss: str, learns: bool) -> None:
    rows = planted_rows(60, 2, 0)
    tied = sum(len(row["tiers"]) == 1 for row in rows)
    assert 0 < tied < 60
    run = make_run(tmp_path / "run", rows, base=base, loss=loss, epochs=1)
    assert main([str(run.path)]) == 0
    [message] = [event["message"] for event in events_of(run) if event.get("stage") == "train"]
    to_learn, held_out = (int(number) for number in re.findall(r"(\d+) (?:rankings|held)", message))
    assert to_learn + held_out == (60 if learns else 60 - tied)


@pytest.mark.parametrize("options", [{}, {"members": 3, "pessimism": 0.5}, {"pessimism": 0.1}])
def test_ppo_reads_the_same_scores_from_the_artifact(tmp_path: Path, base: str, options: dict[str, Any]) -> None:
    """The engine's own roles, fast layers and heads on one shared base, against the library's plain path."""
    rows = planted_rows(40, 3, 0)
    run = make_run(tmp_path / "run", rows, base=base, epochs=4, **options)
    assert main([str(run.path)]) == 0
    model = Ensemble.load(run.artifact)
    assert len(model.members) == options.get("members", 1)
    plain = transformers.AutoModelForCausalLM.from_pretrained(base)
    roles = RoleModel(plain, transformers.AutoTokenizer.from_pretrained(base), base)
    source = AdapterReward(roles, str(run.artifact))
    prompts = [[row["messages"][0], {"role": "assistant", "content": ""}] for row in rows]
    talks = [row["messages"] + completion for row in rows for completion in row["completions"]]
    encode = model.members[0].encode
    answers = [encode(talk) for talk in talks]
    beginnings = [encode(prompt)[:-1] for prompt in prompts for _ in range(3)]
    assert all(ids[: len(start)] == start for ids, start in zip(answers, beginnings, strict=True))
    completions = [
        Completion(ids[len(start) :], True, [0.0] * (len(ids) - len(start)))
        for ids, start in zip(answers, beginnings, strict=True)
    ]
    scores = source.score(Episodes(beginnings, completions, roles.device), 7).tolist()
    assert scores == pytest.approx(model.score(talks), abs=1e-5)
    assert max(scores) - min(scores) > 1


@pytest.mark.parametrize("members", [1, 2])
def test_a_run_rewards_the_turns_of_conversations(tmp_path: Path, base: str, members: int) -> None:
    rows = planted_talks(200, 0)
    run = make_run(tmp_path / "run", rows, base=base, rewards_of="turns", members=members, epochs=6)
    assert main([str(run.path)]) == 0
    card = json.loads((run.artifact / "card.json").read_text())
    assert card["metrics"]["eval/accuracy"] > 0.85
    assert ("eval/disagreement_auc" in card["metrics"]) == (members > 1)
    examples = json.loads((run.artifact / "evaluation.json").read_text())["turns"]
    model = Ensemble.load(run.artifact)
    talks = {json.dumps([m["content"] for m in talk[1::2]]): talk for row in rows for talk in row["completions"]}
    counts, rewards = [], []
    for side in (side for example in examples for side in (example["chosen"], example["rejected"])):
        talk = talks[json.dumps([turn["answer"] for turn in side["turns"]])]
        assert [turn["said"] for turn in side["turns"]] == [message["content"] for message in talk[::2]]
        found = [turn["reward"] for turn in side["turns"]]
        assert model.turn_rewards([talk])[0] == pytest.approx(found, abs=1e-4)
        assert model.score([talk])[0] == pytest.approx(side["score"], abs=1e-4) == pytest.approx(sum(found), abs=1e-4)
        counts += [turn["answer"].count("z") for turn in side["turns"]]
        rewards += found
    assert np.corrcoef(counts, rewards)[0, 1] > 0.8
    roles = RoleModel(transformers.AutoModelForCausalLM.from_pretrained(base), model.members[0].tokenizer, base)
    with pytest.raises(EngineError, match="rewards single turns"):
        AdapterReward(roles, str(run.artifact))


@pytest.mark.parametrize(
    "options",
    [{}, {"members": 2, "reliability": True, "l2": 0.1}, {"members": 2, "rewards_of": "turns", "loss": "davidson"}],
)
def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path: Path, base: str, options: dict[str, Any]) -> None:
    rows = planted_talks(80, 1) if "rewards_of" in options else planted_rows(80, 3, 1)
    undisturbed = make_run(tmp_path / "a", rows, base=base, lora_dropout=0.1, **options)
    stopped = make_run(tmp_path / "b", rows, base=base, lora_dropout=0.1, **options)
    assert main([str(undisturbed.path)]) == 0
    stopped.write_control(stop=True)
    assert main([str(stopped.path)]) == 3
    assert stopped.read_status()["state"] == "stopped" and stopped.read_status()["step"] == 1
    assert main([str(stopped.path)]) == 3  # one step more, still asked to stop
    stopped.control.unlink()
    torch.manual_seed(123)  # what happened in the process before must not matter
    assert main([str(stopped.path)]) == 0
    assert artifact_of(stopped) == artifact_of(undisturbed)
    assert without_clock(events_of(stopped)) == without_clock(events_of(undisturbed))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [{}, {"members": 3, "pessimism": 0.5, "lora_dropout": 0.1}])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, base: str, options: dict[str, Any]) -> None:
    rows = planted_rows(80, 3, 1)
    # Long enough that it is still running when this process, on a busy machine, gets to look.
    epochs = 80 // options.get("members", 1)
    settings = {"base": base, "epochs": epochs, "learning_rate": 1e-4, "checkpoint_every": 10} | options
    undisturbed, killed = make_run(tmp_path / "a", rows, **settings), make_run(tmp_path / "b", rows, **settings)
    process = subprocess.Popen([sys.executable, "-m", "training.engine", str(killed.path)])
    deadline = time.monotonic() + 300
    seen = 160 if options else 20  # of three members, the second is learning then
    while len(read_events(killed.events, 0)[0]) < seen and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not killed.artifact.exists() and list(killed.checkpoints.iterdir())
    assert main([str(killed.path)]) == 0
    assert main([str(undisturbed.path)]) == 0
    assert artifact_of(killed) == artifact_of(undisturbed)
    assert without_clock(events_of(killed)) == without_clock(events_of(undisturbed))


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        ([], {}, "There is no data to work on"),
        (planted_rows(1, 3, 0), {}, "need two"),
        ([planted_rows(1, 3, 0)[0] | {"tiers": [[0], [7]]}], {}, "Row 1 of the rankings cannot be used"),
        (planted_rows(9, 3, 0), {"base": ""}, "No base model is given"),
        (planted_rows(9, 3, 0), {"base": "/nowhere/model"}, "The base model /nowhere/model cannot be loaded"),
        (planted_rows(9, 3, 0), {"adapter": "/nowhere/adapter"}, "does not fit the base model"),
        (planted_rows(9, 3, 0), {"members": 2, "lora_rank": 0}, "set lora_rank above 0"),
        (planted_rows(9, 3, 0), {"loss": "davidson", "label_smoothing": 0.1}, "no meaning with davidson"),
        (planted_rows(9, 3, 0), {"rewards_of": "turns"}, "Every completion is a single answer"),
        (planted_talks(9, 0), {"rewards_of": "turns", "pessimism": 0.5}, "set it to 0"),
        (planted_talks(9, 0), {"rewards_of": "turns", "max_length": 8}, "all turns count"),
    ],
)
def test_a_run_that_cannot_work_says_why_in_one_sentence(
    tmp_path: Path, base: str, rows: list[dict[str, Any]], settings: dict[str, Any], sentence: str
) -> None:
    run = make_run(tmp_path / "run", rows, **{"base": base, **settings})
    assert main([str(run.path)]) == 1
    status = run.read_status()
    assert status["state"] == "failed"
    assert sentence in status["error"] and "\n" not in status["error"]

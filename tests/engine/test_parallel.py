"""Two processes are one: the same numbers, one history, one end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from rewardmodel.processes import ALONE, World
from tests.engine.test_runs import assert_same_result, wait_for_lines
from tests.engine.tiny import (
    ROOT,
    events_of,
    make_run,
    prompt_rows,
    run_engine,
    save_base,
    save_reward,
    start_engine,
)
from training.engine.__main__ import main
from training.engine.config import ConfigError, parse_config
from training.engine.launch import verdict
from training.engine.rundir import FAILED, LOST, STOPPED, SUCCEEDED, RunDir

PPO = {
    "lora_rank": 4,
    "batch_size": 8,
    "micro_batch_size": 3,
    "mini_batches": 2,
    "max_new_tokens": 6,
    "iterations": 4,
    "checkpoint_every": 2,
    "sample_every": 2,
    "samples": 2,
    "learning_rate": 3e-3,
    "value_warmup": 1,
    "kl_controller": "adaptive",
    "kl_target": 0.1,
    "normalize_scores": True,
    "max_approxkl": 0.5,
    "lora_init": "gaussian",
}
GROUPS = {"completions": 4, "advantage": "rloo", "ema": 0.5, "entropy_coef": 0.01, "ptx_coef": 0.1, "ptx_batch_size": 3}
REWARD = {"lora_rank": 4, "batch_size": 5, "micro_batch_size": 2, "reliability": True, "eval_fraction": 0.3}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "a value adapter": ("ppo", PPO),
    "a value head": ("ppo", PPO | {"value": "head", "whiten_rewards": True}),
    "groups of answers": ("ppo", PPO | GROUPS),
    "demonstrations": ("sft", {"lora_rank": 4, "batch_size": 3, "micro_batch_size": 2, "epochs": 2.0}),
    "a sharded base": ("ppo", PPO | {"shard_base": True, "gradient_checkpointing": True}),
    "a sharded base, groups of answers": ("ppo", PPO | GROUPS | {"shard_base": True, "iterations": 2}),
    "demonstrations, a sharded base": (
        "sft",
        {"lora_rank": 4, "batch_size": 3, "micro_batch_size": 1, "epochs": 1.0, "shard_base": True},
    ),
    "a reward model": ("reward", REWARD | {"l2": 0.1, "loss": "davidson", "pessimism": 0.5}),
    "an ensemble": ("reward", REWARD | {"members": 2, "lora_variant": "dora", "epochs": 1.0}),
    "answers": ("sampling", {"completions": 2, "best_of": 2, "max_new_tokens": 6, "batch_size": 12}),
}
CHATS = [
    {"messages": [*row["messages"], {"role": "assistant", "content": "yes the sun " * (1 + i % 3)}]}
    for i, row in enumerate(prompt_rows(10, seed=3))
]
SAID = ("yes the sun", "the moon", "yes yes the sun and the moon")
RANKINGS = [
    {
        "item": row["id"],
        "messages": row["messages"],
        "completions": [[{"role": "assistant", "content": text}] for text in SAID],
        "tiers": [[(i + k) % 3, (i + k + 1) % 3], [(i + k + 2) % 3]] if i % 4 else [[0], [1], [2]],
        "labeler": f"person {k}",
        "weight": 1.0,
    }
    for i, row in enumerate(prompt_rows(20, seed=4))
    for k in range(1 + i % 3)
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_reward(folder / "reward", save_base(folder / "base"))
    return folder


def run_in(path: Path, places: Path, kind: str, settings: dict[str, Any]) -> RunDir:
    models = {"base": str(places / "base")}
    models |= {"reward_path": str(places / "reward")} if kind in ("ppo", "sampling") else {}
    return make_run(path, kind, settings | models, prompts=prompt_rows(12, held_out=3), sft=CHATS, rankings=RANKINGS)


def torchrun(*arguments: str) -> int:
    """Two processes on this machine, as torchrun starts them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "2000"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=280).returncode


@pytest.fixture(scope="module")
def pairs(places: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[RunDir, RunDir]]:
    """Every run of `RUNS`, computed by one process and by two."""
    folder = tmp_path_factory.mktemp("runs")
    ones, twos = (
        {name: run_in(folder / count / name, places, *how) for name, how in RUNS.items()} for count in ("one", "two")
    )
    assert torchrun("tests.engine.several_runs", *(str(run.path) for run in twos.values())) == SUCCEEDED
    assert all(main([str(run.path)]) == SUCCEEDED for run in ones.values())
    return {name: (ones[name], twos[name]) for name in RUNS}


def numbers_of(rundir: RunDir) -> list[tuple[int, dict[str, float]]]:
    """Every metric of every step that does not depend on the clock."""
    return [
        (event["step"], {name: v for name, v in event["metrics"].items() if not name.startswith("perf/")})
        for event in events_of(rundir, "metrics")
    ]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_like_one(pairs: dict[str, tuple[RunDir, RunDir]], name: str) -> None:
    """With a sharded base as well; its processes sample with the plain engine."""
    one, two = pairs[name]
    assert len(numbers_of(one)) > 1
    for (step, expected), (same_step, found) in zip(numbers_of(one), numbers_of(two), strict=True):
        assert same_step == step
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    files = [path.relative_to(one.artifact) for path in one.artifact.rglob("*.safetensors")]
    for file in files:
        first, second = (load_file(run.artifact / file) for run in (one, two))
        assert first.keys() == second.keys()
        assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-5
    if not files:
        assert (one.artifact / "completions.jsonl").read_bytes() == (two.artifact / "completions.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["a value adapter", "demonstrations", "a reward model"])
def test_what_two_processes_compute_can_be_told_from_nothing(
    pairs: dict[str, tuple[RunDir, RunDir]], name: str
) -> None:
    """The tolerance is far below what training changes."""
    numbers = numbers_of(pairs[name][0])
    loss = "loss/value" if name == "a value adapter" else "loss/train"
    losses = [values[loss] for _, values in numbers if loss in values]
    assert max(losses) - min(losses) > 1e-3


def test_a_sharded_base_is_held_by_halves_and_computes_the_same(tmp_path: Path) -> None:
    assert torchrun("tests.engine.sharded_base", str(tmp_path)) == 0
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for facts in found:
        assert facts["held"] <= 0.55 * facts["whole"]
        assert facts["gap"] < 1e-5
        assert facts["learned"] > 0
    assert sum(facts["held"] for facts in found) >= found[0]["whole"]


@pytest.mark.parametrize("settings", [{"lora_rank": 0}, {"lora_variant": "dora"}, {"lora_variant": "qlora"}])
def test_what_needs_whole_weights_is_refused_for_a_sharded_base(settings: dict[str, Any]) -> None:
    assert parse_config("ppo", settings) and parse_config("ppo", {"shard_base": True})
    with pytest.raises(ConfigError, match="shard_base divides a frozen base"):
        parse_config("ppo", settings | {"shard_base": True})


def test_two_processes_write_one_history(pairs: dict[str, tuple[RunDir, RunDir]]) -> None:
    one, two = pairs["a value adapter"]
    assert [event["seq"] for event in events_of(two)] == list(range(1, len(events_of(one)) + 1))
    assert [event["type"] for event in events_of(two)] == [event["type"] for event in events_of(one)]
    assert two.read_status()["device"].startswith("2 x cpu")
    assert sorted(path.name for path in two.checkpoints.iterdir()) == ["step_000002", "step_000004"]


# Ends: two processes that our own launcher starts

LONG = PPO | {"iterations": 12, "checkpoint_every": 3, "devices": 2}


def long_run(path: Path, places: Path) -> RunDir:
    return run_in(path, places, "ppo", LONG)


@pytest.fixture(scope="module")
def undisturbed(places: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    rundir = long_run(tmp_path_factory.mktemp("runs") / "undisturbed", places)
    assert run_engine(rundir)["state"] == "succeeded"
    return rundir


def test_one_process_killed_ends_all_and_the_run_resumes_with_the_same_bytes(
    places: Path, tmp_path: Path, undisturbed: RunDir
) -> None:
    rundir = long_run(tmp_path / "run", places)
    for rank, lines in (("1", 12), ("0", 20)):
        engine = start_engine(rundir)
        wait_for_lines(rundir, engine, lines)
        processes = {child.environ()["RANK"]: child for child in psutil.Process(engine.pid).children()}
        assert sorted(processes) == ["0", "1"]
        processes[rank].kill()
        assert engine.wait(timeout=100) == -signal.SIGKILL, rundir.log.read_text()
        assert not any(child.is_running() for child in processes.values())
        assert rundir.read_status()["state"] == "running"  # nobody took the loss of the other for a failure
    assert run_engine(rundir)["step"] == 12
    assert rundir.log.read_text().count("Resuming after step") == 2
    assert_same_result(rundir, undisturbed)


def test_all_processes_stop_at_one_step_and_go_on(places: Path, tmp_path: Path, undisturbed: RunDir) -> None:
    rundir = long_run(tmp_path / "run", places)
    engine = start_engine(rundir)
    wait_for_lines(rundir, engine, 14)
    engine.send_signal(signal.SIGTERM)
    assert engine.wait(timeout=100) == STOPPED, rundir.log.read_text()
    stopped = rundir.read_status()
    assert stopped["state"] == "stopped" and 0 < stopped["step"] < 12
    assert run_engine(rundir)["step"] == 12
    assert_same_result(rundir, undisturbed)


def test_a_failure_of_one_process_is_the_runs_and_ends_the_others(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = tmp_path / "rewards.py"
    functions.write_text(
        "import os\n"
        "def moody(conversations):\n"
        "    if os.environ['RANK'] == '1': raise ValueError('not today')\n"
        "    return [0.0 for _ in conversations]\n"
    )
    monkeypatch.setenv("PREFLOOP_REWARDS", str(functions))
    rundir = run_in(tmp_path / "run", places, "ppo", LONG | {"reward_functions": "moody"})
    status = run_engine(rundir, expect=FAILED)
    assert status["state"] == "failed"
    assert status["error"] == "The reward function moody failed: ValueError: not today"


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], SUCCEEDED),
        ([0, None], SUCCEEDED),
        ([STOPPED, STOPPED], STOPPED),
        ([LOST, FAILED], FAILED),
        ([LOST, -9], -9),
        ([LOST, None], LOST),
        ([STOPPED, 0], STOPPED),
    ],
)
def test_the_code_of_all_is_the_reason(codes: list[int | None], code: int) -> None:
    assert verdict(codes) == code


# Shares


@pytest.mark.parametrize(
    ("count", "group", "size"), [(8, 1, 3), (12, 4, 2), (12, 4, 5), (3, 4, 2), (10, 4, 3), (0, 1, 2)]
)
def test_shares_are_everything_once_and_keep_groups_together(count: int, group: int, size: int) -> None:
    shares = [World(rank, size).share(count, group) for rank in range(size)]
    assert [i for share in shares for i in range(count)[share]] == list(range(count))
    assert all(share.start % group == 0 or share.start == count for share in shares)


def test_dealt_shares_are_about_equal() -> None:
    things = [5, 1, 4, 1, 3, 9, 2, 6]
    hands = [World(rank, 3).deal(things, lambda thing: thing) for rank in range(3)]
    assert sorted(thing for hand in hands for thing in hand) == sorted(things)
    assert max(map(sum, hands)) - min(map(sum, hands)) <= max(things) - min(things)
    assert ALONE.deal(things, lambda thing: thing) == things

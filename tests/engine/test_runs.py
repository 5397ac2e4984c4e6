"""The engine as a program: every way a run can end, and going on after each of them."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import (
    ROOT,
    events_of,
    make_run,
    open_session,
    prompt_rows,
    run_engine,
    save_base,
    save_reward,
    start_engine,
    without_clock,
)
from training.engine import __main__ as program
from training.engine import ppo
from training.engine.__main__ import explain
from training.engine.config import parse_config
from training.engine.rundir import FAILED, STOPPED, SUCCEEDED, RunDir
from training.engine.session import EngineError, StopRequested
from training.engine.trainer import Trainer

SETTINGS = {
    "lora_rank": 4,
    "batch_size": 8,
    "micro_batch_size": 8,
    "max_new_tokens": 6,
    "iterations": 14,
    "checkpoint_every": 3,
    "sample_every": 4,
    "samples": 2,
    "learning_rate": 1e-2,
    "value_warmup": 1,
    "kl_controller": "adaptive",
    "kl_target": 0.1,
}
ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_reward(folder / "reward", save_base(folder / "base"))
    return folder


def ppo_run(places: Path, path: Path, **changes: Any) -> RunDir:
    settings = SETTINGS | {"base": str(places / "base"), "reward_path": str(places / "reward")} | changes
    return make_run(path, "ppo", settings, prompts=prompt_rows(12, held_out=2))


@pytest.fixture(scope="module")
def undisturbed(places: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    rundir = ppo_run(places, tmp_path_factory.mktemp("runs") / "undisturbed")
    assert run_engine(rundir)["state"] == "succeeded"
    return rundir


def wait_for_lines(rundir: RunDir, engine: subprocess.Popen[str], count: int) -> None:
    while engine.poll() is None:
        if rundir.events.exists() and rundir.events.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)


def assert_same_result(rundir: RunDir, undisturbed: RunDir) -> None:
    files = {path.name: path.read_bytes() for path in undisturbed.artifact.iterdir()}
    assert ADAPTER in files
    for name, content in files.items():
        assert (rundir.artifact / name).read_bytes() == content, name
    assert without_clock(events_of(rundir)) == without_clock(events_of(undisturbed))
    assert [event["seq"] for event in events_of(rundir)] == list(range(1, len(events_of(rundir)) + 1))


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(
    places: Path, tmp_path: Path, undisturbed: RunDir
) -> None:
    """`kill -9` after a random number of events and a random part of a step, three times, then to the end."""
    rundir = ppo_run(places, tmp_path / "run")
    rng = random.Random(time.time_ns())
    moments = sorted(rng.sample(range(1, len(events_of(undisturbed))), 3))
    for lines in moments:
        engine = start_engine(rundir)
        wait_for_lines(rundir, engine, lines)
        time.sleep(rng.random() * 0.05)
        engine.kill()
        engine.wait()
    assert run_engine(rundir)["state"] == "succeeded", moments
    assert_same_result(rundir, undisturbed)


def test_sigterm_saves_and_leaves_and_the_run_goes_on(places: Path, tmp_path: Path, undisturbed: RunDir) -> None:
    rundir = ppo_run(places, tmp_path / "run")
    engine = start_engine(rundir)
    wait_for_lines(rundir, engine, 8)
    engine.send_signal(signal.SIGTERM)
    assert engine.wait(timeout=200) == STOPPED, rundir.log.read_text()
    status = rundir.read_status()
    assert status["state"] == "stopped" and 0 < status["step"] < 14
    assert f"step_{status['step']:06d}" in [path.name for path in rundir.checkpoints.iterdir()]
    assert run_engine(rundir)["step"] == 14
    assert_same_result(rundir, undisturbed)


def test_a_run_stopped_after_every_step_gives_the_same_bytes(places: Path, tmp_path: Path, undisturbed: RunDir) -> None:
    """Through the control file, and resumed in a process with another history."""
    rundir = ppo_run(places, tmp_path / "run")
    rundir.write_control(stop=True)
    for _ in range(13):
        session = open_session(rundir)
        with pytest.raises(StopRequested):
            ppo.run(session)
        session.events.close()
    ppo.run(open_session(rundir))
    assert_same_result(rundir, undisturbed)


def test_the_engine_needs_no_django(places: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['django'] = None;"
        "from training.engine.__main__ import main; raise SystemExit(main([sys.argv[1]]))"
    )
    settings = {"base": str(places / "base"), "completions": 1, "max_new_tokens": 4}
    rundir = make_run(tmp_path / "run", "sampling", settings, prompts=prompt_rows(2))
    command = [sys.executable, "-c", script, str(rundir.path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == SUCCEEDED


# Failures, each with one sentence


def fail(rundir: RunDir) -> str:
    assert program.main([str(rundir.path)]) == FAILED
    status = rundir.read_status()
    assert status["state"] == "failed"
    assert "\n" not in status["error"]
    return str(status["error"])


def test_a_missing_model_is_said(tmp_path: Path) -> None:
    rundir = make_run(tmp_path / "run", "sampling", {"base": "/nowhere/model"}, prompts=prompt_rows(1))
    assert fail(rundir) == "The base model /nowhere/model does not exist."


def test_weights_that_are_pickles_are_refused(places: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    rundir = make_run(tmp_path / "run", "sampling", {"base": str(base)}, prompts=prompt_rows(1))
    assert "cannot be loaded" in fail(rundir)


def test_no_data_is_said(places: Path, tmp_path: Path) -> None:
    rundir = make_run(tmp_path / "run", "sampling", {"base": str(places / "base")})
    assert fail(rundir) == "There is no data to work on: data/prompts.jsonl is missing or empty."


def test_changed_data_is_said(places: Path, tmp_path: Path) -> None:
    rundir = ppo_run(places, tmp_path / "run")
    with (rundir.data / "prompts.jsonl").open("a") as file:
        file.write("{}\n")
    assert "is not the file that was frozen" in fail(rundir)


def test_a_bad_config_is_said(tmp_path: Path) -> None:
    rundir = make_run(tmp_path / "run", "sft", {})
    rundir.config.write_text(json.dumps({"kind": "sft", "settings": {"epoch": 3}}))
    assert "no setting epoch" in fail(rundir)


def test_more_devices_than_a_machine_can_have_are_said(places: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("training.engine.__main__.launch", lambda *_: pytest.fail("processes were started"))
    assert "1024 devices of a machine" in fail(ppo_run(places, tmp_path / "run", devices=1024))


def test_ppo_without_a_reward_model_is_said(places: Path, tmp_path: Path) -> None:
    assert "set reward_path" in fail(ppo_run(places, tmp_path / "run", reward_path=""))


def test_a_loss_that_became_nan_is_said_and_the_checkpoints_stay(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Trainer.learn

    def break_at_5(self: Any, episodes: Any, experience: Any, iteration: int) -> dict[str, float]:
        return learn(self, episodes, experience, iteration) | ({"loss/policy": float("nan")} if iteration == 5 else {})

    monkeypatch.setattr(Trainer, "learn", break_at_5)
    rundir = ppo_run(places, tmp_path / "run")
    assert fail(rundir) == "loss/policy became NaN or infinite at step 5; lower the learning rate."
    assert [path.name for path in rundir.checkpoints.iterdir()] == ["step_000003"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "Out of memory: lower micro_batch_size (now 64), batch_size (now 64)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "Out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (KeyError("x\ny"), "KeyError"),
    ],
)
def test_unforeseen_errors_become_one_sentence(error: Exception, sentence: str) -> None:
    said = explain(error, parse_config("ppo", {}))
    assert said.startswith(sentence)
    assert "\n" not in said


def test_a_full_disk_is_said(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("training.engine.checkpoints.torch.save", full)
    rundir = ppo_run(places, tmp_path / "run")
    assert fail(rundir) == "The disk is full: free some space and resume the run."


def test_a_device_that_is_not_there_is_said(places: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(EngineError, match="this machine has none"):
        open_session(ppo_run(places, tmp_path / "run", device="cuda"))

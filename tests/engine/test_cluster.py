"""The run directory on a real Ray of this machine, with two workers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil
import pytest

from tests.engine.test_parallel import PPO, run_in
from tests.engine.test_runs import assert_same_result, wait_for_lines
from tests.engine.tiny import run_engine, save_base, save_reward, start_engine
from training.engine.__main__ import main
from training.engine.rundir import FAILED, STOPPED, SUCCEEDED, RunDir

pytestmark = pytest.mark.timeout(1200)  # starting Ray takes a minute on a busy machine
RAY = {"devices": 2, "executor": "ray"}
LONG = PPO | {"iterations": 10}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_reward(folder / "reward", save_base(folder / "base"))
    return folder


def without_placement(rundir: RunDir) -> None:
    """Take from the artifact's card who computed it, so that the rest can be compared byte by byte."""
    for name in ("card.json", "README.md"):
        path = rundir.artifact / name
        path.write_text(
            path.read_text().replace('"executor": "ray"', '"executor": "local"').replace("| ray |", "| local |")
        )


def workers_of(engine: psutil.Process) -> list[psutil.Process]:
    return [p for p in engine.children(recursive=True) if p.name().startswith("ray::") and "TrainWorker" in p.name()]


def test_a_run_on_ray_loses_a_worker_stops_and_ends_with_the_bytes_of_two_processes(
    places: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    here = run_in(tmp_path / "here", places, "ppo", LONG | {"devices": 2})
    assert run_engine(here)["state"] == "succeeded"

    there = run_in(tmp_path / "there", places, "ppo", LONG | RAY)
    engine = start_engine(there)
    wait_for_lines(there, engine, 12)
    workers = workers_of(psutil.Process(engine.pid))
    assert len(workers) == 2
    workers[0].kill()
    assert engine.wait(timeout=400) not in (SUCCEEDED, FAILED, STOPPED), there.log.read_text()
    assert there.read_status()["state"] == "running"

    engine = start_engine(there)
    wait_for_lines(there, engine, 14)
    engine.terminate()
    assert engine.wait(timeout=400) == STOPPED, there.log.read_text()
    assert 0 < there.read_status()["step"] < 10

    there.write_control()
    assert start_engine(there).wait(timeout=400) == SUCCEEDED, there.log.read_text()
    assert len(set(re.findall(r"Resuming after step (\d+)", there.log.read_text()))) == 2  # Ray prints lines twice
    without_placement(there)
    assert_same_result(there, here)


def test_a_run_that_fails_on_ray_says_why(places: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    rundir = run_in(tmp_path / "run", places, "ppo", PPO | RAY | {"reward_functions": "nobody"})
    assert start_engine(rundir).wait(timeout=400) == FAILED, rundir.log.read_text()
    assert "There is no reward function nobody" in rundir.read_status()["error"]


def test_without_ray_a_run_that_asks_for_it_says_so(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    rundir = run_in(tmp_path / "run", places, "ppo", PPO | RAY)
    assert main([str(rundir.path)]) == FAILED
    assert "asks for Ray, which is not installed here" in rundir.read_status()["error"]

"""The supervisor with the real engine on the demo's small model."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from tests.training.conftest import fresh, until
from training import process
from training.engine.rundir import RunDir
from training.models import ModelArtifact, RunEvent, TrainingRun
from training.runs import resume_run, stop_run
from training.supervisor import Pace, supervise

pytestmark = pytest.mark.django_db(transaction=True)
PACE = Pace(heartbeat=0.1, first_pause=0.05)
MakeRun = Callable[..., TrainingRun]


def run_now(run: TrainingRun, shutting_down: threading.Event | None = None) -> TrainingRun:
    supervise(run.pk, shutting_down=shutting_down or threading.Event(), pace=PACE)
    return fresh(run)


def when(condition: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Do `act` from another thread as soon as `condition()` holds."""

    def wait() -> None:
        try:
            until(condition)
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def metrics_in(rundir: RunDir) -> int:
    return rundir.events.read_text(encoding="utf-8").count('"type": "metrics"') if rundir.events.exists() else 0


def engine_pid(rundir: RunDir) -> int:
    return int((rundir.path / "engine.lock").read_text(encoding="ascii"))


def kill_engine(rundir: RunDir) -> None:
    os.kill(engine_pid(rundir), signal.SIGKILL)


def files_of(artifact: ModelArtifact) -> dict[str, bytes]:
    folder = Path(artifact.path)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def check_events(run: TrainingRun) -> None:
    """Every line of the file is a row, each sequence number once, none missing."""
    sequence = list(RunEvent.objects.filter(run=run).values_list("seq", flat=True))
    assert sequence == list(range(1, len(sequence) + 1))
    assert run.last_seq == len(sequence)
    assert len(sequence) == len(run.rundir.events.read_text(encoding="utf-8").splitlines())


def test_a_run_ends_in_an_artifact_with_the_way_back_to_the_labels(make_run: MakeRun) -> None:
    run = run_now(make_run())
    assert (run.state, run.error, run.worker) == ("succeeded", "", "")
    assert run.step == run.total_steps > 0
    check_events(run)
    artifact = run.artifact
    assert (artifact.kind, artifact.snapshot, artifact.parent) == ("reward", run.snapshot, run.base)
    assert artifact.snapshot.campaign == run.campaign
    assert 0 <= artifact.metrics["eval/accuracy"] <= 1


@pytest.mark.slow
def test_an_engine_killed_then_stopped_then_resumed_ends_with_the_same_bytes(make_run: MakeRun) -> None:
    settings = {"epochs": 12.0, "checkpoint_every": 1}
    undisturbed = run_now(make_run(settings=settings))

    run = make_run(settings=settings)
    killer = when(lambda: metrics_in(run.rundir) >= 3, lambda: kill_engine(run.rundir))
    stopper = when(lambda: fresh(run).attempts == 1 and metrics_in(run.rundir) >= 8, lambda: stop_run(run))
    run = run_now(run)
    killer.join()
    stopper.join()
    assert run.state == "stopped" and 0 < run.step < run.total_steps
    assert run.rundir.log.read_text(encoding="utf-8").count("Resuming after step") == 1
    assert resume_run(run) and fresh(run).state == "queued"
    run = run_now(run)
    assert (run.state, run.error) == ("succeeded", "")
    assert run.rundir.log.read_text(encoding="utf-8").count("Resuming after step") == 2

    check_events(run)
    assert "head.safetensors" in files_of(run.artifact)
    assert files_of(run.artifact) == files_of(undisturbed.artifact)
    assert run.artifact.sha256 == undisturbed.artifact.sha256


def test_a_worker_that_ends_gives_the_run_back_to_the_queue(make_run: MakeRun) -> None:
    run = make_run(settings={"epochs": 50.0})
    shutting_down = threading.Event()
    ender = when(lambda: metrics_in(run.rundir) >= 1, shutting_down.set)
    back = run_now(run, shutting_down)
    ender.join()
    assert (back.state, back.worker) == ("queued", "")
    assert 0 < back.step < back.total_steps
    check_events(back)
    assert run_now(back, shutting_down).state == "queued"  # the worker still ends: nothing starts


def test_the_wrong_data_ends_the_run_with_the_engines_sentence(make_run: MakeRun) -> None:
    run = make_run()
    (run.rundir.data / "rankings.jsonl").unlink()
    (run.rundir.data / "rankings.jsonl").write_text("{}\n", encoding="utf-8")
    failed = run_now(run)
    assert failed.state == "failed"
    assert "rankings.jsonl is not the file that was frozen" in failed.error


def test_the_engine_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:secret@db/prefloop")
    monkeypatch.setenv("SECRET_KEY", "secret")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("PREFLOOP_REWARDS", "/srv/rewards.py")
    environment = process.environment()
    assert environment["PREFLOOP_REWARDS"] == "/srv/rewards.py"
    assert environment["HF_HOME"] == "/models" and environment["GOMP_SPINCOUNT"] == "2000"
    assert "secret" not in " ".join(environment.values())
    assert not {"DATABASE_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE", "PREFLOOP_VAR"} & set(environment)

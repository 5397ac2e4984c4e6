"""What the real engine does not do on purpose: a small child program speaks the protocol and misbehaves."""

from __future__ import annotations

import json
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from django.db import OperationalError, connection

from tests.training.conftest import fresh, until
from training import process, supervisor
from training.models import ModelArtifact, RunEvent, TrainingRun
from training.recording import Recorder
from training.runs import stop_run
from training.supervisor import Pace, supervise

pytestmark = pytest.mark.django_db(transaction=True)
MakeRun = Callable[..., TrainingRun]
Program = Callable[[str], None]
PACE = Pace(heartbeat=0.05, first_pause=0.01, grace=0.3, crashes=3)

HEAD = """
import json, os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
started = folder / "started"
started.write_text(str(1 + int(started.read_text() if started.exists() else 0)))
starts = int(started.read_text())

def status(state, step=0, error=None):
    facts = {"state": state, "stage": "train", "step": step, "total_steps": 9, "error": error}
    (folder / "s.tmp").write_text(json.dumps(facts))
    (folder / "s.tmp").replace(folder / "status.json")

def emit(*sequence):
    with (folder / "events.jsonl").open("a") as file:
        for seq in sequence:
            event = {"seq": seq, "time": 1.0, "step": seq, "type": "warning", "message": f"event {seq}"}
            file.write(json.dumps(event) + "\\n")

def artifact():
    (folder / "artifact").mkdir(exist_ok=True)
    card = {"kind": "reward", "format": "adapter", "metrics": {"x": 1.0}}
    (folder / "artifact" / "card.json").write_text(json.dumps(card))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    def install(source: str) -> None:
        path = tmp_path / "child.py"
        path.write_text(HEAD + textwrap.dedent(source), encoding="utf-8")
        monkeypatch.setattr(process, "engine_command", lambda: [sys.executable, str(path)])

    return install


def run_now(run: TrainingRun, shutting_down: threading.Event | None = None) -> TrainingRun:
    supervise(run.pk, shutting_down=shutting_down or threading.Event(), pace=PACE)
    return fresh(run)


def starts(run: TrainingRun) -> int:
    return int((run.rundir.path / "started").read_text())


def sequence(run: TrainingRun) -> list[int]:
    return list(RunEvent.objects.filter(run=run).values_list("seq", flat=True))


def in_thread(work: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_crashes_without_progress_end_the_run_with_advice(make_run: MakeRun, program: Program) -> None:
    program("status('running', 2); os.kill(os.getpid(), signal.SIGKILL)")
    run = run_now(make_run())
    assert run.state == "failed" and starts(run) == PACE.crashes
    assert "killed 3 times in a row by SIGKILL" in run.error and "lower micro_batch_size" in run.error


def test_progress_forgives_earlier_crashes(make_run: MakeRun, program: Program) -> None:
    program(
        """
        status("running", starts)
        emit(starts)
        if starts < 8:
            os.kill(os.getpid(), signal.SIGSEGV)
        artifact()
        status("succeeded", 9)
        """
    )
    run = run_now(make_run())
    assert (run.state, starts(run), sequence(run)) == ("succeeded", 8, list(range(1, 9)))


def test_an_engine_that_fails_is_not_started_again(make_run: MakeRun, program: Program) -> None:
    program("status('failed', error='The disk is full.'); sys.exit(1)")
    run = run_now(make_run())
    assert (run.state, run.error, starts(run)) == ("failed", "The disk is full.", 1)


def test_an_engine_that_cannot_start_shows_its_last_words(make_run: MakeRun, program: Program) -> None:
    program("import no_such_module")
    run = run_now(make_run())
    assert run.state == "failed" and "No module named 'no_such_module'" in run.error


def test_success_without_a_readable_artifact_is_a_failure(make_run: MakeRun, program: Program) -> None:
    program("status('succeeded')")
    run = run_now(make_run())
    assert run.state == "failed" and "its artifact cannot be read" in run.error
    assert not ModelArtifact.objects.filter(run=run).exists()


def test_damaged_events_fail_the_run_and_end_the_engine(make_run: MakeRun, program: Program) -> None:
    program("(folder / 'events.jsonl').write_bytes(b'no json\\n'); time.sleep(60)")
    run = run_now(make_run())
    assert run.state == "failed" and "Supervising the run failed" in run.error
    until(lambda: process.adopt(run.rundir) is None)


def test_texts_that_postgresql_refuses_are_stored_readable(make_run: MakeRun, program: Program) -> None:
    program(
        r"""
        line = {"seq": 1, "time": 1.0, "step": 1, "type": "sample", "completion": "a\x00b\ud800c"}
        line["score"] = float("nan")
        (folder / "events.jsonl").write_text(json.dumps(line) + "\n")
        artifact()
        status("succeeded")
        """
    )
    run = run_now(make_run())
    assert run.error == ""
    assert RunEvent.objects.get(run=run).payload == {"completion": "a\ufffdb?c", "score": None}


def test_an_engine_that_ignores_the_wish_to_stop_is_killed(make_run: MakeRun, program: Program) -> None:
    program(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        status("running", 1)
        time.sleep(600)
        """
    )
    run = make_run()
    stopper = in_thread(lambda: (until(lambda: fresh(run).state == "running"), stop_run(run)))
    run = run_now(run)
    stopper.join()
    assert run.state == "stopped" and process.adopt(run.rundir) is None
    assert json.loads(run.rundir.control.read_text()) == {"stop": True}


def test_a_run_asked_to_stop_before_its_engine_starts_never_starts_it(make_run: MakeRun, program: Program) -> None:
    program("status('running', 1)")
    run = make_run()
    TrainingRun.objects.filter(pk=run.pk).update(stop_requested=True)
    assert run_now(run).state == "stopped" and not (run.rundir.path / "started").exists()


def test_two_supervisors_start_one_engine(make_run: MakeRun, program: Program) -> None:
    program(
        """
        for step in range(1, 10):
            emit(step)
            status("running", step)
            time.sleep(0.05)
        artifact()
        status("succeeded", 9)
        """
    )
    run = make_run()
    threads = [in_thread(lambda: run_now(run)) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert (fresh(run).state, starts(run), sequence(run)) == ("succeeded", 1, list(range(1, 10)))


def test_a_supervisor_that_lost_its_claim_leaves_the_engine_to_the_next(make_run: MakeRun, program: Program) -> None:
    program(
        """
        for step in range(1, 30):
            emit(step)
            status("running", step)
            time.sleep(0.05)
        artifact()
        status("succeeded", 29)
        """
    )
    run = make_run()
    first = in_thread(lambda: run_now(run))
    until(lambda: fresh(run).step >= 3)
    TrainingRun.objects.filter(pk=run.pk).update(state="queued", worker="")  # as the upkeep does
    first.join()
    assert psutil.pid_exists(int((run.rundir.path / "engine.lock").read_text()))
    run = run_now(run)
    assert (run.state, starts(run), sequence(run)) == ("succeeded", 1, list(range(1, 30)))


def test_an_engine_that_ended_while_nobody_looked_is_not_started_again(make_run: MakeRun, program: Program) -> None:
    program("emit(1, 2); artifact(); status('succeeded', 9)")
    run = make_run()
    engine = process.start(run.rundir)
    until(lambda: engine.poll() is not None)
    run = run_now(run)
    assert (run.state, starts(run), sequence(run)) == ("succeeded", 1, [1, 2])


def test_only_one_engine_can_live_in_a_run_directory(make_run: MakeRun, program: Program) -> None:
    program("time.sleep(600)")
    run = make_run()
    engine = process.start(run.rundir)
    with pytest.raises(process.EngineBusy):
        process.start(run.rundir)
    adopted = process.adopt(run.rundir)
    assert adopted is not None and adopted.adopted and adopted.poll() is None
    adopted.kill()
    until(lambda: engine.poll() is not None)
    assert adopted.poll() == -9


def test_nothing_is_lost_while_the_database_is_away(
    make_run: MakeRun, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        """
        for step in range(1, 10):
            emit(step)
            status("running", step)
            time.sleep(0.05)
        artifact()
        status("succeeded", 9)
        """
    )
    monkeypatch.setattr(supervisor, "FIRST_SILENCE", 0.01)
    failures = iter(range(6))
    real = Recorder.progress

    def progress(self: Recorder, *arguments: object) -> None:
        if next(failures, None) is not None:
            raise OperationalError("the server closed the connection")
        real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "progress", progress)
    run = run_now(make_run())
    assert (run.state, starts(run), sequence(run)) == ("succeeded", 1, list(range(1, 10)))
    assert next(failures, None) is None


def test_a_worker_that_ends_without_a_database_does_not_wait_for_ever(
    make_run: MakeRun, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("status('running', 1); time.sleep(600)")
    monkeypatch.setattr(supervisor, "PATIENCE_AT_SHUTDOWN", 0.1)
    run, shutting_down = make_run(), threading.Event()

    def away(*arguments: object) -> None:
        raise OperationalError("gone")

    def end() -> None:
        until(lambda: fresh(run).state == "running")
        monkeypatch.setattr(Recorder, "back_to_queue", away)
        shutting_down.set()

    ender = in_thread(end)
    run = run_now(run, shutting_down)
    ender.join()
    assert run.state == "running" and run.worker  # its heartbeat grows old, and somebody queues it again
    assert process.adopt(run.rundir) is None

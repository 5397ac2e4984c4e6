"""Supervise one run: claim it, keep its engine alive, follow its files into the database, bring it to an end.

The run directory is the engine's side of the truth, the database is everybody else's; the supervisor only copies. It
may die at any moment, and so may the engine and PostgreSQL:

* the engine dies: it is started again, with growing pauses, and resumes from its newest checkpoint;
* the supervisor dies: the engine goes on, the run is queued again after a while, and the next supervisor adopts the
  engine, or reads how it ended;
* PostgreSQL dies: the engine goes on, the supervisor tries again until it can write what it has read meanwhile.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Coalesce, Now

from config.logs import run_id as run_id_of_logs
from config.push import notify
from training import process
from training.engine.rundir import FAILED, STOPPED, SUCCEEDED, RunDir
from training.following import EventReader, StatusReader, last_line
from training.models import TrainingRun
from training.recording import LostClaim, Recorder, artifact_of

logger = logging.getLogger(__name__)
State = TrainingRun.State

FIRST_SILENCE, LONGEST_SILENCE = 0.1, 5.0  # between attempts to reach the database
PATIENCE_AT_SHUTDOWN = 10.0


@dataclass(frozen=True)
class Pace:
    """Seconds between things, and how often a crash is forgiven."""

    poll: float = 0.05
    heartbeat: float = 1.0
    grace: float = 600.0
    """From the wish to stop to SIGKILL: an engine that does not finish its step by then hangs."""
    first_pause: float = 1.0
    longest_pause: float = 60.0
    crashes: int = 5
    """Crashes in a row without a step of progress before the run fails."""


AWAY = (OperationalError, InterfaceError)
"""What Django raises while PostgreSQL cannot be reached. Any other database error is a fault of ours."""


def supervise(run_id: int, *, shutting_down: threading.Event, pace: Pace | None = None) -> None:
    """Claim the run and stay until it has ended, gone back to the queue, or been taken over."""
    run = claim(run_id)
    if run is None:
        return
    token = run_id_of_logs.set(run.public_id)
    supervisor = Supervisor(run, shutting_down, pace or Pace())
    try:
        supervisor.run_to_its_end()
    except LostClaim:
        logger.warning("Run %s has another supervisor, or will have; this one leaves.", run.public_id)
    except Exception as error:
        logger.exception("Supervising run %s failed.", run.public_id)
        supervisor.give_up(f"Supervising the run failed: {type(error).__name__}: {error}")
    finally:
        run_id_of_logs.reset(token)


def claim(run_id: int) -> TrainingRun | None:
    """Take a queued run. The conditional update lets only one of several workers have it."""
    worker = f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(4)}"
    with transaction.atomic():
        waiting = TrainingRun.objects.filter(pk=run_id, state=State.QUEUED)
        if not waiting.update(
            state=State.STARTING, worker=worker, heartbeat_at=Now(), started_at=Coalesce("started_at", Now())
        ):
            return None
        run = TrainingRun.objects.select_related("owner", "campaign", "snapshot", "base", "reward").get(pk=run_id)
        notify(run.topic)
        notify("runs")
    return run


class Supervisor:
    """One claimed run: its engine, and how far its files have been read."""

    def __init__(self, run: TrainingRun, shutting_down: threading.Event, pace: Pace) -> None:
        self.run, self.shutting_down, self.pace = run, shutting_down, pace
        self.recorder = Recorder(run, run.worker)
        self.rundir: RunDir = run.rundir
        self.events = EventReader(self.rundir.events, run.events_offset, run.last_seq)
        self.status = StatusReader(self.rundir)
        self.engine: process.Engine | None = None
        self.stop_requested = run.stop_requested
        self._asked_to_stop_at = 0.0
        self._beat_at = self._silent_until = 0.0
        self._silence = FIRST_SILENCE

    def run_to_its_end(self) -> None:
        """Start (or adopt) the engine, again after crashes, until the run has an outcome."""
        crashes, best_step = self.run.attempts, -1
        while True:
            code = self._one_life_of_the_engine()
            if code in (SUCCEEDED, FAILED) or self._stops:
                return self._end(code)
            # Crashed, or stopped by somebody else. Progress since the last crash forgives the ones before.
            crashes = 1 if self.run.step > best_step >= 0 else crashes + 1
            best_step = max(best_step, self.run.step)
            if crashes >= self.pace.crashes:
                return self._surely(partial(self.recorder.failed, crash_report(code, crashes)))
            pause = min(self.pace.first_pause * 2 ** (crashes - 1), self.pace.longest_pause)
            logger.warning("The engine ended with %s; it starts again in %.1f s.", code, pause)
            self._surely(partial(self.recorder.crashed, crashes))
            self._wait(pause)

    def give_up(self, error: str) -> None:
        """After a fault of the supervisor itself: no engine without one."""
        if self.engine is not None:
            self.engine.kill()
        with suppress(LostClaim, *AWAY):
            self.recorder.failed(error)

    @property
    def _stops(self) -> bool:
        return self.stop_requested or self.shutting_down.is_set()

    def _one_life_of_the_engine(self) -> int:
        """Follow an engine until it is gone; return its exit code."""
        self.engine = process.adopt(self.rundir)
        if self.engine is None:
            if self.status.read().get("state") == "succeeded":
                return SUCCEEDED  # it ended while nobody looked
            if self._stops:
                return STOPPED
            self.events.rewind()  # the engine will cut the file back to its checkpoint
            self.status.forget()
            self.engine = process.start(self.rundir)
        while True:
            code = self.engine.poll()  # before reading: what it wrote until then is in the files
            self._copy()
            if code is not None:
                return code
            self._heartbeat()
            self._pass_on_the_wish_to_stop(self.engine)
            time.sleep(self.pace.poll)

    def _end(self, code: int) -> None:
        self._surely(self._copy_now)
        if code == SUCCEEDED:
            try:
                artifact = artifact_of(self.run)
            except (OSError, ValueError, KeyError) as error:
                sentence = f"The engine finished, but its artifact cannot be read: {error}"
                self._surely(partial(self.recorder.failed, sentence))
            else:
                self._surely(partial(self.recorder.succeeded, artifact))
        elif code == FAILED:
            sentence = self.status.read().get("error") or last_line(self.rundir)
            self._surely(partial(self.recorder.failed, sentence))
        elif self.stop_requested:
            self._surely(self.recorder.stopped)
        else:
            self._surely(self.recorder.back_to_queue)

    def _pass_on_the_wish_to_stop(self, engine: process.Engine) -> None:
        if not self._stops:
            return
        now = time.monotonic()
        if not self._asked_to_stop_at:
            self._asked_to_stop_at = now
            engine.ask_to_stop()
        elif now - self._asked_to_stop_at > self.pace.grace:
            engine.kill()

    def _copy(self) -> None:
        """Copy what is new, if there is anything; quietly later if the database is away."""
        if self.events.has_news() or self.status.has_news():
            self._if_possible(self._copy_now)

    def _copy_now(self) -> None:
        events, offset = self.events.read()
        if not events and not self.status.has_news():
            return  # half a line
        status = self.status.read()
        self.recorder.progress(events, offset, status)
        self.events.advance(events, offset)
        self.status.seen()

    def _heartbeat(self) -> None:
        if time.monotonic() - self._beat_at >= self.pace.heartbeat:
            self._if_possible(self._beat)

    def _beat(self) -> None:
        self.stop_requested = self.recorder.heartbeat()
        self._beat_at = time.monotonic()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stops:
            self._heartbeat()
            time.sleep(self.pace.poll)

    def _if_possible(self, write: Callable[[], None]) -> bool:
        """Try to write; after a failure leave the database alone for a growing while."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            write()
        except AWAY as error:
            logger.warning("The database cannot be reached (%s); the engine goes on.", type(error).__name__)
            connection.close()
            self._silent_until = time.monotonic() + self._silence
            self._silence = min(2 * self._silence, LONGEST_SILENCE)
            return False
        self._silence = FIRST_SILENCE
        return True

    def _surely(self, write: Callable[[], None]) -> None:
        """Try until it is written. A worker that ends does not wait for ever: another one will find out the same."""
        patience = time.monotonic() + PATIENCE_AT_SHUTDOWN
        while not self._if_possible(write):
            if self.shutting_down.is_set() and time.monotonic() > patience:
                raise LostClaim
            time.sleep(self.pace.poll)


def crash_report(code: int, times: int) -> str:
    if code >= 0:
        return f"The engine ended {times} times in a row with exit code {code}. Its log says more."
    name = signal.Signals(-code).name
    sentence = f"The engine was killed {times} times in a row by {name}, without progress in between."
    if code == -signal.SIGKILL:
        sentence += " The usual reason is memory: lower micro_batch_size, or take a smaller base model."
    return sentence

"""One run as a trainer sees it: its config, its device, its events, where it resumes and when it must stop.

A trainer is a module with `run(session)`. It builds its models, calls `session.resume()`, loops over steps with
`session.end_step(step, state)` at the end of each, and finishes with `artifacts.write`. Everything about files,
signals and progress is here, so that trainers read like their algorithm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from . import checkpoints, parallel
from .config import CommonConfig
from .events import EventLog, NoLog
from .rundir import RunDir


class EngineError(Exception):
    """The run cannot go on; the message is one sentence for the person who started it."""


class StopRequested(Exception):
    """Somebody asked the run to stop; its state is saved."""


class Session:
    """The open run directory of a run of `kind`. `manifest` describes the verified data files.

    Of several processes (`world`) each has a session, and the one of the first process writes.
    """

    def __init__(self, rundir: RunDir, kind: str, config: CommonConfig, manifest: dict[str, Any]) -> None:
        self.rundir, self.kind, self.config, self.manifest = rundir, kind, config, manifest
        self.stop = False  # set by the SIGTERM handler
        self.device = _choose_device(config.device)
        self.world = parallel.join(self.device, sharded=getattr(config, "shard_base", False))
        self.dtype = _choose_dtype(config.dtype, self.device)
        if config.threads:
            torch.set_num_threads(max(1, config.threads // parallel.local_size()))
        torch.manual_seed(config.seed)
        self._checkpoint, torn = checkpoints.load_newest(rundir)
        found = self._checkpoint
        if len(set(self.world.gather([found.step if found else 0]))) > 1:
            raise EngineError("The processes of the run see different checkpoints: they need one shared run directory.")
        if not self.world.leads:
            self.events: EventLog = NoLog()
        elif found:
            self.events = EventLog(rundir.events, found.seq, found.offset)
        else:
            self.events = EventLog(rundir.events)
        self.events.muted = found is not None
        self.step, self.total_steps = (found.step if found else 0), 0
        self._stage, self._first_step, self._started = "start", self.step, time.monotonic()
        self._saved_step, self._status_time, self._save_wish = self.step if found else -1, 0.0, 0
        for sentence in torn:
            self.say(sentence)
            self.events.warn_about_restart(self.step, sentence)
        self.write_status()

    def stage(self, name: str, message: str = "", total_steps: int | None = None) -> None:
        """Enter a stage ("load", "train", ...): an event, and a new status."""
        self._stage = name
        self.total_steps = self.total_steps if total_steps is None else total_steps
        self.events.emit("stage", self.step, stage=name, message=message)
        self.say(f"[{name}] {message}")
        self.write_status()

    def say(self, line: str) -> None:
        """A line in the log, once however many processes there are."""
        if self.world.leads:
            print(line, flush=True)

    def resume(self) -> tuple[int, dict[str, Any] | None]:
        """Steps already done and the trainer's saved state (0 and None in a new run).

        Call it when the models stand: it also restores the random number generators and lets events out again.
        """
        found, self._checkpoint = self._checkpoint, None
        self.events.muted = False
        self._first_step, self._started = self.step, time.monotonic()
        if found is None:
            return 0, None
        checkpoints.restore_rng(found.rng)
        self.say(f"Resuming after step {found.step}.")
        return found.step, found.state

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Write metrics; a value that is not finite ends the run, because everything after it would be noise."""
        bad = sorted(name for name, value in values.items() if value != value or abs(value) == float("inf"))
        if bad:
            raise EngineError(f"{bad[0]} became NaN or infinite at step {step}; lower the learning rate.")
        self.events.emit("metrics", step, metrics={name: float(f"{value:.7g}") for name, value in values.items()})

    def warn(self, step: int, message: str) -> None:
        """Something a person should know of: an event, and a line in the log."""
        self.events.emit("warning", step, message=message)
        self.say(message)

    def end_step(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Note progress; save `state()` when it is due, wished for, or at the end. Raises StopRequested if asked to."""
        self.step = step
        wishes = self.rundir.read_control() if self.world.leads else {}
        stop = self.world.any(self.stop or bool(wishes.get("stop")))  # so that all leave at the same step
        if self.world.leads and (stop or self._is_due(step) or self._wants_save(wishes)):
            self.save(state())
        self.write_status(sparingly=True)
        if stop and step < self.total_steps:
            raise StopRequested

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint of the current step."""
        self.events.sync()
        checkpoints.save(
            self.rundir,
            self.step,
            state,
            seq=self.events.seq,
            offset=self.events.offset,
            keep=self.config.keep_checkpoints,
        )
        self._saved_step = self.step

    def write_status(self, state: str = "running", error: str | None = None, sparingly: bool = False) -> None:
        """Replace `status.json`; `sparingly` leaves out what nobody could see (steps of a few milliseconds)."""
        now = time.monotonic()
        if not self.world.leads and error is None:
            return
        if sparingly and now - self._status_time < 0.2:
            return
        self._status_time = now
        done = self.step - self._first_step
        left = (now - self._started) / done * (self.total_steps - self.step) if done > 0 else None
        self.rundir.write_status(
            {
                "state": state,
                "stage": self._stage,
                "step": self.step,
                "total_steps": self.total_steps,
                "eta_seconds": None if left is None else round(max(left, 0.0), 1),
                "device": _describe(self.device, self.world.size),
                "error": error,
            }
        )

    def _is_due(self, step: int) -> bool:
        return step % self.config.checkpoint_every == 0 or step >= self.total_steps

    def _wants_save(self, wishes: dict[str, Any]) -> bool:
        """True once for every time `control.json` was written with `save`."""
        if not wishes.get("save"):
            return False
        written = self.rundir.control.stat().st_mtime_ns
        fresh, self._save_wish = written != self._save_wish, written
        return fresh


def _choose_device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EngineError("The run asks for a CUDA device, and this machine has none: set device to auto or cpu.")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu" or parallel.local_size() == 1:
        return torch.device(wanted)
    if parallel.local_size() > torch.cuda.device_count():
        raise EngineError(
            f"The run asks for {parallel.local_size()} devices of a machine that has {torch.cuda.device_count()}."
        )
    torch.cuda.set_device(parallel.local_rank())
    return torch.device("cuda", parallel.local_rank())


def _choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    if wanted == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]


def _describe(device: torch.device, processes: int) -> str:
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else f"cpu, {torch.get_num_threads()} threads"
    return f"{processes} x {name}" if processes > 1 else name

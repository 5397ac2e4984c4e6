"""What a supervisor writes to the database about its run. Every write holds only while the claim on the run does."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from config.push import notify
from labeling.webhooks import emit
from training import queue
from training.engine.rundir import sha256_of
from training.engine.settings import MOST
from training.models import ModelArtifact, RunEvent, TrainingRun
from training.steering import hand_over

State = TrainingRun.State


class LostClaim(Exception):
    """Another worker, or nobody, has this run now: say nothing more about it."""


class Recorder:
    """The rows of one claimed run. `worker` is the claim: no row changes once the run names somebody else."""

    def __init__(self, run: TrainingRun, worker: str) -> None:
        self.run, self.worker = run, worker

    def heartbeat(self) -> bool:
        """Say that the worker lives; True if somebody asked the run to stop."""
        self._update(heartbeat_at=Now())
        return TrainingRun.objects.values_list("stop_requested", flat=True).get(pk=self.run.pk)

    def progress(self, events: list[dict[str, Any]], offset: int, status: dict[str, Any]) -> None:
        """Store new events, how far the file was read and the status in one transaction, then tell everybody."""
        rows = [event_row(self.run, event) for event in events]
        columns = {"heartbeat_at": Now(), "events_offset": offset} | status_columns(status)
        if status and self.run.state == State.STARTING:
            columns["state"] = State.RUNNING
        if rows:
            columns["last_seq"] = max(self.run.last_seq, rows[-1].seq)
        with transaction.atomic():
            self._update(**columns)
            # A resumed engine writes events again; where one differs (a warning not repeated), the file is right.
            RunEvent.objects.bulk_create(
                rows,
                batch_size=1000,
                update_conflicts=True,
                unique_fields=["run", "seq"],
                update_fields=["type", "step", "time", "payload"],
            )
            notify(self.run.topic)
            notify("runs")
        self._remember(columns)

    def crashed(self, attempts: int) -> None:
        """The engine died by a signal and will be started again; its file is then read from the start."""
        self._transition(state=State.STARTING, attempts=attempts, events_offset=0)

    def back_to_queue(self) -> None:
        """The worker ends, the run goes on elsewhere or later."""
        with transaction.atomic():
            self._transition(state=State.QUEUED, worker="", eta_seconds=None)
            queue.enqueue(self.run)

    def stopped(self) -> None:
        self._transition(state=State.STOPPED, worker="", eta_seconds=None, finished_at=Now())

    def failed(self, error: str) -> None:
        self._transition(state=State.FAILED, worker="", eta_seconds=None, finished_at=Now(), error=error)

    def succeeded(self, artifact: ModelArtifact) -> None:
        """Register the artifact, hand over what it says about items, and end the run, together."""
        with transaction.atomic():
            self._transition(state=State.SUCCEEDED, worker="", eta_seconds=0, finished_at=Now(), error="")
            artifact.save()
            hand_over(self.run)
            emit("artifact.ready", {"artifact": artifact.public_id, "kind": artifact.kind, "run": self.run.public_id})

    def _transition(self, **columns: Any) -> None:
        with transaction.atomic():
            self._update(**columns)
            notify(self.run.topic)
            notify("runs")
            if columns["state"] in (State.SUCCEEDED, State.FAILED, State.STOPPED):
                emit("run.finished", {"run": self.run.public_id, "kind": self.run.kind, "state": columns["state"]})
        self._remember(columns)

    def _update(self, **columns: Any) -> None:
        mine = TrainingRun.objects.filter(pk=self.run.pk, worker=self.worker)
        if not mine.update(**columns):
            raise LostClaim

    def _remember(self, columns: dict[str, Any]) -> None:
        for name, value in columns.items():
            if not isinstance(value, Now):
                setattr(self.run, name, value)


def event_row(run: TrainingRun, event: dict[str, Any]) -> RunEvent:
    payload = {key: value for key, value in event.items() if key not in ("seq", "type", "step", "time")}
    return RunEvent(
        run=run,
        seq=event["seq"],
        type=event["type"],
        step=event["step"],
        time=datetime.fromtimestamp(event["time"], UTC),
        payload=storable(payload),
    )


def storable(value: Any) -> Any:
    """`value` as PostgreSQL's JSON takes it: models write NUL characters and half surrogate pairs, it refuses them."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value


def status_columns(status: dict[str, Any]) -> dict[str, Any]:
    """Columns of the run that `status.json` fills. Nothing of it before the engine has written one."""
    if not status:
        return {}
    return {
        "stage": str(status.get("stage") or "")[:60],
        "step": int(status.get("step") or 0),
        "total_steps": min(int(status.get("total_steps") or 0), MOST),
        "eta_seconds": status.get("eta_seconds"),
        "device": str(status.get("device") or "")[:60],
    }


def artifact_of(run: TrainingRun) -> ModelArtifact:
    """The row of a finished run's artifact, with the way back to its labels. Raises OSError or ValueError."""
    folder = run.rundir.artifact
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return ModelArtifact(
        kind=ModelArtifact.Kind(card["kind"]),
        name=run.name,
        base_model=run.config["base"],
        path=str(folder),
        format=card["format"],
        parent=run.base,
        reward=run.reward,
        run=run,
        snapshot=run.snapshot,
        sha256=folder_digest(folder),
        metrics=storable(card["metrics"]),
        created_by=run.owner,
    )


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and the hashes of the files in a folder."""
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())

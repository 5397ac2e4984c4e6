"""What the engine tells the outside: `events.jsonl`, one complete line per event.

The file and the checkpoints are one history. A checkpoint stores the sequence number and the byte offset it was
taken at; resuming cuts the file back to them and writes the same lines again, so a reader that goes by sequence
number sees neither a gap nor a repetition.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from .rundir import EVENT_TYPES


class EventLog:
    """Appends events to `path` behind event `seq`, which ends at byte `offset`; what the file held after it is cut."""

    def __init__(self, path: Path, seq: int = 0, offset: int = 0) -> None:
        self._file = path.open("ab", buffering=0)
        offset = min(offset, self.offset)
        # What a reader may already have: warnings about the restart itself wait until these have been written again.
        self._replay_until = seq + _complete_lines(path, offset)
        self._late_warnings: list[dict[str, Any]] = []
        self._file.truncate(offset)
        self.seq = seq
        self.muted = False  # while a resumed run builds its models again: those events are in the file

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._file.fileno()).st_size

    def emit(self, type: str, step: int, **payload: Any) -> None:
        """Write one event: metrics (metrics=), sample (prompt=, completion=, score= ...), stage, warning (message=)."""
        if type not in EVENT_TYPES:
            raise ValueError(f"unknown event type {type!r}")
        if self.muted:
            return
        self._write({"type": type, "step": step, **payload})
        if self.seq >= self._replay_until:
            self._flush_late_warnings()

    def warn_about_restart(self, step: int, message: str) -> None:
        """Warn of something an undisturbed run does not have, without shifting the numbers of the repeated events."""
        self._late_warnings.append({"type": "warning", "step": step, "message": message})

    def sync(self) -> None:
        """Bring what was written to the disk, before a checkpoint refers to it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._flush_late_warnings()
        self._file.close()

    def _flush_late_warnings(self) -> None:
        while self._late_warnings:
            self._write(self._late_warnings.pop(0))

    def _write(self, event: dict[str, Any]) -> None:
        self.seq += 1
        line = json.dumps(
            {"seq": self.seq, "time": round(time.time(), 3), **event}, ensure_ascii=False, allow_nan=False
        )
        # One write call of a whole line: a kill leaves the line or nothing, apart from a crash of the machine.
        self._file.write(line.encode() + b"\n")
        self._file.flush()


class NoLog(EventLog):
    """In the place of the log in processes that compute along and do not write."""

    offset = 0

    def __init__(self) -> None:
        self.seq, self.muted = 0, False

    def emit(self, type: str, step: int, **payload: Any) -> None: ...

    def warn_about_restart(self, step: int, message: str) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


def _complete_lines(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read().count(b"\n")

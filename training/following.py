"""Read what an engine writes while it writes it: `events.jsonl`, `status.json`, `log.txt`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from training.engine.rundir import RunDir, read_events


class EventReader:
    """Complete events behind an offset, robust against an engine that resumes and cuts the file back.

    After a cut the file may be shorter than the offset, or already longer again with other bytes. So the event found
    at the offset must be the one that follows the last; if it is not, everything is read from the start.
    """

    def __init__(self, path: Path, offset: int, last_seq: int) -> None:
        self.path, self.offset, self.last_seq = path, offset, last_seq

    def rewind(self) -> None:
        self.offset = self.last_seq = 0

    def has_news(self) -> bool:
        try:
            return self.path.stat().st_size != self.offset
        except FileNotFoundError:
            return False

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """New events and the offset behind them; nothing is marked as read. Raises ValueError for a damaged file."""
        if self.offset:
            with suppress(ValueError):
                events, offset = read_events(self.path, self.offset)
                shrunk = not events and self.path.exists() and self.path.stat().st_size < self.offset
                if not shrunk and (not events or events[0]["seq"] == self.last_seq + 1):
                    return events, offset
            self.rewind()
        return read_events(self.path, 0)

    def advance(self, events: list[dict[str, Any]], offset: int) -> None:
        """What `read` returned is stored."""
        self.offset = offset
        if events:
            self.last_seq = events[-1]["seq"]


class StatusReader:
    """`status.json`, and whether it was replaced since it was last stored."""

    def __init__(self, rundir: RunDir) -> None:
        self._rundir = rundir
        self._seen = self._read = 0
        self._ignored = 0

    def forget(self) -> None:
        """A new engine starts: what lies there was written by the one before."""
        self._ignored = self._seen = self._stamp()

    def has_news(self) -> bool:
        return self._stamp() not in (self._seen, self._ignored)

    def read(self) -> dict[str, Any]:
        """The present status; empty when there is none from this engine."""
        self._read = self._stamp()
        if self._read == self._ignored:
            return {}
        with suppress(ValueError):
            return self._rundir.read_status()
        return {}

    def seen(self) -> None:
        """What `read` returned is stored."""
        self._seen = self._read

    def _stamp(self) -> int:
        """A number that is new for every new file; 0 for none. The inode tells two replacements in one tick apart."""
        try:
            stat = self._rundir.status.stat()
        except FileNotFoundError:
            return 0
        return hash((stat.st_mtime_ns, stat.st_ino)) or 1


def log_tail(rundir: RunDir, size: int = 8000) -> str:
    """The end of the engine's log, for a person who wants to know why it died."""
    try:
        with rundir.log.open("rb") as file:
            file.seek(max(rundir.log.stat().st_size - size, 0))
            return file.read().decode("utf-8", "replace").replace("\x00", "\ufffd")
    except FileNotFoundError:
        return ""


def last_line(rundir: RunDir) -> str:
    """The last thing an engine said that ended without a reason in its status."""
    lines = log_tail(rundir).strip().splitlines()
    return (
        f"The engine ended without a reason. Its last words: {lines[-1][:500]}" if lines else "The engine said nothing."
    )

"""The run directory: the whole contract between Django and the engine (docs/design.md, "A run").

Standard library only, imported by both sides. Files that change are replaced atomically; `events.jsonl` only grows,
one complete line per event, and a torn last line (after a kill) is cut off before the next event is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVALUATION = "evaluation.json"
"""In the artifact of a reward model: `rewardmodel.report.held_out_report`."""
CANDIDATES = "candidates.jsonl"  # items to judge in `data/`, what was found about them in `artifact/`
EVENT_TYPES = ("metrics", "sample", "stage", "warning")
SUCCEEDED, FAILED, STOPPED, LOST = 0, 1, 3, 4
"""Exit codes of the engine: done; failed with a sentence in `status.json`; stopped, resumable; of several processes,
one that lost another. Whatever is not among the first three is a crash."""


def write_atomic(path: Path, text: str) -> None:
    """Replace `path` so that a reader, or a crash, sees the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class RunDir:
    """Paths of one run directory and the small JSON files in it."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def manifest(self) -> Path:
        return self.data / "manifest.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def control(self) -> Path:
        return self.path / "control.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def artifact(self) -> Path:
        return self.path / "artifact"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def create(self) -> None:
        """Make the folders, readable by the owner only."""
        for folder in (self.path, self.data, self.checkpoints):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write_status(self, status: dict[str, Any]) -> None:
        """Keys: state (running|succeeded|failed|stopped), stage, step, total_steps, eta_seconds, device, error."""
        write_atomic(self.status, json.dumps(status))

    def read_status(self) -> dict[str, Any]:
        return _read_json(self.status)

    def write_control(self, **wishes: bool) -> None:
        """`stop`: finish the step, save a checkpoint, exit. `save`: save a checkpoint now and go on."""
        write_atomic(self.control, json.dumps(wishes))

    def read_control(self) -> dict[str, Any]:
        return _read_json(self.control)

    def write_manifest(self, rows: dict[str, int]) -> None:
        """Record row counts and SHA-256 of every file of `data/` (name to count)."""
        files = {name: {"rows": count, "sha256": sha256_of(self.data / name)} for name, count in sorted(rows.items())}
        write_atomic(self.manifest, json.dumps({"files": files}, indent=1))

    def verify_manifest(self) -> dict[str, Any]:
        """The manifest, after checking every hash. Raises ValueError naming the file that changed."""
        manifest = _read_json(self.manifest)
        for name, facts in manifest.get("files", {}).items():
            if sha256_of(self.data / name) != facts["sha256"]:
                raise ValueError(f"data/{name} is not the file that was frozen for this run.")
        return manifest


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return value if isinstance(value, dict) else {}


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object per line (sorted keys: same rows, same bytes); return the count."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def read_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Complete new events after byte `offset`, and the offset behind the last of them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            chunk = file.read()
    except FileNotFoundError:
        return [], offset
    end = chunk.rfind(b"\n") + 1
    return [json.loads(line) for line in chunk[:end].splitlines() if line.strip()], offset + end

"""Checkpoints: everything a run needs to go on bit for bit, written so that a kill at any moment leaves a usable one.

`checkpoints/step_000100/` holds `state.pt` and, written last, `complete.json` with the step, the position in the
event log and the SHA-256 of the state. The folder is filled under another name and renamed when it is whole.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .rundir import RunDir, sha256_of

STATE, MARKER = "state.pt", "complete.json"
FORMAT = 2  # raise it when what trainers save changes


class TornCheckpoint(Exception):
    """The folder does not hold a whole checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: `state` is what the trainer gave, `rng` goes to `restore_rng`."""

    step: int
    seq: int
    offset: int
    state: dict[str, Any]
    rng: dict[str, Any]


def save(rundir: RunDir, step: int, state: dict[str, Any], *, seq: int, offset: int, keep: int) -> Path:
    """Write the checkpoint of `step` and delete all but the newest `keep`. Tensors and plain values only."""
    target = rundir.checkpoints / f"step_{step:06d}"
    unfinished = rundir.checkpoints / f".{target.name}.tmp"
    for leftover in (unfinished, target):  # a target of the same step is torn, or the run would be past it
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _write_synced(unfinished / STATE, lambda path: torch.save({"state": state, "rng": capture_rng()}, path))
    facts = {"format": FORMAT, "step": step, "seq": seq, "offset": offset, "sha256": sha256_of(unfinished / STATE)}
    _write_synced(unfinished / MARKER, lambda path: path.write_text(json.dumps(facts)))
    unfinished.rename(target)
    _sync_folder(rundir.checkpoints)
    for old in _folders(rundir)[keep:]:
        shutil.rmtree(old)
    return target


def load_newest(rundir: RunDir) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, if any, and a sentence about each newer one that had to be skipped."""
    warnings: list[str] = []
    for folder in _folders(rundir):
        try:
            return _load(folder), warnings
        except TornCheckpoint as error:
            warnings.append(f"Checkpoint {folder.name} cannot be used: {error}.")
    return None, warnings


def capture_rng() -> dict[str, Any]:
    """States of all random number generators that this process may draw from without naming one."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    return {"python": random.getstate(), "torch": torch.get_rng_state(), "cuda": cuda}


def restore_rng(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _folders(rundir: RunDir) -> list[Path]:
    return sorted(rundir.checkpoints.glob("step_*"), key=lambda folder: int(folder.name[5:]), reverse=True)


def _load(folder: Path) -> Checkpoint:
    try:
        facts = json.loads((folder / MARKER).read_text())
        if sha256_of(folder / STATE) != facts["sha256"]:
            raise TornCheckpoint("its state does not match its hash")
        if facts.get("format") != FORMAT:
            raise TornCheckpoint("another version of Prefloop wrote it")
    except (OSError, ValueError, KeyError) as error:
        raise TornCheckpoint("files are missing") from error
    content = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    return Checkpoint(facts["step"], facts["seq"], facts["offset"], content["state"], content["rng"])


def _write_synced(path: Path, write: Any) -> None:
    write(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

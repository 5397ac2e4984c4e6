"""What a run leaves behind in `artifact/`: weights as safetensors, `card.json` for programs, `README.md` for people.

The same run gives the same bytes: no times, no unordered sets. The folder is filled under another name and renamed.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .rundir import write_atomic
from .session import EngineError, Session

CARD, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "card.json", "adapter_config.json", "adapter_model.safetensors"


def write(
    session: Session,
    kind: str,
    format: str,
    metrics: dict[str, float],
    fill: Callable[[Path], None],
    base_bytes: int = 0,
) -> None:
    """Make the artifact of a finished run. `fill` writes the weights or rows into the folder it is given.

    kind: policy | reward | completions; format: adapter | model. `base_bytes` is the size of an adapter's base.
    Of several processes, one writes.
    """
    if not session.world.leads:
        return
    folder = session.rundir.path / "artifact.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fill(folder)
    card = {
        "kind": kind,
        "format": format,
        "base": session.config.base,
        "run": session.kind,
        "config": dataclasses.asdict(session.config),
        "data": session.manifest,
        "metrics": {name: float(f"{value:.6g}") for name, value in sorted(metrics.items())},
    }
    if format == "adapter":
        adapter_bytes = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        card["size"] = {"bytes": adapter_bytes, "base_bytes": base_bytes}
    write_json(folder / CARD, card)
    write_atomic(folder / "README.md", _readme(card))
    shutil.rmtree(session.rundir.artifact, ignore_errors=True)
    folder.rename(session.rundir.artifact)


def read_card(folder: Path) -> dict[str, Any]:
    """`card.json` of an artifact; empty for a folder without one (an adapter made elsewhere)."""
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return card


def write_json(path: Path, value: Any) -> None:
    """Readable JSON, the same bytes for the same value."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file, in the order of the names."""
    save_file({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}, path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Raises EngineError when the file is missing or not safetensors."""
    try:
        return load_file(path)
    except Exception as error:  # the library raises its own type for a damaged file and OSError for a missing one
        raise EngineError(f"The weights {path} cannot be read: {error}") from error


def _readme(card: dict[str, Any]) -> str:
    files = card["data"].get("files", {})
    lines = [
        f"# {card['kind'].capitalize()} made by a {card['run']} run",
        "",
        f"Base model: `{card['base']}`. Format: {card['format']}.",
        "",
        "| metric | final value |",
        "|---|---|",
        *(f"| {name} | {value:g} |" for name, value in card["metrics"].items()),
        "",
        "| data file | rows | SHA-256 |",
        "|---|---|---|",
        *(f"| {name} | {facts['rows']} | `{facts['sha256']}` |" for name, facts in sorted(files.items())),
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in sorted(card["config"].items())),
    ]
    return "\n".join(lines) + "\n"

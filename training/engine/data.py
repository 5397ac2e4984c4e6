"""Rows of the frozen data files, and which of them a step sees.

A step's rows and a step's random numbers depend only on the seed and the step's number. There is no cursor and no
sampler state that a checkpoint could miss.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from .rundir import RunDir, read_jsonl
from .session import EngineError


def read_rows(rundir: RunDir, name: str) -> list[dict[str, Any]]:
    """All rows of `data/<name>`; raises EngineError when there are none."""
    path = rundir.data / name
    rows = list(read_jsonl(path)) if path.exists() else []
    if not rows:
        raise EngineError(f"There is no data to work on: data/{name} is missing or empty.")
    return rows


def indices_of_step(count: int, size: int, step: int, seed: int) -> list[int]:
    """The `size` of `count` rows that step number `step` (from 1) takes: shuffled passes, one behind the other."""
    first = (step - 1) * size
    chosen = []
    passes = range(first // count, (first + size - 1) // count + 1)
    for epoch in passes:
        order = torch.randperm(count, generator=generator_for(seed, "order", epoch)).tolist()
        chosen += order[max(0, first - epoch * count) : first + size - epoch * count]
    return chosen


def generator_for(seed: int, purpose: str, number: int) -> torch.Generator:
    """Random numbers of their own for every purpose and step of a run, on the CPU."""
    mixed = hash_of(seed, purpose, number)
    return torch.Generator().manual_seed(mixed)


def hash_of(*parts: int | str) -> int:
    """A 63-bit number that differs for different parts, the same in every process."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def split_by_prompt(rows: list[dict[str, Any]], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices for training and for evaluation; rows that differ only in the last message stay on one side."""
    keys = [json.dumps(row["messages"][:-1], sort_keys=True) for row in rows]
    distinct = sorted(set(keys), key=lambda key: hash_of(seed, "split", key))
    held_out = set(distinct[: int(len(distinct) * fraction)])
    train = [i for i, key in enumerate(keys) if key not in held_out]
    return train, [i for i, key in enumerate(keys) if key in held_out]

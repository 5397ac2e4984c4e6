"""Rollout engines: from prompts to sampled answers, behind one small protocol.

The trainer recomputes log-probs by its own path, so an engine's numerics can cost efficiency but not correctness;
`self_check` measures the gap between the two before a run relies on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Sampling:
    """How to draw. No top-p and no top-k: PPO's ratio needs the whole distribution."""

    max_new_tokens: int
    temperature: float
    end_ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """A sampled answer, its end token included when `finished`; `logprobs` as the sampler saw them, one per token."""

    ids: list[int]
    finished: bool
    logprobs: list[float]


class RolloutEngine(Protocol):
    """Samples one answer per prompt from whichever role is in use."""

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
    ) -> list[Completion]: ...

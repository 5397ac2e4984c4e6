"""What a person sees of a policy during PPO: its answers beside the reference's on the same prompts, both scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .config import PpoConfig
from .data import generator_for
from .session import Session

MOST_EVALUATED = 64  # held-out prompts per evaluation; the first `samples` of them are shown


class Answers(NamedTuple):
    """Texts and scores, one per prompt."""

    texts: list[str]
    scores: list[float]

    @property
    def mean_score(self) -> float:
        return sum(self.scores) / len(self.scores)


class Showcase:
    """Answers to fixed prompts with fixed random numbers, so that a change in the text is a change of the policy.

    `prompts` are pairs of messages and ids; `answer` samples and scores them under a role.
    """

    def __init__(
        self,
        prompts: list[tuple[Any, list[int]]],
        answer: Callable[[list[list[int]], torch.Generator, str], Answers],
        config: PpoConfig,
        *,
        held_out: bool,
    ) -> None:
        self.messages = [messages for messages, _ in prompts[:MOST_EVALUATED]]
        self._ids = [ids for _, ids in prompts[:MOST_EVALUATED]]
        self._answer, self._config, self._held_out = answer, config, held_out
        self._reference = self._answers("reference")
        self.metrics: dict[str, float] = {}

    def show(self, session: Session, step: int) -> None:
        """Sample events and, on held-out prompts, mean scores as metrics."""
        policy, reference = self._answers("policy"), self._reference
        if self._held_out:
            self.metrics = {"eval/scores": policy.mean_score, "eval/reference_scores": reference.mean_score}
            session.metrics(step, self.metrics)
        for i, messages in enumerate(self.messages[: self._config.samples]):
            session.events.emit(
                "sample",
                step,
                prompt=messages,
                completion=policy.texts[i],
                score=round(policy.scores[i], 4),
                reference=reference.texts[i],
                reference_score=round(reference.scores[i], 4),
            )

    def _answers(self, role: str) -> Answers:
        return self._answer(self._ids, generator_for(self._config.seed, "showcase", 0), role)

"""What a person sees of a policy during PPO: its answers beside the reference's on the same prompts, both scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from .config import PpoConfig
from .data import generator_for
from .episodes import Episodes
from .session import Session
from .tokens import decode

if TYPE_CHECKING:
    from .ppo import Trainer

MOST_EVALUATED = 64  # held-out prompts per evaluation; the first `samples` of them are shown


class Showcase:
    """Answers to fixed prompts with fixed random numbers, so that a change in the text is a change of the policy."""

    def __init__(
        self, trainer: Trainer, rows: list[dict[str, Any]], prompts: list[list[int]], config: PpoConfig
    ) -> None:
        self.trainer, self.config = trainer, config
        self.rows, self.prompts = rows[:MOST_EVALUATED], prompts[:MOST_EVALUATED]
        self.metrics: dict[str, float] = {}
        self._reference = self._answer("reference")

    def show(self, session: Session, step: int) -> None:
        """Sample events, and the mean scores as `eval/*` metrics."""
        episodes, scores = self._answer("policy")
        reference, reference_scores = self._reference
        self.metrics = {"eval/score": float(scores.mean()), "eval/reference_score": float(reference_scores.mean())}
        session.metrics(step, self.metrics)
        for i, row in enumerate(self.rows[: self.config.samples]):
            session.events.emit(
                "sample",
                step,
                prompt=row["messages"],
                completion=decode(self.trainer.roles, episodes.replies[i]),
                score=round(float(scores[i]), 4),
                reference=decode(self.trainer.roles, reference.replies[i]),
                reference_score=round(float(reference_scores[i]), 4),
            )

    def _answer(self, role: str) -> tuple[Episodes, Tensor]:
        episodes = self.trainer.sample(self.prompts, generator_for(self.config.seed, "showcase", 0), role)
        return episodes, self.trainer.reward.score(episodes, self.config.micro_batch_size)

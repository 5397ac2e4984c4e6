"""From a reward source's scores to what an answer is paid: normalised, clipped, less for length and a missing end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .config import PpoConfig
from .episodes import Episodes


class ScoreShaping:
    """Keeps the mean and deviation of all scores so far (Welford), where they are asked for."""

    def __init__(self, config: PpoConfig) -> None:
        self.config = config
        self.count, self.mean, self.squares = 0.0, 0.0, 0.0

    def __call__(self, scores: Tensor, episodes: Episodes) -> Tensor:
        """(episodes,) -> (episodes,)."""
        c = self.config
        if c.normalize_scores:
            scores = self._normalized(scores)
        scores = scores.clamp(-c.score_clip, c.score_clip)
        if c.length_penalty:
            scores = scores - c.length_penalty * episodes.reply_lengths.to(scores)
        if c.missing_end == "replace":
            scores = torch.where(episodes.finished, scores, c.missing_end_score)
        elif c.missing_end == "add":
            scores = torch.where(episodes.finished, scores, scores + c.missing_end_score)
        return scores

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state(self, state: dict[str, Any]) -> None:
        self.count, self.mean, self.squares = state["count"], state["mean"], state["squares"]

    def _normalized(self, scores: Tensor) -> Tensor:
        for score in scores.tolist():
            self.count += 1
            step = score - self.mean
            self.mean += step / self.count
            self.squares += step * (score - self.mean)
        deviation = (self.squares / self.count) ** 0.5
        normalized: Tensor = (scores - self.mean) / (deviation + 1e-8)
        return normalized

"""Where scores come from: today, a reward adapter and its head on the policy's own base."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from .artifacts import read_card, read_tensors
from .episodes import Episodes
from .models import RoleModel, adapter_folder
from .session import EngineError

HEAD = "head.safetensors"


class RewardSource(Protocol):
    """Scores finished episodes, higher is better."""

    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        """One score per episode: (episodes,)."""


class AdapterReward:
    """The reward model as one more role: score = (head(h) - mean) / sd, h the state at the last token."""

    def __init__(self, roles: RoleModel, folder: str) -> None:
        path = adapter_folder(folder)
        kind = read_card(path).get("kind", "reward")
        if kind != "reward" or not (path / HEAD).is_file():
            raise EngineError(f"{folder} is not a reward model: it is a {kind} artifact or has no {HEAD}.")
        self.roles = roles
        roles.add_saved("reward", path)
        self.head = score_head(read_tensors(path / HEAD), roles)

    @torch.no_grad()
    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        self.roles.use("reward")
        scores = torch.zeros(len(episodes), device=self.roles.device)
        for micro in episodes.micro_batches(micro_batch_size):
            ends = self.roles.hidden(micro.ids).flatten(0, 1)[micro.ends]
            scores[micro.rows] = self.head(ends.float())[:, 0]
        return scores


def score_head(tensors: dict[str, Tensor], roles: RoleModel) -> nn.Linear:
    """The stored head with its normalisation folded in: weight (1, hidden), bias (1,), mean (), sd ()."""
    weight, bias = tensors["weight"].float(), tensors["bias"].float()
    if weight.shape != (1, roles.hidden_size):
        raise EngineError(f"The reward head reads {weight.shape[1]} features and the base has {roles.hidden_size}.")
    mean, sd = tensors["mean"].float(), tensors["sd"].float()
    head = nn.Linear(roles.hidden_size, 1, device=roles.device)
    with torch.no_grad():
        head.weight.copy_(weight / sd)
        head.bias.copy_((bias - mean) / sd)
    return head.requires_grad_(False)

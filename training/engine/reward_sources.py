"""Where scores come from: today, a reward adapter and its head on the policy's own base."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from rewardmodel.ensemble import agree_on, member_folders, read_combination
from rewardmodel.model import TRAJECTORY, RewardModelError, load_head
from rewardmodel.pessimism import PessimisticHead, UncertainScores

from .artifacts import read_card
from .config import CONVERSATIONS
from .episodes import Episodes
from .models import RoleModel, adapter_folder
from .session import EngineError


class RewardSource(Protocol):
    """Scores finished episodes, higher is better."""

    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        """One score per episode: (episodes,)."""


class AdapterReward:
    """The reward model as one more role: score = (head(h) - mean) / sd, h the state at the last token.

    Of an ensemble, every member is a role. Scores are combined, and made as cautious, as `ensemble.json` says.
    """

    def __init__(self, roles: RoleModel, folder: str, base: str) -> None:
        path = adapter_folder(folder)
        trained_on = read_card(path).get("base", base)
        if Path(trained_on).resolve() != Path(base).resolve():
            raise EngineError(
                f"The reward model was trained on {trained_on}, the policy's base is {base}: take one base."
            )
        if (path / TRAJECTORY).is_file():
            raise EngineError(
                "The reward model rewards single turns, read alone: take one that was trained with rewards_of "
                f"{CONVERSATIONS}."
            )
        try:
            self.combination = read_combination(path)
            folders = member_folders(path, self.combination.members)
            heads = [load_head(part).to(roles.device).requires_grad_(False) for part in folders]
            single = self.combination.pessimism and len(heads) == 1
            self.doubtful = PessimisticHead.load(path, roles.device) if single else None
        except RewardModelError as error:
            raise EngineError(str(error)) from error
        self.head, self.roles = heads[0], roles
        self.members = dict(zip(["reward", *(part.name for part in folders[1:])], heads, strict=True))
        for role, part in zip(self.members, folders, strict=True):
            roles.add_saved(role, part)

    @torch.no_grad()
    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        scores = torch.zeros(len(self.members), len(episodes), device=self.roles.device)
        doubts = torch.zeros(len(episodes), device=self.roles.device)
        for number, (role, head) in enumerate(self.members.items()):
            self.roles.use(role)
            for micro in episodes.micro_batches(micro_batch_size):
                states = self.roles.hidden(micro.ids, **micro.layout).flatten(0, 1)[micro.ends]
                scores[number, micro.rows] = head(states)
                if self.doubtful:
                    doubts[micro.rows] = self.doubtful.score(states).uncertainty
        return self.combination(UncertainScores(scores[0], doubts) if self.doubtful else agree_on(scores))

    def linear_head(self) -> nn.Linear:
        """A trainable copy of the head with the normalisation folded in: what a value function starts from."""
        linear = nn.Linear(self.roles.hidden_size, 1, device=self.roles.device)
        with torch.no_grad():
            linear.weight.copy_(self.head.weight / self.head.sd)
            linear.bias.copy_((self.head.bias - self.head.mean) / self.head.sd)
        return linear

"""From scores to advantages: token rewards, generalised advantage estimation, whitening, the KL controller.

Pure functions on (episodes, time) tensors. `mask` is True on the tokens that the policy chose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def kl_k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """log(pi / ref) per token: the only estimator that may stand inside the reward.

    The score-function gradient of k2 or k3 there is not the gradient of the KL divergence; see the bandit test.
    """
    return logprobs - reference


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's low-variance estimate, never negative: for display only."""
    log_ratio = reference - logprobs
    return log_ratio.exp() - 1 - log_ratio


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """-beta * KL on every token, and the score (episodes,) on the last one."""
    rewards = torch.where(mask, -kl_coef * kl, 0.0)
    rows = torch.arange(len(mask), device=mask.device)
    rewards[rows, last_valid(mask)] += scores
    return rewards


def last_valid(mask: Tensor) -> Tensor:
    """Index of the last True of each row."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, positions, -1).amax(1)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns (Schulman 2016). Tokens outside the mask are passed over, wherever they stand."""
    advantage = rewards.new_zeros(len(rewards))
    next_value = rewards.new_zeros(len(rewards))
    columns = []
    for t in range(rewards.shape[1] - 1, -1, -1):
        valid = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = torch.where(valid, delta + gamma * lam * advantage, advantage)
        next_value = torch.where(valid, values[:, t], next_value)
        columns.append(torch.where(valid, advantage, 0.0))
    advantages = torch.stack(columns[::-1], dim=1)
    return advantages, torch.where(mask, advantages + values, 0.0)


def whiten(values: Tensor, mask: Tensor, *, shift: bool = True) -> Tensor:
    """Variance 1 and, with `shift`, mean 0 over the masked tokens of the whole batch; 0 elsewhere."""
    valid = values[mask]
    scale = torch.rsqrt(valid.var(correction=0) + 1e-8)
    return torch.where(mask, (values - valid.mean() if shift else values) * scale, 0.0)


def group_advantages(returns: Tensor, size: int, method: str) -> Tensor:
    """Advantages (episodes,) of whole answers with these returns; `size` answers to a prompt stand together.

    rloo: less the mean of the others (Kool 2019, Ahmadian 2024). grpo: less the mean of all, in deviations (Shao 2024).
    best: 1 for the best and 0 for the others, so that it is imitated (rejection sampling, RAFT; Dong 2023).

    The KL penalty is part of the returns in all of them, so beta means the same and the optimum is the same; GRPO as
    published has it in the loss.
    """
    groups = returns.view(-1, size)
    if method == "best":
        return torch.zeros_like(groups).scatter(1, groups.argmax(1, keepdim=True), 1.0).view(-1)
    centred = groups - groups.mean(1, keepdim=True)
    scale = size / (size - 1) if method == "rloo" else 1 / (groups.std(1, keepdim=True) + 1e-4)
    return (centred * scale).view(-1)


@dataclass
class KlController:
    """beta, fixed or steered to a target KL of whole completions (Ziegler 2019)."""

    coef: float
    adaptive: bool
    target: float
    horizon: int

    def update(self, kl: float, episodes: int) -> None:
        """After a batch of `episodes` with mean sequence KL `kl`."""
        if self.adaptive:
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            self.coef *= 1 + error * episodes / self.horizon

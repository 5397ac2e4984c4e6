"""PPO's losses as sums over tokens; the caller divides by the mini-batch's token count, once.

Pure tensor functions. Sums, not means: then neither padding nor the size of a micro-batch changes a gradient.
All inputs are (tokens,), only tokens that count.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """`loss` carries the gradient; the others are sums over tokens for the metrics."""

    loss: Tensor
    ratio: Tensor
    approxkl: Tensor
    clipped: Tensor


class ValueLoss(NamedTuple):
    loss: Tensor
    clipped: Tensor


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float) -> PolicyLoss:
    """Clipped surrogate (Schulman 2017, eq. 7): -sum min(rho A, clip(rho, 1 - clip, 1 + clip) A)."""
    log_ratio = logprobs - old_logprobs
    ratio = log_ratio.exp()
    free = -advantages * ratio
    bounded = -advantages * ratio.clamp(1 - clip, 1 + clip)
    with torch.no_grad():
        approxkl = (ratio - 1 - log_ratio).sum()  # k3 of old against new: never negative, little noise
        clipped = (bounded > free).sum()
    return PolicyLoss(torch.maximum(free, bounded).sum(), ratio.detach().sum(), approxkl, clipped)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> ValueLoss:
    """Half the squared error, of the estimate or of its clipped change, whichever is worse."""
    bounded = old_values + (values - old_values).clamp(-clip, clip)
    free_error, bounded_error = (values - returns).square(), (bounded - returns).square()
    loss = 0.5 * torch.maximum(free_error, bounded_error).sum()
    return ValueLoss(loss, (bounded_error > free_error).sum().detach())

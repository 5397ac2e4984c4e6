"""Optimizers and learning-rate schedules; schedules are functions of the step, so they need no state."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """AdamW as the RLHF reproductions run it: epsilon 1e-5."""
    return torch.optim.AdamW(list(parameters), lr=learning_rate, eps=1e-5, weight_decay=weight_decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Of every group, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("factor", 1.0)  # LoRA+ has another for B


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Factor of step number `step` (from 1): rises over the first share `warmup`, then a cosine down to 0.1."""
    rising = max(1, round(total * warmup))
    if step <= rising:
        return step / rising
    progress = (step - rising) / max(1, total - rising)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


def linear_decay(step: int, total: int) -> float:
    """Factor of step number `step` (from 1): 1 at the first, 0.1 at the last."""
    return 1 - 0.9 * (step - 1) / max(1, total - 1)

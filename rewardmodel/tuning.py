"""AdamW for adapters: with what a variant of LoRA does around a step, and with its state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rewardmodel.adapters import adapter_tensors

STARTS, ENDS = 0.2, 0.3  # shares of the steps before ranks are taken away, and after


class RankBudget:
    """AdaLoRA's part of a step (Zhang et al. 2023), done by peft: the schedule, importance and masks of ranks."""

    def __init__(self, tuner: Any, adapter: str, total_steps: int) -> None:
        """`tuner` is peft's AdaLoraModel. Raises ValueError when there are too few steps to take ranks away."""
        if total_steps < 2:
            raise ValueError("adalora takes ranks away while it trains and needs 2 optimizer steps or more.")
        self._tuner, self._config, self._allocator = tuner, tuner.peft_config[adapter], tuner.rankallocator
        self._config.total_step = total_steps
        self._config.tinit, self._config.tfinal = int(STARTS * total_steps), int(ENDS * total_steps)
        tensors = adapter_tensors(tuner.model, adapter)
        self._grams = [(p, ".lora_A" in name) for name, p in tensors.items() if ".lora_E" not in name]
        self.taken = 0

    @property
    def is_settled(self) -> bool:
        """Are the ranks those of the end?"""
        return bool(self.taken >= self._config.total_step - self._config.tfinal)

    @torch.enable_grad()
    def regularise(self) -> None:
        """Add the gradient of the distance of P and Q from orthogonal matrices, as peft weighs it."""
        loss: Tensor = sum((_gram_distance(p, rows) for p, rows in self._grams), torch.zeros(()))
        torch.autograd.backward(self._config.orth_reg_weight / len(self._grams) * loss)

    def allocate(self) -> None:
        """After an optimizer step, while gradients are there."""
        self.taken += 1
        self._tuner.update_and_allocate(self.taken)

    def state_dict(self) -> dict[str, Any]:
        return {
            "taken": self.taken,
            "importance": dict(self._allocator.exp_avg_ipt),
            "uncertainty": dict(self._allocator.exp_avg_unc),
            "ranks": self._config.rank_pattern,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        allocator = self._allocator
        self.taken, self._config.rank_pattern = state["taken"], state["ranks"]
        device = self._grams[0][0].device
        importance, uncertainty = (
            {name: tensor.to(device) for name, tensor in state[key].items()} for key in ("importance", "uncertainty")
        )
        allocator.exp_avg_ipt, allocator.exp_avg_unc = importance, uncertainty
        allocator.ipt = dict(importance)  # made anew in each step; peft looks whether the names are there


class AdapterAdamW(torch.optim.AdamW):
    """AdamW that keeps the ranks of an AdaLoRA adapter within their budget."""

    def __init__(self, groups: Any, *, budget: RankBudget | None = None, **options: Any) -> None:
        self.budget = budget
        super().__init__(groups, fused=True, **options)

    def step(self, closure: Any = None) -> Any:
        """One step. What the budget needs of gradients, it takes before they are set to zero."""
        if self.budget:
            self.budget.regularise()
        result = super().step(closure)
        if self.budget:
            self.budget.allocate()
        return result

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = super().state_dict()
        return state | ({"budget": self.budget.state_dict()} if self.budget else {})

    def load_state_dict(self, state_dict: Any) -> None:
        state = dict(state_dict)
        budget = state.pop("budget", None)
        super().load_state_dict(state)
        if self.budget and budget:
            self.budget.load_state_dict(budget)


def _gram_distance(p: nn.Parameter, rows: bool) -> Tensor:
    gram = p @ p.T if rows else p.T @ p
    distance: Tensor = torch.linalg.matrix_norm(gram - torch.eye(len(gram), dtype=p.dtype, device=p.device))
    return distance

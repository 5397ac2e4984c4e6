"""DyLoRA (Valipour et al. 2023): in each step, only the first b ranks compute and learn, b drawn anew.

So the first ranks learn to do without the later ones, and after training every truncation can be used. The scale is
alpha / rank for every b, so that a truncation is the same adapter with less in it; by alpha / b, as in the paper, the
first rank would have to be both small (within the whole) and large (alone). Ranks up to b learn, not the b-th alone
(the paper's faster mode): here a step costs the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from peft.tuners.lora.layer import LoraVariant
from peft.utils.other import transpose
from torch import Tensor
from torch.nn import functional as F

from rewardmodel.config import AdapterConfig


class Truncation(LoraVariant):
    """Peft's hook for how a LoRA layer computes: with the first `rank` ranks, or with all. Shared by all layers."""

    def __init__(self, settings: AdapterConfig) -> None:
        self.settings = settings
        self.rank: int | None = None

    def drawn(self, seed: int, step: int) -> AbstractContextManager[None]:
        """A rank for this step. It depends on nothing but the seed and the step, so there is no state to save."""
        low, high = self.settings.smallest_rank, self.settings.rank
        return self.cut(random.Random(f"{seed}/dylora/{step}").randint(low, high))

    def usable_ranks(self) -> list[int]:
        """The smallest rank that is trained, twice that, and so on, and all."""
        ranks, rank = [], self.settings.smallest_rank
        while rank < self.settings.rank:
            ranks.append(rank)
            rank *= 2
        return [*ranks, self.settings.rank]

    @contextmanager
    def cut(self, rank: int) -> Iterator[None]:
        """Compute with the first ranks only."""
        self.rank = rank
        try:
            yield
        finally:
            self.rank = None

    def factors(self, layer: Any, adapter: str) -> tuple[Tensor, Tensor]:
        """A (rank, inputs) and B (outputs, rank) that compute now."""
        return layer.lora_A[adapter].weight[: self.rank], layer.lora_B[adapter].weight[:, : self.rank]

    def delta_weight(self, layer: Any, adapter: str) -> Tensor:
        """What is added to the layer's weight now."""
        a, b = self.factors(layer, adapter)
        delta: Tensor = transpose(b @ a, layer.fan_in_fan_out) * layer.scaling[adapter]
        return delta

    def forward(self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        a, b = self.factors(module, active_adapter)
        low = F.linear(module.lora_dropout[active_adapter](x), a)
        added: Tensor = F.linear(low, b) * module.scaling[active_adapter]
        return result + added


def make_truncatable(layers: Any, adapter: str, settings: AdapterConfig) -> Truncation:
    """Let these LoRA layers compute with part of their ranks, all with the same part."""
    truncation = Truncation(settings)
    for layer in layers:
        layer.lora_variant[adapter] = truncation
    return truncation


def truncate(tensors: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The first `rank` ranks of an adapter's tensors, by their names in a file."""
    return {name: tensor[:rank] if ".lora_A" in name else tensor[:, :rank] for name, tensor in tensors.items()}

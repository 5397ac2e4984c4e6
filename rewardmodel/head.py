"""The scalar head of a reward model, in float32: score = (w . h + b - mean) / sd."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from rewardmodel.bases import RewardModelError

# Facts about the model beside the head's tensors, as one JSON text: safetensors writes several keys in any order.
FACTS = "prefloop"
HEAD = "head.safetensors"


class RewardHead(nn.Module):
    """(rows, hidden) to (rows,), always in float32. `forward` is normalised, `raw` is what is trained."""

    mean: Tensor
    sd: Tensor

    def __init__(self, hidden: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        # Huang et al. 2024: this spread gives scores of order 1 at the start.
        self.weight = nn.Parameter(torch.randn(1, hidden, generator=generator) / math.sqrt(hidden + 1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("sd", torch.ones(()))

    def raw(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.float(), self.weight, self.bias)[..., 0]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.normalised(self.raw(hidden))

    def normalised(self, raw: Tensor) -> Tensor:
        """Scores of raw ones."""
        return (raw - self.mean) / self.sd


def load_head(folder: Path) -> RewardHead:
    """The head of a saved reward model, to put on a base that is loaded already (see `pool`)."""
    return read_head(folder)[0]


def read_head(folder: Path) -> tuple[RewardHead, dict[str, Any]]:
    """The head, and the facts that were saved beside it."""
    try:
        with safe_open(folder / HEAD, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
        head = RewardHead(tensors["weight"].shape[1])
        head.load_state_dict(tensors)
    except Exception as error:  # OSError for a missing file, the library's own type for a damaged one
        raise RewardModelError(f"{folder} holds no reward model: {HEAD} cannot be read ({error}).") from error
    return head, facts


def pool(hidden: Tensor, mask: Tensor, how: str = "last") -> Tensor:
    """One vector per row: of the `last` token, or the `mean` over tokens.

    hidden: (rows, time, hidden); mask: (rows, time), True where there is a token, padded on either side.
    """
    if how == "mean":
        weight = mask[..., None].float()  # a long sum in bfloat16 would lose the small terms
        return (hidden.float() * weight).sum(1) / weight.sum(1).clamp(min=1)
    last = (mask.long() * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """The same bytes for the same tensors."""
    ready = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    save_file(ready, path, metadata=metadata)

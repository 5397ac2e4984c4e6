"""What a reward is at least: reward - kappa * uncertainty (Zhu, Jordan and Jiao 2023).

A reward model is linear in its last hidden state, so what holds for linear rewards on features (`stats.pessimism`)
holds for its head, with hidden states for features. It costs one matrix product per score, and sees that an answer is
unlike all that was compared, as far as the trained states show it.

    model = fit.model
    careful = PessimisticHead.of(model, fit.train)
    careful.save(folder)                                                  # beside the model's own files
    scores = model.group_scores(groups, lambda h: careful.score(h).lower(3.0))

Left out: that the hidden states were trained on the same comparisons. The other source of uncertainty, how far the
members of an ensemble are apart, is in `ensemble`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rewardmodel.data import Encoded, Label
from rewardmodel.head import RewardHead, load_head, write_tensors
from rewardmodel.model import RewardModel, RewardModelError
from rewardmodel.stats.pairs import Tiers, preferences_of
from rewardmodel.stats.strengths import FALLBACK_PENALTY

UNCERTAINTY = "uncertainty.safetensors"
ITEMS_AT_ONCE = 256  # whose hidden states are in memory together


class UncertainScores(NamedTuple):
    """Scores and how far they may be off, both (rows,)."""

    reward: Tensor
    uncertainty: Tensor

    def lower(self, kappa: float) -> Tensor:
        """reward - kappa * uncertainty, (rows,)."""
        if not (math.isfinite(kappa) and kappa >= 0):
            raise ValueError(f"Pessimism is finite and not negative, not {kappa}.")
        return self.reward - kappa * self.uncertainty


class PessimisticHead(nn.Module):
    """A reward head that knows which directions of the hidden state the training comparisons determine.

    In units of the score, which is divided by the head's sd, uncertainty(h) = | root (h - reference) | / sd.
    """

    reference: Tensor
    root: Tensor

    def __init__(self, head: RewardHead, reference: Tensor, root: Tensor) -> None:
        """`reference` (hidden,) is the state whose score is certain; `root` (hidden, hidden) is such that root' root
        is the inverse of the sum over comparisons of d d' + penalty I. Both in double precision."""
        super().__init__()
        self.head = head
        self.register_buffer("reference", reference)
        self.register_buffer("root", root)

    @classmethod
    def fit(
        cls,
        head: RewardHead,
        items: Iterable[tuple[Tensor, Sequence[Label]]],
        *,
        reference: Tensor | None = None,
        penalty: float = FALLBACK_PENALTY,
    ) -> PessimisticHead:
        """From all training items, one after the other: the states (K, hidden) of its completions, and its rankings.

        `reference` (hidden,) is what scores are relative to; without it, the mean state of all completions, whose
        score is 0 when the head is normalised on them. `penalty` is explained at `stats.pessimism.fit`.
        """
        if not (math.isfinite(penalty) and penalty > 0):
            raise ValueError(f"A penalty is finite and above 0, not {penalty}.")
        # In double precision: the sum spans many magnitudes.
        precision = penalty * torch.eye(head.weight.shape[1], dtype=torch.float64, device=head.weight.device)
        total, count = torch.zeros_like(precision[0]), 0
        for states, labels in items:
            wide = states.detach().double()
            total += wide.sum(0)
            count += len(wide)
            for label in labels:
                differences = ranking_differences(wide, label.tiers, label.weight)
                precision += differences.T @ differences
        if count == 0:
            raise ValueError("There are no items to learn from what is certain.")
        identity = torch.eye(len(total), dtype=total.dtype, device=total.device)
        root = torch.linalg.solve_triangular(torch.linalg.cholesky(precision), identity, upper=False)
        return cls(head, total / count if reference is None else reference.detach().to(total), root)

    @classmethod
    @torch.no_grad()
    def of(cls, model: RewardModel, items: Sequence[Encoded], penalty: float = FALLBACK_PENALTY) -> PessimisticHead:
        """From the items that a model was trained and normalised on."""

        def states() -> Iterable[tuple[Tensor, Sequence[Label]]]:
            for start in range(0, len(items), ITEMS_AT_ONCE):
                part = items[start : start + ITEMS_AT_ONCE]
                read = model.group_scores([e.sequences for e in part], lambda hidden: hidden)
                yield from zip(read, [e.item.labels for e in part], strict=True)

        return cls.fit(model.head, states(), penalty=penalty)

    def score(self, states: Tensor) -> UncertainScores:
        """Normalised score and its uncertainty, each (rows,), of hidden states (rows, hidden)."""
        reward = self.head(states)
        away = (states.double() - self.reference) @ self.root.T
        return UncertainScores(reward, away.norm(dim=1).to(reward.dtype) / self.head.sd)

    def save(self, folder: Path) -> None:
        """Write `uncertainty.safetensors` beside the head that the model saves."""
        write_tensors(folder / UNCERTAINTY, {"reference": self.reference, "root": self.root})

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> PessimisticHead:
        """What was saved, with the head from the same folder. Raises RewardModelError."""
        head = load_head(folder)
        hidden = head.weight.shape[1]
        try:
            tensors = load_file(folder / UNCERTAINTY)
            reference, root = tensors["reference"], tensors["root"]
        except Exception as error:  # OSError for a missing file, the library's own type for a damaged one
            raise RewardModelError(f"{folder} knows no uncertainty: {UNCERTAINTY} cannot be read ({error}).") from error
        if reference.shape != (hidden,) or root.shape != (hidden, hidden):
            raise RewardModelError(f"The {UNCERTAINTY} in {folder} belongs to another head, not of {hidden} features.")
        return cls(head, reference, root).requires_grad_(False).to(device)


def ranking_differences(states: Tensor, tiers: Tiers, weight: float = 1.0) -> Tensor:
    """Differences (pairs, hidden) of all pairs in a ranking of the rows of `states` (K, hidden), times sqrt(weight).

    Each pair weighs `weight` / C(K, 2), as in Zhu's Sigma_D for rankings; a tie compares, too.
    """
    pairs = preferences_of(tiers)
    root = states.new_tensor([weight * pair.weight for pair in pairs]).sqrt()
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    return root[:, None] * (states[chosen] - states[rejected])

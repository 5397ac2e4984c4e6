"""How likely what people said is, given the scores: the settings of a fit applied to its items.

Beside the scores two things may be learned: how large a difference people notice (tie-aware losses), and how far each
person can be relied on. Reliability is learned as in Crowd-BT (Chen et al. 2013; see `stats.annotators`), with the
reward model in the place of free strengths: while training goes over the rankings, the gaps between scores are noted,
and at each evaluation everybody's reliability becomes the likeliest one under those of the last two stretches, with the
same weak prior. Whoever is no better than chance is not listened to.

The gaps are those of training: a model that remembers wrong labels is too kind to who gave them. So a fit ends with the
reliabilities of the evaluation that is kept, which is before that. In simulations (ten people, of whom three to six
guess, err, or mean the opposite; 1 to 3 answers to each of 250 pairs; 20 seeds) this brought 4 to 13 points of accuracy
on fresh pairs over believing everybody, as much as gaps of pairs that the model had not seen, and came nearer to the
true reliabilities than those. Where all erred alike in 30 % it made no certain difference. With random labels and a
model large enough to remember them, people rose above the prior after some epochs; in what is kept they were below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional as F

from rewardmodel.config import PAIRWISE, PLACKETT_LUCE, RAO_KUPPER, TIE_AWARE, FitConfig
from rewardmodel.data import Encoded, Label
from rewardmodel.losses import LossSum, davidson_loss, pairwise_split_loss, plackett_luce_loss, rao_kupper_loss
from rewardmodel.stats.annotators import MEANT, REVERSED
from rewardmodel.stats.pairs import preferences_of

SWEEPS = 100  # of expectation-maximisation, for one number


class Likelihood(nn.Module):
    """The loss of rankings under scores, with what it learns beside them."""

    def __init__(self, config: FitConfig | None = None) -> None:
        super().__init__()
        self.config = config or FitConfig()
        if self.config.loss in TIE_AWARE:
            self.log_threshold = nn.Parameter(torch.tensor(0.0))
        self.reliability: dict[str, float] = {}
        # By person, since the last evaluation and in the stretch before it: [gap, weight] of each pair.
        self._noted: dict[str, list[list[float]]] = {}
        self._before: dict[str, list[list[float]]] = {}

    @property
    def threshold(self) -> Tensor:
        """The smallest difference that people notice, in logits of the raw score."""
        return F.softplus(self.log_threshold)

    def loss(self, scores: Tensor, items: Sequence[Encoded]) -> LossSum:
        """Of all rankings of `items`; scores: (items, most completions), columns beyond an item's are not read."""
        labels = [(row, label) for row, encoded in enumerate(items) for label in encoded.item.labels]
        rows = torch.tensor([row for row, _ in labels], dtype=torch.long, device=scores.device)
        tiers, weights = [label.tiers for _, label in labels], [label.weight for _, label in labels]
        noise = [self._noise_of(label) for _, label in labels]
        smoothing = self.config.label_smoothing
        margins = [self.config.margin * label.strength for _, label in labels]
        if self.config.loss == PLACKETT_LUCE:
            top = self.config.top or None
            return plackett_luce_loss(
                scores[rows], tiers, weights, top, noise=noise, smoothing=smoothing, margins=margins
            )
        if self.config.loss == PAIRWISE:
            return pairwise_split_loss(scores[rows], tiers, weights, noise=noise, smoothing=smoothing, margins=margins)
        return self._tie_aware(scores, labels, noise)

    def gaps(self, scores: Tensor, items: Sequence[Encoded]) -> list[tuple[str, float, float]]:
        """(person, gap, weight) of each pair that somebody ordered, for `note`; scores as for `loss`."""
        if not self.config.reliability:
            return []
        return [
            (label.labeler, values[p.chosen] - values[p.rejected], p.weight * label.weight)
            for values, encoded in zip(scores.detach().float().cpu().tolist(), items, strict=True)
            for label in encoded.item.labels
            for p in preferences_of(label.tiers)
            if p.mu != 0.5
        ]

    def note(self, gaps: Iterable[tuple[str, float, float]]) -> None:
        """Remember how scores order what people said."""
        for person, gap, weight in gaps:
            self._noted.setdefault(person, []).append([gap, weight])

    def update(self) -> None:
        """Learn reliabilities from what was noted."""
        for person in sorted(self._noted.keys() | self._before.keys()):
            table = np.array(self._noted.get(person, []) + self._before.get(person, [])).reshape(-1, 2)
            self.reliability[person] = _reliability(table[:, 0], table[:, 1])
        self._before, self._noted = self._noted, {}

    def facts(self) -> dict[str, Any]:
        """What is known about people, as plain values; `load_facts` takes it back."""
        return {"reliability": dict(self.reliability), "noted": dict(self._noted), "before": dict(self._before)}

    def load_facts(self, facts: dict[str, Any]) -> None:
        self.reliability = dict(facts["reliability"])
        self._noted, self._before = dict(facts["noted"]), dict(facts["before"])

    def _noise_of(self, label: Label) -> float:
        """Share of random answers: everybody's and this person's."""
        own = min(1.0, 2 * (1 - self.reliability.get(label.labeler, 1.0)))
        return 1 - (1 - self.config.noise) * (1 - own)

    def _tie_aware(self, scores: Tensor, labels: list[tuple[int, Label]], noise: Sequence[float]) -> LossSum:
        pairs = [
            (row, p, label.weight, n)
            for (row, label), n in zip(labels, noise, strict=True)
            for p in preferences_of(label.tiers)
        ]
        device, dtype = scores.device, scores.dtype
        rows = torch.tensor([row for row, *_ in pairs], dtype=torch.long, device=device)
        chosen, rejected = (
            scores[rows, torch.tensor([p[side] for _, p, *_ in pairs], dtype=torch.long, device=device)]
            for side in (0, 1)
        )
        tied = torch.tensor([p.mu == 0.5 for _, p, *_ in pairs], dtype=torch.bool, device=device)
        weight = torch.tensor([p.weight * times for _, p, times, _ in pairs], dtype=dtype, device=device)
        random = torch.tensor([n for *_, n in pairs], dtype=dtype, device=device)
        function = rao_kupper_loss if self.config.loss == RAO_KUPPER else davidson_loss
        summed = function(chosen, rejected, tied, self.threshold.to(device), weight, noise=random)
        return LossSum(summed.total, sum(label.weight for _, label in labels))


def _reliability(gaps: NDArray, weights: NDArray) -> float:
    """The likeliest probability that answers were meant, of which the preferred one scored higher by `gaps`."""
    meant = expit(gaps)
    reliability = MEANT / (MEANT + REVERSED)
    for _ in range(SWEEPS):
        right = reliability * meant
        posterior = right / (right + (1 - reliability) * (1 - meant))
        reliability = float((weights @ posterior + MEANT) / (weights.sum() + MEANT + REVERSED))
    return reliability

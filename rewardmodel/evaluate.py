"""How good a reward model is on prompts it has not seen, and how good a ruler would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rewardmodel.data import Encoded
from rewardmodel.likelihood import Likelihood
from rewardmodel.processes import ALONE, World
from rewardmodel.reading import Groups
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share
from rewardmodel.stats.pairs import preferences_of

LENGTH_ONLY = "eval/accuracy_length_only"


class Scorer(Protocol):
    """A reward model, or an ensemble of them."""

    def group_scores(self, groups: Groups) -> list[Tensor]:
        """Scores of each group's sequences, in logits."""


@dataclass(frozen=True)
class Evaluation:
    """`loss` is the mean per ranking; `accuracy` the share of rightly ordered pairs, each prompt weighing the same."""

    loss: float
    accuracy: Estimate

    def metrics(self) -> dict[str, float]:
        """Under the names of the run's events. Without any pair there is no accuracy to report."""
        values = {"eval/loss": self.loss}
        parts = {"": self.accuracy.value, "_low": self.accuracy.low, "_high": self.accuracy.high}
        return values | {f"eval/accuracy{name}": value for name, value in parts.items() if value is not None}


def score_items(model: Scorer, items: Sequence[Encoded], world: World = ALONE) -> list[Tensor]:
    """Raw scores of each item's completions, on the CPU. Of several processes each reads a share."""
    groups = [e.sequences for e in items[world.share(len(items))]]
    with torch.no_grad():
        return world.gather([scores.cpu() for scores in model.group_scores(groups)] if groups else [])


def evaluate(
    model: Scorer, items: Sequence[Encoded], likelihood: Likelihood | None = None, world: World = ALONE
) -> Evaluation:
    """Loss (Plackett-Luce's without a likelihood) and pair accuracy of the model on items, usually held out."""
    scores = score_items(model, items, world)
    padded = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True)
    with torch.no_grad():
        loss = (likelihood or Likelihood()).loss(padded, items).mean
    return Evaluation(float(loss), pair_accuracy(scores, items))


def pair_accuracy(scores: Sequence[Tensor], items: Sequence[Encoded]) -> Estimate:
    """Share of pairs that the scores order as the person did, with an interval that is clustered by prompt.

    Ties of people are left out, ties of scores are half right. A prompt's share is the weighted mean over its pairs.
    """
    right: dict[str, float] = {}
    weights: dict[str, float] = {}
    pairs: dict[str, int] = {}
    for values, encoded in zip(scores, items, strict=True):
        value, prompt = values.tolist(), encoded.item.prompt
        for label in encoded.item.labels:
            for chosen, rejected, mu, weight in preferences_of(label.tiers):
                if mu == 0.5:
                    continue
                gap = value[chosen] - value[rejected]
                right[prompt] = right.get(prompt, 0.0) + weight * label.weight * ((gap > 0) + (gap == 0) / 2)
                weights[prompt] = weights.get(prompt, 0.0) + weight * label.weight
                pairs[prompt] = pairs.get(prompt, 0) + 1
    return clustered_share([right[p] / weights[p] for p in pairs], [pairs[p] for p in pairs])


def length_accuracy(train: Sequence[Encoded], held_out: Sequence[Encoded]) -> Estimate:
    """Accuracy of knowing nothing but lengths: longer or shorter wins, whichever holds more often in training."""
    longer = pair_accuracy(_lengths(train), train)
    sign = -1.0 if longer.value is not None and longer.value < 0.5 else 1.0
    return pair_accuracy([sign * lengths for lengths in _lengths(held_out)], held_out)


def data_metrics(train: Sequence[Encoded], held_out: Sequence[Encoded]) -> dict[str, float]:
    """What the data alone say: how many prompts there are, and how good a ruler would be."""
    length = length_accuracy(train, held_out).value
    return {
        **({} if length is None else {LENGTH_ONLY: length}),
        "train_prompts": float(len({e.item.prompt for e in train})),
        "eval_prompts": float(len({e.item.prompt for e in held_out})),
    }


def _lengths(items: Sequence[Encoded]) -> list[Tensor]:
    """Characters of each completion; tokens would hide what was cut off."""
    completions = ([sum(len(m["content"]) for m in c) for c in encoded.item.completions] for encoded in items)
    return [torch.tensor(lengths, dtype=torch.float64) for lengths in completions]

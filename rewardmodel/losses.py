"""Likelihoods of preferences, as pure functions of scores.

Every loss here is one thing: a *choice* from a menu of completions by softmax over their scores. A pair is a choice
from two; a ranking is a sequence of choices, first the best of all, then the best of the rest (Plackett-Luce). A
choice has a target distribution: all on the chosen one, or shared where people could not tell. So

    loss = sum over choices of weight * (logsumexp of the menu - target . scores)

Losses come as `LossSum`s, a total with its denominator: totals of micro-batches add up, and one division by the
denominator of the whole batch gives the same loss and gradient however the batch was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rewardmodel.stats.pairs import Tiers, preferences_of

MOST_TIED = 12  # averaging over the orders of a tie takes 2^(its size) menus


class TieTooLarge(ValueError):
    """A tie of more completions than the Plackett-Luce loss averages over; the pairwise loss takes any number."""


@dataclass(frozen=True)
class LossSum:
    """`total / denominator` is the loss. Adding two sums is the sum over both batches."""

    total: Tensor
    denominator: float

    def __add__(self, other: LossSum) -> LossSum:
        return LossSum(self.total + other.total, self.denominator + other.denominator)

    @property
    def mean(self) -> Tensor:
        return self.total / self.denominator if self.denominator else self.total


class Choice(NamedTuple):
    """Somebody chose from `menu` (indices of completions), with probability `target[i]` the completion `menu[i]`."""

    menu: tuple[int, ...]
    target: tuple[float, ...]
    weight: float


@lru_cache(maxsize=65536)
def plackett_luce_choices(tiers: tuple[tuple[int, ...], ...], top: int | None = None) -> tuple[Choice, ...]:
    """A ranking as choices: the best of all ranked, the best of the rest, and so on.

    Unranked completions are in no menu. `top` keeps the first so many places: 1 is best-of-K, None the full order.
    Ties are orders nobody gave: the log-likelihood is averaged over all ways to break them. When j of d tied
    completions are placed, each j of them is equally likely to be, and so is each other one to be next; hence one
    choice for each subset, of weight 1 / C(d, j). For K = 2 this is Bradley-Terry with mu = 0.5.
    """
    choices = []
    ranked = [index for tier in tiers for index in tier]
    last = len(ranked) - 1 if top is None else min(top, len(ranked) - 1)
    place = 0
    for tier in tiers:
        if len(tier) > MOST_TIED:
            raise TieTooLarge(f"{len(tier)} completions are tied; the Plackett-Luce loss takes {MOST_TIED} at most.")
        lower = ranked[place + len(tier) :]
        for placed in range(min(len(tier), last - place)):
            for gone in combinations(tier, placed):
                left = [index for index in tier if index not in gone]
                target = [1 / len(left)] * len(left) + [0.0] * len(lower)
                choices.append(Choice((*left, *lower), tuple(target), 1 / comb(len(tier), placed)))
        place += len(tier)
    return tuple(choices)


@lru_cache(maxsize=65536)
def pairwise_choices(tiers: tuple[tuple[int, ...], ...]) -> tuple[Choice, ...]:
    """A ranking as its C(K, 2) pairs, each of weight 1 / C(K, 2); a tie has mu = 0.5 (InstructGPT's split)."""
    return tuple(Choice((p.chosen, p.rejected), (p.mu, 1 - p.mu), p.weight) for p in preferences_of(tiers))


def choice_loss(scores: Tensor, choices: Iterable[tuple[int, Choice, float]], denominator: float) -> LossSum:
    """Negative log-likelihood of `choices`, each (row, choice, weight of its ranking), under `scores` (rows, K).

    Entries of `scores` that are in no menu are not looked at, whatever they hold (padding, NaN).
    """
    flat = list(choices)
    if not flat:
        return LossSum(scores.new_zeros(()), denominator)
    width = max(len(choice.menu) for _, choice, _ in flat)
    columns, target, inside = [], [], []
    for _, choice, _ in flat:
        size, spare = len(choice.menu), width - len(choice.menu)
        columns.append([*choice.menu, *choice.menu[:1] * spare])  # filled with a column that certainly exists
        target.append([*choice.target, *[0.0] * spare])
        inside.append([True] * size + [False] * spare)
    device = scores.device
    rows = torch.tensor([row for row, _, _ in flat], device=device)
    weight = torch.tensor([choice.weight * times for _, choice, times in flat], device=device, dtype=scores.dtype)
    outside = ~torch.tensor(inside, device=device)
    menu = scores[rows[:, None], torch.tensor(columns, device=device)]  # (choices, width)
    log_chosen = torch.log_softmax(menu.masked_fill(outside, -torch.inf), dim=1).masked_fill(outside, 0.0)
    surprise = -(torch.tensor(target, device=device, dtype=scores.dtype) * log_chosen).sum(1)
    return LossSum(weight @ surprise, denominator)


def plackett_luce_loss(
    scores: Tensor, rankings: Sequence[Tiers], weights: Sequence[float] | None = None, top: int | None = None
) -> LossSum:
    """Plackett-Luce on tiers: `rankings[r]` ranks columns of `scores[r]`. See `plackett_luce_choices` for ties."""
    weights = [1.0] * len(rankings) if weights is None else weights
    choices = [
        (row, choice, weight)
        for row, (tiers, weight) in enumerate(zip(rankings, weights, strict=True))
        for choice in plackett_luce_choices(_frozen(tiers), top)
    ]
    return choice_loss(scores, choices, sum(weights))


def pairwise_split_loss(scores: Tensor, rankings: Sequence[Tiers], weights: Sequence[float] | None = None) -> LossSum:
    """InstructGPT's loss: the mean over a ranking's pairs, so that a ranking weighs the same whatever its K."""
    weights = [1.0] * len(rankings) if weights is None else weights
    choices = [
        (row, choice, weight)
        for row, (tiers, weight) in enumerate(zip(rankings, weights, strict=True))
        for choice in pairwise_choices(_frozen(tiers))
    ]
    return choice_loss(scores, choices, sum(weights))


def bradley_terry_loss(
    chosen: Tensor, rejected: Tensor, mu: Tensor | float = 1.0, weight: Tensor | float = 1.0
) -> LossSum:
    """-mu log P(chosen beats rejected) - (1 - mu) log P(rejected beats chosen) (Christiano et al. 2017).

    All (pairs,); `mu` is the probability, or share of people, that preferred `chosen`: 0.5 is a tie.
    """
    gap = chosen - rejected
    mu, weight = torch.as_tensor(mu).to(gap), torch.as_tensor(weight).to(gap).expand_as(gap)
    surprise = -mu * F.logsigmoid(gap) - (1 - mu) * F.logsigmoid(-gap)
    return LossSum((weight * surprise).sum(), float(weight.sum()))


def centering_loss(scores: Tensor, present: Tensor) -> LossSum:
    """Squared mean score of each row; likelihoods see only differences, so this alone fixes where scores lie.

    scores, present: (rows, K); `present` is True where there is a completion.
    """
    count = present.sum(1).clamp(min=1)
    means = scores.masked_fill(~present, 0.0).sum(1) / count
    return LossSum((means**2).sum(), float(len(scores)))


def _frozen(tiers: Tiers) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tier) for tier in tiers)

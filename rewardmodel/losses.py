"""Likelihoods of preferences, as pure functions of scores.

Every loss here is one thing: a *choice* from a menu of completions by softmax over their scores. A pair is a choice
from two; a ranking is a sequence of choices, first the best of all, then the best of the rest (Plackett-Luce). A
choice has a target distribution: all on the chosen one, or shared where people could not tell. So

    loss = sum over choices of weight * (logsumexp of the menu - target . scores)

People err, so a choice may be believed less: with *noise* n the answer was random in n of all cases (Christiano et al.
2017 take 0.1), which keeps a single wrong label from dominating; *smoothing* s spreads that share of the target over
the menu instead. In a pair, noise n is the same as reliability eta = 1 - n / 2 in Crowd-BT (Chen et al. 2013).

Losses come as `LossSum`s, a total with its denominator: totals of micro-batches add up, and one division by the
denominator of the whole batch gives the same loss and gradient however the batch was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rewardmodel.stats.errors import TieTooLarge as TieTooLarge
from rewardmodel.stats.pairs import Tiers, preferences_of
from rewardmodel.stats.rankings import choices_of


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

    Unranked completions are in no menu. `top` keeps the first so many places. Ties are averaged over all ways to break
    them (see `stats.rankings.choices_of`); for K = 2 this is Bradley-Terry with mu = 0.5.
    """
    ranked = [index for tier in tiers for index in tier]
    return tuple(
        Choice(
            tuple(ranked[place] for place in choice.menu),
            (1 / choice.best,) * choice.best + (0.0,) * (len(choice.menu) - choice.best),
            choice.weight,
        )
        for choice in choices_of(tuple(map(len, tiers)), top)
    )


@lru_cache(maxsize=65536)
def pairwise_choices(tiers: tuple[tuple[int, ...], ...]) -> tuple[Choice, ...]:
    """A ranking as its C(K, 2) pairs, each of weight 1 / C(K, 2); a tie has mu = 0.5 (InstructGPT's split)."""
    return tuple(Choice((p.chosen, p.rejected), (p.mu, 1 - p.mu), p.weight) for p in preferences_of(tiers))


def choice_loss(
    scores: Tensor,
    choices: Iterable[tuple[int, Choice, float]],
    denominator: float,
    noise: Sequence[float] | None = None,
    smoothing: float = 0.0,
    margins: Sequence[float] | None = None,
) -> LossSum:
    """Negative log-likelihood of `choices`, each (row, choice, weight of its ranking), under `scores` (rows, K).

    `noise[row]` is the share of random answers. What is chosen wins only by `margins[row]`, a margin per ranking
    (Touvron et al. 2023 take one from how much better people found it); those tied share it.
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
        target.append([*((1 - smoothing) * t + smoothing / size for t in choice.target), *[0.0] * spare])
        inside.append([True] * size + [False] * spare)
    device = scores.device
    rows = torch.tensor([row for row, _, _ in flat], device=device)
    weight = torch.tensor([choice.weight * times for _, choice, times in flat], device=device, dtype=scores.dtype)
    outside = ~torch.tensor(inside, device=device)
    menu = scores[rows[:, None], torch.tensor(columns, device=device)]  # (choices, width)
    if margins is not None and any(margins):
        menu = menu - torch.tensor(
            [[margins[row] * t for t in choice.target] + [0.0] * (width - len(choice.menu)) for row, choice, _ in flat],
            device=device,
            dtype=scores.dtype,
        )
    log_chosen = torch.log_softmax(menu.masked_fill(outside, -torch.inf), dim=1).masked_fill(outside, 0.0)
    if noise is not None and any(noise):
        random = torch.tensor([noise[row] for row, _, _ in flat], device=device, dtype=scores.dtype)[:, None]
        sizes = (~outside).sum(1, keepdim=True)
        log_chosen = torch.logaddexp(torch.log1p(-random) + log_chosen, torch.log(random / sizes))
    surprise = -(torch.tensor(target, device=device, dtype=scores.dtype) * log_chosen).sum(1)
    return LossSum(weight @ surprise, denominator)


def plackett_luce_loss(
    scores: Tensor,
    rankings: Sequence[Tiers],
    weights: Sequence[float] | None = None,
    top: int | None = None,
    *,
    mask: Tensor | None = None,
    noise: Sequence[float] | None = None,
    smoothing: float = 0.0,
    margins: Sequence[float] | None = None,
) -> LossSum:
    """Plackett-Luce on tiers: `rankings[r]` ranks columns of `scores[r]`. See `plackett_luce_choices` for ties.

    mask: (rows, K), True where a completion counts; the others are left out as if nobody had ranked them.
    noise: share of random answers of each ranking; margins: by how much its choices win (see `choice_loss`).
    """
    choices = [
        (row, choice, weight)
        for row, (tiers, weight) in enumerate(_weighted(rankings, weights, mask))
        for choice in plackett_luce_choices(tiers, top)
    ]
    return choice_loss(scores, choices, _total(rankings, weights), noise, smoothing, margins)


def pairwise_split_loss(
    scores: Tensor,
    rankings: Sequence[Tiers],
    weights: Sequence[float] | None = None,
    *,
    mask: Tensor | None = None,
    noise: Sequence[float] | None = None,
    smoothing: float = 0.0,
    margins: Sequence[float] | None = None,
) -> LossSum:
    """InstructGPT's loss: the mean over a ranking's pairs, so that a ranking weighs the same whatever its K."""
    choices = [
        (row, choice, weight)
        for row, (tiers, weight) in enumerate(_weighted(rankings, weights, mask))
        for choice in pairwise_choices(tiers)
    ]
    return choice_loss(scores, choices, _total(rankings, weights), noise, smoothing, margins)


def bradley_terry_loss(
    chosen: Tensor,
    rejected: Tensor,
    mu: Tensor | float = 1.0,
    weight: Tensor | float = 1.0,
    *,
    margin: Tensor | float = 0.0,
    smoothing: float = 0.0,
    noise: float = 0.0,
    reliability: Tensor | float = 1.0,
) -> LossSum:
    """-mu log P(chosen beats rejected) - (1 - mu) log P(rejected beats chosen) (Christiano et al. 2017).

    All (pairs,); `mu` is the probability, or share of people, that preferred `chosen`: 0.5 is a tie. Either side wins
    only by `margin` (Touvron et al. 2023). An answer is meant with probability `reliability` and the wrong way round
    otherwise (Crowd-BT; below 0.5 is an adversary), and a share `noise` of all answers is random besides.
    """
    gap = chosen - rejected
    mu, weight = _like(gap, mu), _like(gap, weight).expand_as(gap)
    margin, meant = _like(gap, margin), _like(gap, reliability)
    mu = (1 - smoothing) * mu + smoothing / 2
    meant = (1 - noise) * meant + noise / 2
    won, lost = F.logsigmoid(gap - margin), F.logsigmoid(-gap - margin)
    if bool((meant < 1).any()):
        # What is not a win by the margin is the other answer: its logarithm is that of the opposite sigmoid.
        not_won, not_lost = F.logsigmoid(margin - gap), F.logsigmoid(margin + gap)
        sure, unsure = torch.log(meant), torch.log1p(-meant)
        won, lost = torch.logaddexp(sure + won, unsure + not_won), torch.logaddexp(sure + lost, unsure + not_lost)
    return LossSum((weight * (-mu * won - (1 - mu) * lost)).sum(), float(weight.sum()))


def rao_kupper_loss(
    chosen: Tensor,
    rejected: Tensor,
    tied: Tensor,
    threshold: Tensor,
    weight: Tensor | float = 1.0,
    noise: Tensor | float = 0.0,
) -> LossSum:
    """Somebody prefers only what is better by `threshold` > 0 logits, and ties otherwise (Rao and Kupper 1967).

    All others (pairs,); `tied` is True where there was no preference, `noise` is the share of random answers.
    """
    gap = chosen - rejected
    won = F.logsigmoid(gap - threshold)
    # 1 - P(won) - P(lost), written without a difference of nearly equal numbers
    neither = F.logsigmoid(threshold - gap) + F.logsigmoid(threshold + gap) + torch.log(-torch.expm1(-2 * threshold))
    return _outcome_loss(torch.where(tied, neither, won), weight, noise)


def davidson_loss(
    chosen: Tensor,
    rejected: Tensor,
    tied: Tensor,
    threshold: Tensor,
    weight: Tensor | float = 1.0,
    noise: Tensor | float = 0.0,
) -> LossSum:
    """A tie is as likely as the geometric mean of both wins, times a factor (Davidson 1970).

    The factor is exp(threshold) - 1, so that equal completions tie as often as in `rao_kupper_loss`.
    """
    tie = (chosen + rejected) / 2 + torch.log(torch.expm1(threshold))
    outcomes = torch.log_softmax(torch.stack([chosen, rejected, tie.expand_as(chosen)]), dim=0)
    return _outcome_loss(torch.where(tied, outcomes[2], outcomes[0]), weight, noise)


def _outcome_loss(log_likelihood: Tensor, weight: Tensor | float, noise: Tensor | float) -> LossSum:
    """Of one of three outcomes: better, worse, tied."""
    random = _like(log_likelihood, noise)
    if bool((random > 0).any()):
        log_likelihood = torch.logaddexp(torch.log1p(-random) + log_likelihood, torch.log(random / 3))
    weights = _like(log_likelihood, weight).expand_as(log_likelihood)
    return LossSum(-(weights @ log_likelihood), float(weights.sum()))


def centering_loss(scores: Tensor, present: Tensor) -> LossSum:
    """Squared mean score of each row; likelihoods see only differences, so this alone fixes where scores lie.

    scores, present: (rows, K); `present` is True where there is a completion.
    """
    count = present.sum(1).clamp(min=1)
    means = scores.masked_fill(~present, 0.0).sum(1) / count
    return LossSum((means**2).sum(), float(len(scores)))


def _like(tensor: Tensor, value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=tensor.dtype, device=tensor.device)


def _weighted(
    rankings: Sequence[Tiers], weights: Sequence[float] | None, mask: Tensor | None
) -> list[tuple[tuple[tuple[int, ...], ...], float]]:
    """Each ranking of what counts, as tuples, with its weight."""
    present = [None] * len(rankings) if mask is None else mask.tolist()
    kept = [
        tuple(left for tier in tiers if (left := tuple(i for i in tier if counts is None or counts[i])))
        for tiers, counts in zip(rankings, present, strict=True)
    ]
    return list(zip(kept, [1.0] * len(rankings) if weights is None else weights, strict=True))


def _total(rankings: Sequence[Tiers], weights: Sequence[float] | None) -> float:
    return float(len(rankings)) if weights is None else float(sum(weights))

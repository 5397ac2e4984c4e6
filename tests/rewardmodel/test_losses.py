"""The losses against brute force, exact numbers, finite differences and choix."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import exp, factorial, log
from typing import Any

import choix
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from rewardmodel.losses import (
    LossSum,
    TieTooLarge,
    bradley_terry_loss,
    centering_loss,
    davidson_loss,
    pairwise_split_loss,
    plackett_luce_choices,
    plackett_luce_loss,
    rao_kupper_loss,
)

from .simulated import normal_strengths, simulate_pairs

SCORES = [1.2, -0.3, 0.5, 0.1]
ORDER = [[0], [2], [3], [1]]


def row(*scores: float) -> Tensor:
    return torch.tensor([scores], dtype=torch.float64)


def strict(order: tuple[int, ...]) -> list[list[int]]:
    return [[i] for i in order]


def brute_force(scores: list[float], tiers: list[list[int]], top: int | None = None) -> float:
    """Mean over all ways to break the ties of the negative log-likelihood, from the textbook product."""
    losses = []
    for orders in np.ndindex(*[factorial(len(t)) for t in tiers]):
        order = [i for t, o in zip(tiers, orders, strict=True) for i in list(permutations(t))[o]]
        places = range(len(order) if top is None else min(top, len(order)))
        product = 1.0
        for k in places:
            product *= exp(scores[order[k]]) / sum(exp(scores[i]) for i in order[k:])
        losses.append(-log(product))
    return float(np.mean(losses))


@pytest.mark.parametrize("loss", [plackett_luce_loss, pairwise_split_loss])
@pytest.mark.parametrize(("noise", "expected"), [(0.0, log(1 + exp(-0.2))), (0.1, -log(0.9 / (1 + exp(-0.2)) + 0.05))])
def test_a_preference_wins_by_its_margin(loss: Any, noise: float, expected: float) -> None:
    """Touvron et al. 2023, equation 2: -log sigmoid(1.2 + 0.0 - 1.0)."""
    scores = torch.tensor([[0.0, 1.2], [0.7, -2.0]], dtype=torch.float64, requires_grad=True)
    rankings = [[[1], [0]], [[0], [1]]]
    found = loss(scores, rankings, [1.0, 0.0], noise=[noise, noise], margins=[1.0, 5.0])
    assert found.mean.item() == pytest.approx(expected, abs=1e-12)
    same = bradley_terry_loss(scores[:1, 1], scores[:1, 0], margin=1.0, noise=noise)
    assert found.mean.item() == pytest.approx(same.mean.item(), abs=1e-12)
    assert torch.autograd.gradcheck(lambda s: loss(s, rankings, margins=[1.0, 5.0]).mean, scores)


def test_the_exact_cases() -> None:
    assert plackett_luce_loss(row(*SCORES), [ORDER]).mean.item() == pytest.approx(1.98336649, abs=1e-8)
    assert pairwise_split_loss(row(*SCORES), [ORDER]).mean.item() == pytest.approx(0.38151097, abs=1e-8)
    assert plackett_luce_loss(row(*SCORES), [ORDER], top=1).mean.item() == pytest.approx(0.71910073, abs=1e-8)
    for k, expected in ((4, 3.178054), (7, 8.525161)):
        equal = plackett_luce_loss(row(*[0.7] * k), [strict(tuple(range(k)))])
        assert equal.mean.item() == pytest.approx(expected, abs=1e-6)


def test_the_better_score_has_the_smaller_loss() -> None:
    """The sign: a broken one turns every one of these round."""
    right, wrong = row(2.0, 0.0), row(0.0, 2.0)
    for loss in (plackett_luce_loss, pairwise_split_loss):
        assert loss(right, [[[0], [1]]]).mean < loss(wrong, [[[0], [1]]]).mean
    assert bradley_terry_loss(right[:, 0], right[:, 1]).mean < bradley_terry_loss(wrong[:, 0], wrong[:, 1]).mean
    scores = row(0.0, 0.0, 0.0).requires_grad_()
    plackett_luce_loss(scores, [[[1], [2], [0]]]).mean.backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] < scores.grad[0, 2] < scores.grad[0, 0]


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_all_orders_sum_to_one(k: int) -> None:
    scores = torch.randn(1, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    orders = [strict(order) for order in permutations(range(k))]
    losses = [plackett_luce_loss(scores, [order]).mean for order in orders]
    assert sum(exp(-loss.item()) for loss in losses) == pytest.approx(1, abs=1e-10)
    top_two = {tuple(order[:2]): order for order in permutations(range(k))}.values()
    partial = [plackett_luce_loss(scores, [strict(order)], top=2).mean for order in top_two]
    assert sum(exp(-loss.item()) for loss in partial) == pytest.approx(1, abs=1e-10)


tiers_of = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(st.floats(-3, 3), min_size=k, max_size=k),
        st.permutations(range(k)),
        st.lists(st.booleans(), min_size=k, max_size=k),
        st.integers(1, k),
        st.none() | st.integers(1, k),
    )
)


@settings(max_examples=120, deadline=None)
@given(tiers_of)
def test_ties_partial_orders_and_top_places_equal_brute_force(case: tuple) -> None:
    scores, order, joins, ranked, top = case
    tiers: list[list[int]] = []
    for index, joined in zip(order[:ranked], joins, strict=False):
        tiers = [*tiers[:-1], [*tiers[-1], index]] if joined and tiers else [*tiers, [index]]
    ours = plackett_luce_loss(row(*scores), [tiers], top=top).total.item()
    assert ours == pytest.approx(brute_force(scores, tiers, top), abs=1e-9)


def test_two_completions_are_bradley_terry() -> None:
    scores = row(0.4, -1.1)
    for tiers, mu in (([[0], [1]], 1.0), ([[1], [0]], 0.0), ([[0, 1]], 0.5)):
        expected = bradley_terry_loss(scores[:, 0], scores[:, 1], mu).mean.item()
        assert plackett_luce_loss(scores, [tiers]).mean.item() == pytest.approx(expected, abs=1e-12)
        assert pairwise_split_loss(scores, [tiers]).mean.item() == pytest.approx(expected, abs=1e-12)
    assert bradley_terry_loss(scores[:, 0], scores[:, 1]).mean.item() == pytest.approx(log(1 + exp(-1.5)))


def test_the_pairwise_loss_is_the_mean_of_its_pairs() -> None:
    scores = row(*SCORES)[0]
    pairs = [(0, 2), (0, 3), (0, 1), (2, 3), (2, 1), (3, 1)]
    single = [bradley_terry_loss(scores[a : a + 1], scores[b : b + 1]).mean.item() for a, b in pairs]
    assert pairwise_split_loss(row(*SCORES), [ORDER]).mean.item() == pytest.approx(np.mean(single), abs=1e-12)


def test_gradients_equal_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    rankings = [[[0], [2, 3], [1]], [[3], [1]], [[0, 1, 2, 3]]]
    present = torch.tensor([[True] * 4, [True, True, False, True], [True] * 4])
    tied = torch.tensor([True, False, True])
    checks = [
        lambda s: plackett_luce_loss(s, rankings, [1.0, 0.5, 2.0]).mean,
        lambda s: plackett_luce_loss(s, rankings, top=2).mean,
        lambda s: pairwise_split_loss(s, rankings, [1.0, 0.5, 2.0]).mean,
        lambda s: bradley_terry_loss(s[:, 0], s[:, 1], torch.tensor([1.0, 0.3, 0.5])).mean,
        lambda s: centering_loss(s, present).mean,
        lambda s: plackett_luce_loss(s, rankings, noise=[0.1, 0.0, 1.0], smoothing=0.2, mask=present).mean,
        lambda s: pairwise_split_loss(s, rankings, noise=[0.1, 0.3, 0.0], smoothing=0.2).mean,
        lambda s: bradley_terry_loss(s[:, 0], s[:, 1], 0.8, margin=0.5, smoothing=0.1).mean,
        lambda s: bradley_terry_loss(s[:, 0], s[:, 1], noise=0.1, reliability=torch.tensor([0.2, 0.5, 1.0])).mean,
        lambda s: rao_kupper_loss(s[:, 0], s[:, 1], tied, s[:, 2].exp()).mean,
        lambda s: davidson_loss(s[:, 0], s[:, 1], tied, s[:, 2].exp()).mean,
    ]
    for check in checks:
        assert torch.autograd.gradcheck(check, (scores,))


def test_gradients_sum_to_zero_and_shifts_change_nothing() -> None:
    scores = row(*SCORES).requires_grad_()
    for loss in (plackett_luce_loss, pairwise_split_loss):
        (gradient,) = torch.autograd.grad(loss(scores, [[[0], [2, 3]]]).mean, scores)
        assert gradient.sum().item() == pytest.approx(0, abs=1e-12)
        assert gradient[0, 1] == 0  # unranked
        shifted = loss(scores + 7, [[[0], [2, 3]]]).mean.item()
        assert shifted == pytest.approx(loss(scores, [[[0], [2, 3]]]).mean.item(), abs=1e-12)


def test_the_expected_score_under_the_model_is_zero() -> None:
    scores = row(*SCORES).requires_grad_()
    expected = torch.zeros(4, dtype=torch.float64)
    for order in permutations(range(4)):
        loss = plackett_luce_loss(scores, [strict(order)]).mean
        (gradient,) = torch.autograd.grad(loss, scores)
        expected += exp(-loss.item()) * gradient[0]
    assert expected.abs().max() < 1e-12


def test_padding_is_never_looked_at() -> None:
    padded = torch.tensor([[0.3, -0.2, torch.nan], [1.0, 0.5, 0.1]], dtype=torch.float64, requires_grad=True)
    rankings = [[[0], [1]], [[1], [2], [0]]]
    loss = plackett_luce_loss(padded, rankings)
    alone = plackett_luce_loss(row(0.3, -0.2), rankings[:1]) + plackett_luce_loss(row(1.0, 0.5, 0.1), rankings[1:])
    assert loss.mean.item() == pytest.approx(alone.mean.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.mean, padded)
    assert gradient[0, 2] == 0 and not gradient.isnan().any()


def test_cutting_a_batch_changes_neither_loss_nor_gradient() -> None:
    scores = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    rankings = [[[0], [1], [2], [3]], [[2], [0]], [[1, 3], [0]], [[0, 1, 2, 3]], [[3], [2]], [[2], [3], [0]]]
    weights = [1.0, 2.0, 0.5, 1.0, 0.0, 3.0]
    whole = plackett_luce_loss(scores, rankings, weights)
    (expected,) = torch.autograd.grad(whole.mean, scores)
    for size in (1, 2, 4):
        total = LossSum(torch.zeros((), dtype=torch.float64), 0.0)
        gradient = torch.zeros_like(scores)
        for start in range(0, 6, size):
            part = plackett_luce_loss(
                scores[start : start + size], rankings[start : start + size], weights[start : start + size]
            )
            gradient += torch.autograd.grad(part.total / whole.denominator, scores)[0]
            total = total + part
        assert total.mean.item() == pytest.approx(whole.mean.item(), abs=1e-12)
        assert torch.allclose(gradient, expected, atol=1e-12)


def test_nothing_to_learn_is_zero_and_differentiable() -> None:
    scores = row(1.0, 2.0).requires_grad_()
    assert plackett_luce_loss(scores, [[[0]]]).total.item() == 0
    assert plackett_luce_loss(scores[:0], []).mean.item() == 0
    with pytest.raises(TieTooLarge, match="13 items are tied"):
        plackett_luce_choices((tuple(range(13)),))


def test_centering_sees_the_mean_of_what_is_there() -> None:
    scores = torch.tensor([[1.0, 3.0, 99.0], [-1.0, 1.0, 0.0]])
    present = torch.tensor([[True, True, False], [True, True, True]])
    assert centering_loss(scores, present).mean.item() == pytest.approx((2.0**2 + 0) / 2)


def test_free_scores_fitted_with_our_loss_equal_choix() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=8)
    menus = [random.choice(8, 4, replace=False) for _ in range(150)]
    rankings = [[int(m) for m in menu[np.argsort(-(truth[menu] + random.gumbel(size=4)))]] for menu in menus]
    alpha = 0.1
    scores = torch.zeros(1, 8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = plackett_luce_loss(scores.expand(len(rankings), 8), [strict(tuple(r)) for r in rankings]).total
        loss = loss + alpha * (scores**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = choix.opt_rankings(8, rankings, alpha=alpha)
    assert np.abs(scores.detach().numpy()[0] - expected).max() < 1e-4


def pair(chosen: float, rejected: float) -> tuple[Tensor, Tensor]:
    return torch.tensor([chosen], dtype=torch.float64), torch.tensor([rejected], dtype=torch.float64)


@pytest.mark.parametrize("gap", [-30.0, -1.3, 0.0, 0.4, 30.0])
def test_noise_margin_smoothing_and_reliability_are_the_textbook_formulas(gap: float) -> None:
    scores = pair(gap, 0.0)
    p = 1 / (1 + exp(-gap))

    def loss(**options: Any) -> float:
        return bradley_terry_loss(*scores, **options).mean.item()

    assert loss(noise=0.1) == pytest.approx(-log(0.9 * p + 0.05), abs=1e-12)  # Christiano et al. 2017
    assert loss(reliability=0.8) == pytest.approx(-log(0.8 * p + 0.2 * (1 - p)), abs=1e-12)
    assert loss(reliability=0.8, noise=0.1) == pytest.approx(-log(0.9 * (0.8 * p + 0.2 * (1 - p)) + 0.05), abs=1e-12)
    assert loss(margin=0.7) == pytest.approx(log(1 + exp(0.7 - gap)), abs=1e-12)
    assert loss(smoothing=0.2) == pytest.approx(0.9 * log(1 + exp(-gap)) + 0.1 * log(1 + exp(gap)), abs=1e-9)
    assert loss(mu=0.3, noise=0.1) == pytest.approx(
        -0.3 * log(0.9 * p + 0.05) - 0.7 * log(0.9 * (1 - p) + 0.05), abs=1e-12
    )
    assert loss(reliability=0.0) == pytest.approx(log(1 + exp(gap)), abs=1e-9)  # an adversary means the opposite
    assert loss(reliability=0.5) == pytest.approx(log(2), abs=1e-12)


def test_a_wrong_label_pulls_with_bounded_force_when_answers_may_be_random() -> None:
    pulls = []
    for noise in (0.0, 0.1):
        score = torch.tensor([-9.0], dtype=torch.float64, requires_grad=True)
        bradley_terry_loss(score, torch.zeros_like(score), noise=noise).mean.backward()
        pulls.append(abs(score.grad.item()))
    assert pulls[0] > 0.999 and pulls[1] < 0.01


@pytest.mark.parametrize("loss", [plackett_luce_loss, pairwise_split_loss])
def test_noisy_pairs_are_the_same_in_every_loss(loss: Callable[..., LossSum]) -> None:
    scores = row(0.4, -1.1)
    for noise, smoothing in ((0.1, 0.0), (0.0, 0.2), (0.3, 0.1), (1.0, 0.0)):
        expected = bradley_terry_loss(scores[:, 0], scores[:, 1], noise=noise, smoothing=smoothing).mean.item()
        actual = loss(scores, [[[0], [1]]], noise=[noise], smoothing=smoothing).mean.item()
        assert actual == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_all_noisy_orders_sum_to_one(k: int) -> None:
    scores = torch.randn(1, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    orders = [strict(order) for order in permutations(range(k))]
    losses = [plackett_luce_loss(scores, [order], noise=[0.2]).mean.item() for order in orders]
    assert sum(exp(-loss) for loss in losses) == pytest.approx(1, abs=1e-10)
    random = [plackett_luce_loss(scores, [order], noise=[1.0]).mean.item() for order in orders]
    assert random == pytest.approx([log(factorial(k))] * len(orders), abs=1e-12)


@pytest.mark.parametrize("loss", [plackett_luce_loss, pairwise_split_loss])
def test_masked_completions_are_as_if_nobody_had_ranked_them(loss: Callable[..., LossSum]) -> None:
    scores = row(1.2, float("nan"), 0.5, 0.1).requires_grad_()
    mask = torch.tensor([[True, False, True, True]])
    masked = loss(scores, [[[0], [1, 2], [3]]], mask=mask).mean
    assert masked.item() == pytest.approx(loss(row(1.2, 0.0, 0.5, 0.1), [[[0], [2], [3]]]).mean.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(masked, scores)
    assert gradient[0, 1] == 0
    nothing = loss(scores, [[[0], [1]]], mask=torch.zeros(1, 4, dtype=torch.bool))
    assert (nothing.total.item(), nothing.denominator) == (0, 1)


@pytest.mark.parametrize("loss", [rao_kupper_loss, davidson_loss])
@pytest.mark.parametrize("gap", [-20.0, -0.7, 0.0, 1.5, 20.0])
@pytest.mark.parametrize("threshold", [0.01, 0.8, 3.0])
def test_winning_losing_and_tying_sum_to_one(loss: Callable[..., LossSum], gap: float, threshold: float) -> None:
    a, b, tau = torch.tensor([gap]).double(), torch.zeros(1).double(), torch.tensor(threshold, dtype=torch.float64)
    yes, no = torch.tensor([True]), torch.tensor([False])
    won, lost, tied = (
        exp(-loss(*scores, outcome, tau).mean.item()) for scores, outcome in (((a, b), no), ((b, a), no), ((a, b), yes))
    )
    assert won + lost + tied == pytest.approx(1, abs=1e-12)
    assert (won > lost) == (gap > 0)
    assert won / (won + tied + lost) <= 1 / (1 + exp(-gap)) + 1e-12  # a part of the wins became ties


def test_the_tie_models_are_the_textbook_formulas_and_agree_on_equal_completions() -> None:
    tau, tied, won = torch.tensor(0.8, dtype=torch.float64), torch.tensor([True]), torch.tensor([False])
    equal = [exp(-loss(*pair(0.3, 0.3), tied, tau).mean.item()) for loss in (rao_kupper_loss, davidson_loss)]
    assert equal == pytest.approx([1 - 2 / (1 + exp(0.8))] * 2, abs=1e-12)
    assert exp(-rao_kupper_loss(*pair(1.5, 0.2), won, tau).mean.item()) == pytest.approx(1 / (1 + exp(0.8 - 1.3)))
    a, b, nu = exp(1.5), exp(0.2), exp(0.8) - 1
    davidson = exp(-davidson_loss(*pair(1.5, 0.2), won, tau).mean.item())
    assert davidson == pytest.approx(a / (a + b + nu * (a * b) ** 0.5))


def fit_scores(pairs: Tensor, items: int, noise: float) -> NDArray:
    """Free scores that fit the pairs best."""
    scores = torch.zeros(items, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = bradley_terry_loss(scores[pairs[:, 0]], scores[pairs[:, 1]], noise=noise).mean
        loss.backward()
        return loss

    optimizer.step(closure)
    return np.asarray(scores.detach())


def test_ten_percent_random_answers_flatten_scores_unless_the_loss_expects_them() -> None:
    slopes: dict[float, list[float]] = {0.0: [], 0.1: []}
    for seed in range(5):
        random = np.random.default_rng(seed)
        truth = normal_strengths(random, 20) * 1.5
        pairs = torch.from_numpy(simulate_pairs(random, truth, 6000, noise=0.1))
        for noise, found in slopes.items():
            found.append(float(truth @ fit_scores(pairs, 20, noise) / (truth @ truth)))
    assert np.mean(slopes[0.0]) < 0.85
    assert np.mean(slopes[0.1]) == pytest.approx(1, abs=0.05)

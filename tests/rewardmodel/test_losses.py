"""The losses against brute force, exact numbers, finite differences and choix."""

from __future__ import annotations

from itertools import permutations
from math import exp, factorial, log

import choix
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rewardmodel.losses import (
    LossSum,
    TieTooLarge,
    bradley_terry_loss,
    centering_loss,
    pairwise_split_loss,
    plackett_luce_choices,
    plackett_luce_loss,
)

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
    checks = [
        lambda s: plackett_luce_loss(s, rankings, [1.0, 0.5, 2.0]).mean,
        lambda s: plackett_luce_loss(s, rankings, top=2).mean,
        lambda s: pairwise_split_loss(s, rankings, [1.0, 0.5, 2.0]).mean,
        lambda s: bradley_terry_loss(s[:, 0], s[:, 1], torch.tensor([1.0, 0.3, 0.5])).mean,
        lambda s: centering_loss(s, present).mean,
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
    with pytest.raises(TieTooLarge, match="13 completions are tied"):
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

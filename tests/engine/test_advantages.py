"""Token rewards, advantages and the KL controller, against numbers worked out by hand and loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.engine.advantages import (
    KlController,
    gae,
    group_advantages,
    kl_k1,
    kl_k3,
    last_valid,
    token_rewards,
    whiten,
)

REWARDS, VALUES = [-0.1, 0.05, 1.0], [0.2, 0.4, 0.6]
EXACT = [(0.95, [0.6985, 0.63, 0.4]), (1.0, [0.75, 0.65, 0.4]), (0.0, [0.1, 0.25, 0.4])]


def loop_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """The definition: a discounted sum of the temporal-difference errors that follow."""
    following = [*values[1:], 0.0]
    deltas = [r + gamma * after - v for r, v, after in zip(rewards, values, following, strict=True)]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))]


@pytest.mark.parametrize(("lam", "expected"), EXACT)
def test_gae_gives_the_exact_triples(lam: float, expected: list[float]) -> None:
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages, returns = gae(torch.tensor([REWARDS]), torch.tensor([VALUES]), mask, 1.0, lam)
    torch.testing.assert_close(advantages, torch.tensor([expected]))
    torch.testing.assert_close(returns, advantages + torch.tensor([VALUES]))


@pytest.mark.parametrize(("lam", "expected"), EXACT)
def test_tokens_outside_the_mask_change_nothing(lam: float, expected: list[float]) -> None:
    """Masked tokens in the middle (a user's turn) and padding at the end, with values that must not leak."""
    mask = torch.tensor([[True, False, True, False, False, True, False]])
    rewards, values = torch.full((1, 7), 50.0), torch.full((1, 7), -70.0)
    rewards[mask], values[mask] = torch.tensor(REWARDS), torch.tensor(VALUES)
    advantages, returns = gae(rewards, values, mask, 1.0, lam)
    torch.testing.assert_close(advantages[mask], torch.tensor(expected))
    assert not advantages[~mask].any() and not returns[~mask].any()


def test_gae_equals_its_definition_on_ragged_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(5, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    lengths = [9, 1, 4, 7, 2]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    advantages, _ = gae(rewards, values, mask, 0.97, 0.9)
    for row, length in enumerate(lengths):
        expected = loop_gae(rewards[row, :length].tolist(), values[row, :length].tolist(), 0.97, 0.9)
        torch.testing.assert_close(advantages[row, :length].tolist(), expected, atol=1e-12, rtol=1e-12)


def test_the_score_sits_on_the_last_valid_token_and_the_penalty_on_all() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    kl = torch.tensor([[0.1, -0.2, 0.3], [0.4, 9.0, 9.0]])
    rewards = token_rewards(torch.tensor([2.0, -1.0]), kl, mask, 0.5)
    torch.testing.assert_close(rewards, torch.tensor([[-0.05, 0.1, 1.85], [-1.2, 0.0, 0.0]]))
    assert last_valid(mask).tolist() == [2, 0]


def test_whitening_brings_the_masked_tokens_to_mean_0_and_variance_1() -> None:
    values = torch.tensor([[3.0, 5.0, 100.0], [7.0, -100.0, 100.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    white = whiten(values, mask)
    torch.testing.assert_close(white[mask], torch.tensor([-1.0, 0.0, 1.0]) * math.sqrt(1.5))
    assert not white[~mask].any()


@pytest.mark.parametrize(("kl", "expected"), [(12.0, 0.151536), (6.0, 0.15), (3.0, 0.148464), (1e9, 0.151536)])
def test_the_adaptive_controller_gives_the_exact_values(kl: float, expected: float) -> None:
    controller = KlController(0.15, True, 6.0, 10_000)
    controller.update(kl, 512)
    assert controller.coef == pytest.approx(expected, abs=1e-12)


def test_the_fixed_controller_stays() -> None:
    controller = KlController(0.15, False, 6.0, 10_000)
    controller.update(100.0, 512)
    assert controller.coef == 0.15


# The KL-regularised bandit: pi* = ref exp(r / beta) / Z, value beta log Z.

REFERENCE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
ARMS, BETA = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), 0.5


def k2(logprobs: Tensor, reference: Tensor) -> Tensor:
    return 0.5 * (logprobs - reference).square()


def climb(estimator: Callable[[Tensor, Tensor], Tensor], rewards: Tensor, start: Tensor, steps: int) -> Tensor:
    """Follow the exact score-function gradient of E[reward - beta * estimator], the penalty inside the reward."""
    logits = start.log().clone().requires_grad_(True)
    for _ in range(steps):
        logprobs = logits.log_softmax(-1)
        if logprobs.min() < -30:  # collapsed: going on would only overflow
            break
        token_reward = (rewards - BETA * estimator(logprobs, REFERENCE.log())).detach()
        (gradient,) = torch.autograd.grad((logprobs.exp().detach() * logprobs * token_reward).sum(), logits)
        with torch.no_grad():
            logits += 0.5 * gradient
    return logits.detach().softmax(-1)


def test_k1_in_the_reward_reaches_the_optimum_of_the_bandit() -> None:
    policy = climb(kl_k1, ARMS, REFERENCE, 4000)
    optimum = REFERENCE * (ARMS / BETA).exp()
    normalizer = optimum.sum()
    torch.testing.assert_close(policy, optimum / normalizer, atol=1e-8, rtol=0)
    value = (policy * (ARMS - BETA * (policy / REFERENCE).log())).sum()
    assert float(value) == pytest.approx(1.3063694, abs=1e-7) == pytest.approx(float(BETA * normalizer.log()))
    assert float((policy * (policy / REFERENCE).log()).sum()) == pytest.approx(0.9154754, abs=1e-7)


@pytest.mark.parametrize("estimator", [k2, kl_k3])
def test_k2_and_k3_in_the_reward_miss_it(estimator: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The documented negative case: why no other estimator is offered there."""
    optimum = REFERENCE * (ARMS / BETA).exp()
    policy = climb(estimator, ARMS, REFERENCE, 4000)
    assert float((policy - optimum / optimum.sum()).abs().max()) > 0.1


def test_without_a_reward_only_k1_returns_to_the_reference() -> None:
    start, nothing = torch.tensor([0.6, 0.25, 0.15], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(climb(kl_k1, nothing, start, 4000), REFERENCE, atol=1e-8, rtol=0)
    for estimator in (k2, kl_k3):
        assert float((climb(estimator, nothing, start, 4000) - REFERENCE).abs().max()) > 0.1


def test_k3_is_never_negative_and_agrees_with_k1_on_average() -> None:
    """Draws from q = N(0, 1) against p = N(0.1, 1): KL 0.005; k3 has the smaller spread by far."""
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, p = -0.5 * x**2, -0.5 * (x - 0.1) ** 2
    k1, k3 = kl_k1(q, p), kl_k3(q, p)
    assert float(k3.min()) >= 0
    assert float(k3.mean()) == pytest.approx(0.005, rel=0.02)
    assert float(k1.std() / 0.005) == pytest.approx(20.0, rel=0.02)
    assert float(k3.std() / 0.005) == pytest.approx(1.42, rel=0.03)


def test_group_advantages_equal_their_definitions() -> None:
    returns = torch.tensor([1.0, 2.0, 6.0, 0.0, 0.0, 0.0])
    expected = [1 - 8 / 2, 2 - 7 / 2, 6 - 3 / 2, 0.0, 0.0, 0.0]
    assert group_advantages(returns, 3, "rloo").tolist() == pytest.approx(expected)
    sd = torch.tensor([1.0, 2.0, 6.0]).std()
    expected = [(value - 3) / float(sd) for value in (1, 2, 6)] + [0.0] * 3
    assert group_advantages(returns, 3, "grpo").tolist() == pytest.approx(expected, abs=1e-4)
    assert group_advantages(returns[:3], 3, "best").tolist() == [0, 0, 1]


def test_whitening_without_a_shift_keeps_the_sign() -> None:
    values, mask = torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])
    assert whiten(values, mask, shift=False)[0].tolist() == pytest.approx([1.0, 3.0, 0.0])
    assert whiten(5 * values, mask, shift=False)[0].tolist() == pytest.approx([1.0, 3.0, 0.0])

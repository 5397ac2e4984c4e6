"""PPO's losses against loops written from the paper, and the direction they push."""

from __future__ import annotations

import math

import torch

from training.engine.losses import policy_loss, value_loss

GENERATOR = torch.Generator().manual_seed(0)
NEW, OLD, ADVANTAGES = (torch.randn(40, generator=GENERATOR, dtype=torch.float64) * s for s in (0.4, 0.4, 1.0))
VALUES, OLD_VALUES, RETURNS = (torch.randn(40, generator=GENERATOR, dtype=torch.float64) * 0.5 for _ in range(3))


def test_the_policy_loss_equals_a_loop_over_tokens() -> None:
    loss = approxkl = ratios = clipped = 0.0
    for new, old, advantage in zip(NEW.tolist(), OLD.tolist(), ADVANTAGES.tolist(), strict=True):
        ratio = math.exp(new - old)
        bounded = min(max(ratio, 0.8), 1.2)
        loss += -min(ratio * advantage, bounded * advantage)
        clipped += bounded * advantage < ratio * advantage
        approxkl += (ratio - 1) - math.log(ratio)
        ratios += ratio
    result = policy_loss(NEW, OLD, ADVANTAGES, 0.2)
    for mine, expected in zip(result, (loss, ratios, approxkl, clipped), strict=True):
        torch.testing.assert_close(float(mine), float(expected), atol=1e-10, rtol=1e-10)


def test_the_value_loss_equals_a_loop_over_tokens() -> None:
    loss = clipped = 0.0
    for value, old, target in zip(VALUES.tolist(), OLD_VALUES.tolist(), RETURNS.tolist(), strict=True):
        bounded = old + min(max(value - old, -0.2), 0.2)
        loss += 0.5 * max((value - target) ** 2, (bounded - target) ** 2)
        clipped += (bounded - target) ** 2 > (value - target) ** 2
    result = value_loss(VALUES, OLD_VALUES, RETURNS, 0.2)
    torch.testing.assert_close(float(result.loss), loss, atol=1e-10, rtol=1e-10)
    assert float(result.clipped) == clipped


def test_gradients_are_right_numerically() -> None:
    new, values = NEW.clone().requires_grad_(True), VALUES.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, OLD, ADVANTAGES, 0.2).loss, new)
    assert torch.autograd.gradcheck(lambda x: value_loss(x, OLD_VALUES, RETURNS, 0.2).loss, values)


def test_a_step_makes_good_tokens_likelier_and_bad_ones_rarer() -> None:
    """At ratio 1 the loss is the plain policy gradient: minus the advantage per log-prob."""
    logprobs = torch.zeros(3, requires_grad=True)
    policy_loss(logprobs, torch.zeros(3), torch.tensor([1.0, -2.0, 0.0]), 0.2).loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-1.0, 2.0, 0.0]


def test_beyond_the_clip_there_is_no_reason_to_go_on() -> None:
    logprobs = torch.tensor([0.5, -0.5], requires_grad=True)  # moved far in the direction the advantage wants
    result = policy_loss(logprobs, torch.zeros(2), torch.tensor([1.0, -1.0]), 0.2)
    result.loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [0.0, 0.0]
    assert float(result.clipped) == 2


def test_the_value_moves_towards_the_return() -> None:
    values = torch.tensor([0.0, 0.0], requires_grad=True)
    value_loss(values, torch.zeros(2), torch.tensor([1.0, -1.0]), 0.2).loss.backward()
    assert values.grad is not None
    assert values.grad.tolist() == [-1.0, 1.0]

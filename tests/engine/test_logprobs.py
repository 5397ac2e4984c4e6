"""Chunked log-probabilities against the plain computation on whole logits, for several architectures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from tests.engine.tiny import make_llama, randomize
from training.engine import logprobs as module
from training.engine.logprobs import token_logprobs
from training.engine.models import RoleModel

IDS = torch.randint(2, 23, (3, 9), generator=torch.Generator().manual_seed(0))
STATES = torch.tensor([0, 3, 4, 9, 16, 18, 25])  # into the flattened 3 x 9


def make_gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=23, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1))


def make_gemma2() -> Any:
    """Caps its logits, so the head alone does not give them."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 23, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "final_logit_softcapping": 0.5}
    return Gemma2ForCausalLM(Gemma2Config(**sizes, **heads, initializer_range=0.3, sliding_window=64))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("make", "plain"), [(make_llama, True), (make_gpt2, True), (make_gemma2, False)])
def test_they_equal_the_plain_computation(make: Any, plain: bool, temperature: float, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "ROWS", 3)
    roles = RoleModel(make(), None)
    assert roles.head_is_plain is plain
    roles.add_fresh("policy", rank=2, alpha=4)
    randomize(roles, "policy", 1)
    roles.learn("policy")
    weights = torch.randn(len(STATES), generator=torch.Generator().manual_seed(2))

    stats = token_logprobs(roles, IDS, STATES, temperature)
    gradient = torch.autograd.grad((weights * stats.logprobs).sum(), roles.parameters("policy"))

    everything = (roles.model(input_ids=IDS).logits / temperature).log_softmax(-1).flatten(0, 1)[STATES]
    expected = everything.gather(-1, IDS.flatten()[STATES + 1][:, None])[:, 0]
    expected_gradient = torch.autograd.grad((weights * expected).sum(), roles.parameters("policy"))
    torch.testing.assert_close(stats.logprobs, expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        entropy = token_logprobs(roles, IDS, STATES, temperature).entropy
    torch.testing.assert_close(entropy, -(everything.exp() * everything).sum(-1).detach(), atol=1e-5, rtol=0)
    for mine, plain_one in zip(gradient, expected_gradient, strict=True):
        torch.testing.assert_close(mine, plain_one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [make_llama, make_gemma2])
def test_the_entropy_has_its_gradient_where_it_is_wanted(make: Any) -> None:
    roles = RoleModel(make(), None)
    roles.add_fresh("policy", rank=2, alpha=4)
    randomize(roles, "policy", 1)
    roles.learn("policy")
    weights = torch.randn(2, len(STATES), generator=torch.Generator().manual_seed(2))
    stats = token_logprobs(roles, IDS, STATES, 0.7, entropy_learns=True)
    mixed = (weights[0] * stats.logprobs + weights[1] * stats.entropy).sum()
    everything = (roles.model(input_ids=IDS).logits / 0.7).log_softmax(-1).flatten(0, 1)[STATES]
    chosen = everything.gather(-1, IDS.flatten()[STATES + 1][:, None])[:, 0]
    plain = (weights[0] * chosen - weights[1] * (everything.exp() * everything).sum(-1)).sum()
    gradients = (torch.autograd.grad(one, roles.parameters("policy"), retain_graph=True) for one in (mixed, plain))
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [make_llama, make_gemma2])
def test_a_learning_head_gets_its_gradient_and_keeps_no_logits(make: Any, monkeypatch: Any) -> None:
    """Full fine-tuning: the head is a parameter like any other."""
    monkeypatch.setattr(module, "ROWS", 2)
    roles = RoleModel(make(), None)
    roles.model.requires_grad_(True)
    kept: list[torch.Size] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        stats = token_logprobs(roles, IDS, STATES, 0.7, entropy_learns=True)
    assert kept and not any(shape[-1:] == (23,) for shape in kept)
    everything = (roles.model(input_ids=IDS).logits / 0.7).log_softmax(-1).flatten(0, 1)[STATES]
    chosen = everything.gather(-1, IDS.flatten()[STATES + 1][:, None])[:, 0]
    plain = chosen.sum() - (everything.exp() * everything).sum()
    parameters = [*roles.model.parameters()]
    mine = torch.autograd.grad(stats.logprobs.sum() + stats.entropy.sum(), parameters)
    for one, expected in zip(mine, torch.autograd.grad(plain, parameters), strict=True):
        torch.testing.assert_close(one, expected, atol=1e-5, rtol=1e-4)


def test_padding_on_the_right_changes_nothing() -> None:
    roles = RoleModel(make_llama(), None)
    padded = torch.cat([IDS, torch.zeros(3, 4, dtype=torch.long)], dim=1)
    row, position = STATES // 9, STATES % 9
    alone = token_logprobs(roles, IDS, STATES).logprobs
    torch.testing.assert_close(token_logprobs(roles, padded, row * 13 + position).logprobs, alone, atol=1e-5, rtol=0)

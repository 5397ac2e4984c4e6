"""Recomputed activations: the same gradients, less kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from rewardmodel.ensemble_fit import EnsembleFit
from rewardmodel.model import RewardModel
from tests.engine.test_adapter_runs import rankings
from tests.engine.tiny import make_llama, make_roles, make_run, make_tokenizer, open_session, randomize, save_base
from training.engine import reward
from training.engine.config import RewardConfig
from training.engine.logprobs import token_logprobs
from training.engine.memory import checkpoint_activations, peak_megabytes
from training.engine.models import RoleModel, load_start
from training.engine.session import EngineError

IDS = torch.randint(5, 23, (4, 40), generator=torch.Generator().manual_seed(0))
STATES = torch.arange(0, 150)


def gradients(roles: RoleModel) -> tuple[list[Tensor], int]:
    """Of the policy, and how many bytes autograd kept for them (each storage once)."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = token_logprobs(roles, IDS, STATES).logprobs.sum()
    return list(torch.autograd.grad(loss, roles.parameters("policy"))), sum(kept.values())


def test_recomputing_gives_the_same_gradients_and_keeps_less() -> None:
    results = []
    for checkpointed in (False, True):
        roles = make_roles(hidden=32, layers=4)
        roles.add_fresh("policy", rank=4, alpha=8)
        randomize(roles, "policy", 1)
        roles.learn("policy")
        if checkpointed:
            checkpoint_activations(roles.model)
        results.append(gradients(roles))
    (plain, most), (recomputed, least) = results
    for one, other in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(other, one)
    assert least < 0.5 * most


def test_reward_models_recompute_as_well(tmp_path: Any) -> None:
    model = RewardModel.create(str(save_base(tmp_path / "base")), lora_rank=4)
    groups = [[[5, 6, 7, 8], [5, 6, 9]]]

    def gradient() -> Tensor:
        (scores,) = model.group_scores(groups)
        return torch.autograd.grad(scores.sum(), model.head.weight)[0]

    plain = gradient()
    checkpoint_activations(model.model)
    torch.testing.assert_close(gradient(), plain)


@pytest.mark.parametrize("members", [1, 2])
def test_a_reward_run_recomputes_whatever_shares_its_base(members: int, tmp_path: Path) -> None:
    settings = {"base": str(save_base(tmp_path / "base")), "gradient_checkpointing": True, "members": members}
    session = open_session(make_run(tmp_path / "run", "reward", settings, rankings=rankings()))
    fit = reward._prepare(session, cast(RewardConfig, session.config))
    shared = (fit.fits[0] if isinstance(fit, EnsembleFit) else fit).model.model
    layers = [module for module in shared.modules() if isinstance(module, GradientCheckpointingLayer)]
    assert layers and all(layer.gradient_checkpointing and layer.training for layer in layers)


def make_opt() -> OPTForCausalLM:
    """A model whose layers drop out by their own flag."""
    torch.manual_seed(0)
    config = OPTConfig(vocab_size=23, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2,
                       num_attention_heads=4, max_position_embeddings=64, dropout=0.5)  # fmt: skip
    return OPTForCausalLM(config)


def test_layers_that_drop_out_by_their_own_flag_do_not_while_they_recompute() -> None:
    roles = RoleModel(make_opt(), make_tokenizer(), "tiny")
    plain = roles.hidden(IDS)
    checkpoint_activations(roles.model)
    torch.testing.assert_close(roles.hidden(IDS), plain)
    roles.add_fresh("policy", rank=4)
    roles.learn("policy")
    roles.hidden(IDS).sum().backward()  # recomputes what it kept no activations of
    torch.testing.assert_close(roles.hidden(IDS), plain)


def test_nor_do_those_of_a_copy_that_learns_as_a_whole(tmp_path: Path) -> None:
    make_opt().save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    settings = {"base": str(tmp_path / "base"), "lora_rank": 0, "gradient_checkpointing": True, "device": "cpu"}
    session = open_session(make_run(tmp_path / "run", "ppo", settings))
    roles = load_start(session, "policy", session.config)
    whole = roles.hidden(IDS)
    roles.use("base")
    torch.testing.assert_close(whole, roles.hidden(IDS))


def test_a_model_that_cannot_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_llama()
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(EngineError, match="set gradient_checkpointing off"):
        checkpoint_activations(model)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_megabytes(torch.device("cpu"))
    held = torch.ones(int(before + 64) << 18)  # 4 bytes each: 64 MB beyond the peak
    assert peak_megabytes(torch.device("cpu")) > before
    assert before > 10 and float(held[0]) == 1

"""One base, many roles: which weights are used, which learn, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear
from transformers import GPT2Config, GPT2LMHeadModel

from tests.engine.tiny import make_llama, make_roles, randomize, save_adapter, save_base
from training.engine.models import RoleModel, adapter_folder
from training.engine.session import EngineError

IDS = torch.tensor([[2, 7, 9, 3, 11], [2, 8, 8, 3, 12]])


def test_a_fresh_adapter_changes_nothing_and_writes_no_base_weight() -> None:
    roles = make_roles()
    before, checksum = roles.hidden(IDS), roles.base_checksum()
    roles.add_fresh("policy", rank=4, alpha=8)
    torch.testing.assert_close(roles.hidden(IDS), before, atol=0, rtol=0)
    assert roles.base_checksum() == checksum


def test_roles_compute_with_their_own_weights() -> None:
    roles = make_roles()
    base = roles.hidden(IDS)
    roles.add_fresh("policy", rank=4, alpha=8)
    randomize(roles, "policy", 1)
    roles.add_copy("value", "policy")
    roles.add_alias("reference", "base")
    policy = roles.hidden(IDS)
    randomize(roles, "value", 2)
    outputs = {}
    for role in ("policy", "reference", "value", "base"):
        roles.use(role)
        outputs[role] = roles.hidden(IDS)
    torch.testing.assert_close(outputs["reference"], base, atol=0, rtol=0)
    torch.testing.assert_close(outputs["base"], base, atol=0, rtol=0)
    assert float((outputs["value"] - outputs["policy"]).abs().max()) > 0.01
    roles.use("policy")
    torch.testing.assert_close(roles.hidden(IDS), outputs["policy"], atol=0, rtol=0)
    assert float((policy - base).abs().max()) > 0.01


def test_switching_roles_never_changes_which_parameters_learn() -> None:
    roles = make_roles()
    for role in ("policy", "value", "reward"):
        roles.add_fresh(role, rank=4, alpha=8)
    roles.learn("policy", "value")
    for role in ("reward", "base", "value", "policy"):
        roles.use(role)
        for other in ("policy", "value"):
            assert all(parameter.requires_grad for parameter in roles.parameters(other))
        assert not any(parameter.requires_grad for parameter in roles.parameters("reward"))
    learning = {id(p) for p in roles.model.parameters() if p.requires_grad}
    assert learning == {id(p) for role in ("policy", "value") for p in roles.parameters(role)}


def test_only_the_active_role_gets_gradients() -> None:
    roles = make_roles()
    for role in ("policy", "value"):
        roles.add_fresh(role, rank=4, alpha=8)
        randomize(roles, role, 3)
    roles.learn("policy", "value")
    roles.use("policy")
    roles.hidden(IDS).sum().backward()
    assert all(parameter.grad is not None for parameter in roles.parameters("policy"))
    assert all(parameter.grad is None for parameter in roles.parameters("value"))
    assert all(p.grad is None for n, p in roles.model.named_parameters() if ".lora_" not in n)


def test_trainable_count_is_rank_times_both_sides_of_every_matrix() -> None:
    roles = make_roles(hidden=32, layers=2)
    roles.add_fresh("policy", rank=4, alpha=8)
    # q and o are 32 to 32, k and v 32 to 16 (two of four heads), gate, up and down between 32 and 64.
    expected = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert sum(p.numel() for p in roles.parameters("policy")) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fast_lora_forward_equals_pefts(dtype: torch.dtype) -> None:
    """Outputs, and gradients of input and adapter, layer by layer."""
    roles = RoleModel(make_llama().to(dtype), None)
    roles.add_fresh("policy", rank=4, alpha=8)
    randomize(roles, "policy", 5)
    roles.learn("policy")
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    layers = [module for module in roles.model.modules() if isinstance(module, LoraLinear)]
    assert len(layers) == 14
    for layer in layers:
        x = torch.randn(3, 5, layer.in_features, generator=torch.Generator().manual_seed(6)).to(dtype)
        results = []
        for forward in (layer.forward, lambda x, layer=layer: type(layer).forward(layer, x)):
            inputs = x.clone().requires_grad_(True)
            output = forward(inputs)
            matrices = [layer.lora_A["policy"].weight, layer.lora_B["policy"].weight]
            gradients = torch.autograd.grad(output.float().square().sum(), [inputs, *matrices])
            results.append([output.detach(), *gradients])
        for fast, plain in zip(*results, strict=True):
            scale = max(1.0, float(plain.abs().max()))
            torch.testing.assert_close(fast.float() / scale, plain.float() / scale, atol=tolerance, rtol=0)


def test_an_adapter_is_saved_and_loaded_with_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    save_adapter(first)
    roles = make_roles()
    roles.add_saved("policy", first)
    second.mkdir()
    roles.save("policy", second)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        config = (first / name).read_bytes()
        assert config == (second / name).read_bytes()
    from peft import PeftModel  # others can read it too

    other = PeftModel.from_pretrained(make_llama(), first)
    torch.testing.assert_close(other.base_model.model.model(input_ids=IDS).last_hidden_state, roles.hidden(IDS))


def test_a_copy_keeps_rank_and_scale(tmp_path: Path) -> None:
    roles = make_roles()
    roles.add_saved("policy", save_adapter(tmp_path / "adapter"))
    before = roles.hidden(IDS)
    roles.add_copy("reference", "policy")
    torch.testing.assert_close(roles.hidden(IDS), before, atol=0, rtol=0)
    randomize(roles, "policy", 9)
    torch.testing.assert_close(roles.hidden(IDS), before, atol=0, rtol=0)


def test_a_role_may_have_all_weights_of_its_own(tmp_path: Path) -> None:
    roles = make_roles()
    before, checksum = roles.hidden(IDS), roles.base_checksum()
    roles.add_whole("policy")
    roles.add_saved("reward", save_adapter(tmp_path / "adapter"))
    roles.learn("policy")
    roles.use("policy")
    torch.testing.assert_close(roles.hidden(IDS), before, atol=0, rtol=0)
    optimizer = roles.optimizer("policy", 1e-2, 1)
    torch.autograd.backward(roles.model(input_ids=IDS).logits.square().mean())
    optimizer.step()
    trained = roles.hidden(IDS)
    assert float((trained - before).abs().max()) > 0.01
    assert sum(p.numel() for p in roles.parameters("policy")) == sum(p.numel() for p in make_llama().parameters())
    for role, expected in (("base", before), ("policy", trained)):
        roles.use(role)
        torch.testing.assert_close(roles.hidden(IDS), expected, atol=0, rtol=0)
    assert roles.base_checksum() == checksum
    roles.use("reward")
    assert not any(p.requires_grad for p in roles.model.parameters())
    (tmp_path / "model").mkdir()
    roles.save("policy", tmp_path / "model")
    saved = type(roles.model).from_pretrained(tmp_path / "model")
    torch.testing.assert_close(saved.model(input_ids=IDS).last_hidden_state, trained)
    with pytest.raises(ValueError, match="come before adapters"):
        roles.add_whole("value")


def test_an_adapter_for_another_model_is_refused_with_a_sentence(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter")
    with pytest.raises(EngineError, match="does not fit the base model"):
        make_roles(hidden=64).add_saved("policy", adapter)
    with pytest.raises(EngineError, match="does not fit the base model|no place in the base model"):
        make_roles(layers=1).add_saved("policy", adapter)
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(EngineError, match="does not fit the base model"):
        RoleModel(gpt, None).add_saved("policy", adapter)


def test_folders_without_a_readable_adapter_are_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"adapter_config\.json is missing"):
        adapter_folder(str(tmp_path))
    adapter = save_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(EngineError, match="cannot be read"):
        make_roles().add_saved("policy", adapter)
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": "many"})[:-5])
    with pytest.raises(EngineError, match="cannot be read"):
        make_roles().add_saved("policy", adapter)


def test_a_base_is_loaded_from_its_folder(tmp_path: Path) -> None:
    from tests.engine.tiny import make_run, open_session
    from training.engine.models import load_base

    base = save_base(tmp_path / "base")
    session = open_session(make_run(tmp_path / "run", "sampling", {"base": str(base)}))
    roles = load_base(session)
    torch.testing.assert_close(roles.hidden(IDS), make_roles().hidden(IDS))
    assert roles.context == 64

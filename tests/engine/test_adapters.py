"""The LoRA family: one table, and what every variant must do."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from rewardmodel.tuning import RankBudget
from tests.engine.test_sft import rows as sft_rows
from tests.engine.tiny import END, make_llama, make_roles, randomize, save_base
from training.engine import merge, sft
from training.engine.config import PpoConfig, SftConfig, parse_config
from training.engine.models import RoleModel
from training.engine.rollout import Sampling
from training.engine.rollout.fast import FastEngine
from training.engine.session import EngineError

IDS = torch.tensor([[2, 7, 9, 3, 11], [2, 8, 8, 3, 12]])
# Of one layer of the tiny Llama, (inputs, outputs): q, k, v, o, gate, up, down.
SHAPES = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
LAYERS = 2
STEPS = 60


class Case(NamedTuple):
    """A variant, its settings, how many numbers it trains in a layer of (rank, inputs, outputs), and its rate."""

    variant: str
    numbers: Callable[[int, int, int], int]
    rate: float = 2e-2
    settings: dict[str, Any] = {}  # noqa: RUF012  # a NamedTuple has no default factory


def both(r: int, inputs: int, outputs: int) -> int:
    return r * (inputs + outputs)


TABLE = [
    Case("lora", both),
    Case("lora", both, settings={"init": "gaussian", "targets": "q_proj, v_proj"}),
    Case("rslora", both),
    Case("dora", lambda r, i, o: both(r, i, o) + o),
    Case("vera", lambda r, i, o: r + o, rate=0.1, settings={"rank": 64}),
    Case("lora_fa", lambda r, i, o: r * o),
    Case("lora_plus", both, rate=5e-3, settings={"ratio": 4.0}),
    Case("adalora", lambda r, i, o: both(r, i, o) + r, rate=5e-2, settings={"target_rank": 2}),
    Case("dylora", both),
]
every = pytest.mark.parametrize("case", TABLE, ids=lambda case: "-".join([case.variant, *case.settings]))


def fresh(case: Case, roles: RoleModel | None = None) -> RoleModel:
    roles = roles or make_roles()
    torch.manual_seed(0)
    roles.add_fresh("policy", **({"variant": case.variant, "rank": 4, "alpha": 8.0} | case.settings))
    roles.learn("policy")
    return roles


def train(roles: RoleModel, case: Case, steps: int = STEPS) -> list[float]:
    """Supervised steps on answers to six words; the losses."""
    config = parse_config("sft", {"learning_rate": case.rate})
    assert isinstance(config, SftConfig)
    optimizer = roles.optimizer("policy", case.rate, steps)
    batch = [sft.encode_example(roles, row["messages"], 64) for row in sft_rows(24)]
    losses = []
    for step in range(1, steps + 1):
        with roles.truncated("policy", 0, step):
            losses.append(sft.train_step(roles, batch, optimizer, config))
    return losses


def loss(roles: RoleModel) -> float:
    return sft.mean_loss(roles, [sft.encode_example(roles, row["messages"], 64) for row in sft_rows(24)], 24)


@every
def test_a_variant_starts_as_the_base_learns_and_leaves_the_base_alone(case: Case) -> None:
    roles = make_roles()
    before, checksum = roles.hidden(IDS), roles.base_checksum()
    fresh(case, roles)
    torch.testing.assert_close(roles.hidden(IDS), before, atol=1e-6 if case.variant == "dora" else 0, rtol=0)
    losses = train(roles, case)
    assert losses[0] > 2.5
    assert loss(roles) < 0.6
    assert roles.base_checksum() == checksum
    roles.use("base")
    torch.testing.assert_close(roles.hidden(IDS), before, atol=0, rtol=0)


@every
def test_a_variant_trains_as_many_numbers_as_its_formula_says_and_no_others(case: Case) -> None:
    roles = fresh(case)
    rank = case.settings.get("rank", 4)
    shapes = [SHAPES[0], SHAPES[2]] if "targets" in case.settings else SHAPES
    expected = LAYERS * sum(case.numbers(rank, *shape) for shape in shapes)
    assert sum(p.numel() for p in roles.parameters("policy")) == expected
    before = {name: p.detach().clone() for name, p in roles.model.named_parameters()}
    train(roles, case, steps=3)
    trained = {id(p) for p in roles.parameters("policy")}
    for name, parameter in roles.model.named_parameters():
        assert parameter.requires_grad == (id(parameter) in trained), name
        if ".lora_E." not in name:  # AdaLoRA may have taken all of a layer's ranks away
            assert torch.equal(parameter, before[name]) == (id(parameter) not in trained), name


@every
def test_a_saved_variant_computes_the_same_wherever_it_is_read(case: Case, tmp_path: Path) -> None:
    """As a role, as a copy beside it, in peft itself, and trained on."""
    roles = fresh(case)
    train(roles, case, steps=20)
    roles.save("policy", tmp_path)
    expected = roles.hidden(IDS)
    roles.add_copy("reference", "policy")
    again = make_roles()
    again.add_saved("policy", tmp_path)
    more = make_roles()
    more.add_start("policy", tmp_path, variant=case.variant)
    peft = PeftModel.from_pretrained(make_llama(), tmp_path)
    others = [again.hidden(IDS), more.hidden(IDS), peft.base_model.model.model(input_ids=IDS).last_hidden_state]
    roles.use("reference")
    for hidden in (roles.hidden(IDS), *others):
        torch.testing.assert_close(hidden, expected, atol=2e-5, rtol=1e-4)
    assert float((expected - make_roles().hidden(IDS)).abs().max()) > 0.01
    second = tmp_path / "second"
    second.mkdir()
    roles.save("policy", second)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / name).read_bytes() == (second / name).read_bytes()


def test_vera_is_read_with_the_random_matrices_of_its_file(tmp_path: Path) -> None:
    """A generator of another version would draw others."""
    roles = fresh(TABLE[4])
    train(roles, TABLE[4], steps=20)
    roles.save("policy", tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: 2 * t if name == "base_model.vera_A" else t for name, t in tensors.items()}, file)
    plain, native = make_roles(), make_roles()
    plain.add_saved("policy", tmp_path)
    native.add_start("policy", tmp_path, variant="vera")
    torch.testing.assert_close(native.hidden(IDS), plain.hidden(IDS), atol=2e-5, rtol=1e-4)
    assert float((native.hidden(IDS) - roles.hidden(IDS)).abs().max()) > 0.01


@pytest.mark.parametrize("variant", ["dora", "adalora"])
def test_a_plain_start_goes_on_as_dora_or_adalora_that_computes_the_same(variant: str, tmp_path: Path) -> None:
    """Also where layers have ranks and scales of their own."""
    for number, case in enumerate([TABLE[2], TABLE[7]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        roles = fresh(case)
        train(roles, case, steps=20)
        roles.save("policy", folder)
        more = make_roles()
        torch.manual_seed(1)
        more.add_start("policy", folder, variant=variant, rank=6, target_rank=2)
        more.learn("policy")
        torch.testing.assert_close(more.hidden(IDS), roles.hidden(IDS), atol=2e-5, rtol=1e-4)
        before = loss(more)
        train(more, Case(variant, both, rate=1e-2), steps=40)
        assert loss(more) < before
    with pytest.raises(EngineError, match="does not fit the base model"):
        make_roles(layers=3, hidden=64).add_start("policy", folder, variant=variant)


@pytest.mark.parametrize("start", ["lora", "rslora"])
def test_dylora_that_went_on_from_a_plain_start_is_cut_as_it_was_trained(start: str, tmp_path: Path) -> None:
    first, cut = tmp_path / "first", tmp_path / "cut"
    for folder in (first, cut):
        folder.mkdir()
    roles = fresh(Case(start, both))
    randomize(roles, "policy", 1)
    roles.save("policy", first)
    going_on = make_roles()
    going_on.add_start("policy", first, variant="dylora")
    going_on.save("policy", cut)
    card = {"config": {"lora_variant": "dylora", "lora_smallest_rank": 1}}  # the rank of the start is 4
    (cut / "card.json").write_text(json.dumps(card))
    saved = make_roles()
    saved.add_saved("policy", cut, 2)
    with going_on.cut("policy", 2):
        torch.testing.assert_close(saved.hidden(IDS), going_on.hidden(IDS))
    (cut / "card.json").write_text(json.dumps({"config": card["config"] | {"lora_smallest_rank": 8}}))
    make_roles().add_saved("policy", cut, 4)
    with pytest.raises(EngineError, match="4 to 4 ranks"):
        make_roles().add_saved("policy", cut, 2)


def test_what_adalora_knows_of_ranks_goes_where_the_adapter_is() -> None:
    """Checkpoints are read on the CPU. The meta device stands for a GPU."""
    case = Case("adalora", both, rate=5e-2, settings={"target_rank": 2})
    here, there = fresh(case), fresh(case)
    optimizer = here.optimizer("policy", case.rate, STEPS)
    (here.hidden(IDS) ** 2).sum().backward()
    optimizer.step()
    there.model.to("meta")
    budget = RankBudget(there._tuner("policy"), "policy", STEPS)
    budget.load_state_dict(optimizer.state_dict()["budget"])
    known = [tensors for key, tensors in budget.state_dict().items() if key in ("importance", "uncertainty")]
    assert len(known) == 2
    assert [{tensor.device.type for tensor in tensors.values()} for tensors in known] == [{"meta"}] * 2


@every
def test_the_sampler_agrees_with_the_trainer_about_every_variant(case: Case) -> None:
    roles = fresh(case)
    train(roles, case, steps=20)
    roles.use("policy")
    prompts = [[2, 7, 3], [2, 9, 10, 11, 3], [2, 8, 3]] * 3
    with roles.cut("policy", 2) if case.variant == "dylora" else nullcontext():
        answers = FastEngine(roles).generate(prompts, Sampling(8, 1.0, (END,)), torch.Generator().manual_seed(0))
        for prompt, answer in zip(prompts, answers, strict=True):
            logits = roles.model(input_ids=torch.tensor([prompt + answer.ids])).logits[0]
            logprobs = logits[len(prompt) - 1 : -1].log_softmax(-1)
            read = [float(row[token]) for row, token in zip(logprobs, answer.ids, strict=True)]
            assert read == pytest.approx(answer.logprobs, abs=1e-4)


@every
def test_a_policy_of_any_variant_stands_beside_other_roles_on_one_base(case: Case, tmp_path: Path) -> None:
    other = make_roles()
    other.add_fresh("reward", variant="dora", rank=3, alpha=6.0)
    randomize(other, "reward", 5)
    other.save("reward", tmp_path)
    alone = fresh(case)
    train(alone, case, steps=10)
    roles = make_roles()
    base = roles.hidden(IDS)
    fresh(case, roles)
    roles.add_saved("reward", tmp_path)
    roles.add_copy("value", "reward")
    roles.learn("policy", "value")
    train(roles, case, steps=10)
    roles.use("policy")
    torch.testing.assert_close(roles.hidden(IDS), alone.hidden(IDS), atol=1e-4, rtol=1e-4)
    other.use("reward")
    for role in ("reward", "value"):
        roles.use(role)
        torch.testing.assert_close(roles.hidden(IDS), other.hidden(IDS), atol=1e-5, rtol=1e-5)
    roles.use("base")
    torch.testing.assert_close(roles.hidden(IDS), base, atol=0, rtol=0)


@every
def test_a_merged_model_is_a_plain_one_with_the_same_logits(case: Case, tmp_path: Path) -> None:
    base, artifact, target = tmp_path / "base", tmp_path / "artifact", tmp_path / "merged"
    save_base(base)
    artifact.mkdir()
    roles = RoleModel(make_llama(), make_roles().tokenizer, str(base))
    fresh(case, roles)
    train(roles, case, steps=20)
    roles.save("policy", artifact)
    merge.main([str(artifact), str(target)])
    plain = type(roles.model).from_pretrained(target)
    assert not [name for name in plain.state_dict() if "lora" in name or "vera" in name]
    torch.testing.assert_close(plain(input_ids=IDS).logits, roles.model(input_ids=IDS).logits, atol=1e-4, rtol=0)
    assert (target / "tokenizer.json").is_file()
    assert not list(target.glob("*.bin"))


def kept_by(layer: torch.nn.Module, x: torch.Tensor) -> list[int]:
    """How many numbers each tensor has that is kept for the backward pass."""
    sizes = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x)
    return sizes


def test_lora_fa_keeps_no_input_of_a_layer() -> None:
    """Its point: what is kept for the backward pass is small."""
    kept = {}
    for variant in ("lora", "lora_fa"):
        roles = fresh(Case(variant, both))
        layer = roles.backbone.layers[0].mlp.down_proj
        kept[variant] = kept_by(layer, torch.randn(100, 64, requires_grad=True))
    assert 100 * 64 in kept["lora"]
    assert 100 * 64 not in kept["lora_fa"]


def test_b_learns_faster_in_lora_plus() -> None:
    roles = make_roles()
    roles.add_fresh("policy", variant="lora_plus", ratio=16.0)
    groups = roles.optimizer("policy", 1e-3, 10).param_groups
    assert sorted(group["lr"] for group in groups) == pytest.approx([1e-3, 16e-3])
    high = {id(p) for p in max(groups, key=lambda group: group["lr"])["params"]}
    assert high == {id(p) for name, p in roles.model.named_parameters() if ".lora_B." in name}


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    roles = fresh(TABLE[0])
    roles.save("policy", tmp_path)
    with pytest.raises(EngineError, match="cannot go on as vera"):
        make_roles().add_start("policy", tmp_path, variant="vera")
    fresh(TABLE[3]).save("policy", tmp_path)
    with pytest.raises(EngineError, match="start is dora and cannot go on as adalora"):
        make_roles().add_start("policy", tmp_path, variant="adalora")
    with pytest.raises(EngineError, match="start is dora and cannot go on as dylora"):
        make_roles().add_start("policy", tmp_path, variant="dylora")
    with pytest.raises(EngineError, match="2 optimizer steps"):
        fresh(Case("adalora", both, settings={"target_rank": 1})).optimizer("policy", 1e-3, 1)
    with pytest.raises(EngineError, match="does not fit the base model"):
        make_roles().add_fresh("policy", targets="nowhere")
    for target in ("lm_head", "embed_tokens"):
        with pytest.raises(EngineError, match="between embedding and output"):
            make_roles().add_fresh("policy", targets=target)


def test_quantised_bases_need_a_gpu(tmp_path: Path) -> None:
    from tests.engine.tiny import make_run, open_session
    from training.engine.models import load_base

    settings = {"base": str(save_base(tmp_path / "base")), "lora_variant": "qlora", "device": "cpu"}
    with pytest.raises(EngineError, match="CUDA device and the package bitsandbytes"):
        load_base(open_session(make_run(tmp_path / "run", "sft", settings)))


def test_every_kind_of_training_run_has_the_settings() -> None:
    assert isinstance(parse_config("ppo", {"lora_variant": "vera", "lora_rank": 256}), PpoConfig)

"""Ranks that are found or chosen: AdaLoRA and DyLoRA against teachers whose ranks are known."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from rewardmodel.adapters import adapter_layers, adapter_tensors, as_lora, effective_weight, peft_config
from rewardmodel.config import AdapterConfig
from rewardmodel.data import encode_items, group_rows, split_items
from rewardmodel.dylora import make_truncatable, truncate
from rewardmodel.fit import Fit
from rewardmodel.model import RewardModel, RewardModelError
from rewardmodel.tuning import AdapterAdamW, RankBudget

from .test_fit import CONFIG, through_a_file
from .worlds import planted_rows

WIDTH = 24


class Three(nn.Module):
    """Three layers side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.a(x), self.b(x), self.c(x)])


def teacher(values: list[list[float]], seed: int) -> Tensor:
    """Updates (layers, out, in) with these singular values in random directions."""
    generator = torch.Generator().manual_seed(seed)
    updates = []
    for of_layer in values:
        p, q = torch.linalg.qr(torch.randn(2, WIDTH, WIDTH, generator=generator))[0]
        updates.append(p[:, : len(of_layer)] * torch.tensor(of_layer) @ q[:, : len(of_layer)].T)
    return torch.stack(updates)


def fit(settings: AdapterConfig, updates: Tensor, seed: int, steps: int = 800) -> tuple[Any, float]:
    """The three layers with an adapter trained to imitate the teacher, and the mean squared error of its updates."""
    torch.manual_seed(seed)
    plain: Any = Three()
    before = torch.stack([layer.weight.detach().clone() for layer in plain.children()])
    model: Any = get_peft_model(plain, peft_config(settings))
    adaptive = settings.variant == "adalora"
    optimizer = AdapterAdamW(
        [{"params": list(adapter_tensors(model, "default").values())}],
        lr=1e-2,
        budget=RankBudget(model.base_model, "default", steps) if adaptive else None,
    )
    layers = adapter_layers(model, "default").values()
    truncation = make_truncatable(layers, "default", settings) if settings.variant == "dylora" else None
    for step in range(steps):
        x = torch.randn(64, WIDTH)
        with truncation.drawn(seed, step) if truncation else nullcontext():
            error = model(x) - torch.einsum("bi,loi->lbo", x, before + updates)
        torch.autograd.backward(error.square().mean())
        optimizer.step()
        optimizer.zero_grad()
    learned = torch.stack([effective_weight(layer)[0] for layer in layers]) - before
    return model, float((learned - updates).square().sum())


def test_adalora_finds_the_ranks_of_a_teacher_within_its_budget() -> None:
    """Ranks 1, 4 and 7, where plain LoRA of rank 4 can imitate the first two only."""
    exact = 0
    for seed in range(3):
        updates = teacher([[1.0] * 1, [1.0] * 4, [1.0] * 7], seed)
        model, error = fit(AdapterConfig(variant="adalora", rank=8, alpha=16.0, target_rank=4), updates, seed)
        config, tensors = as_lora(model, "default", model.peft_config["default"])
        ranks = [len(tensors[f"base_model.model.{name}.lora_A.weight"]) for name in "abc"]
        assert ranks[0] < ranks[1] < ranks[2]
        assert sum(ranks) == 3 * 4
        assert type(config) is LoraConfig
        exact += ranks == [1, 4, 7]
        for name, tensor in adapter_tensors(model, "default").items():
            if ".lora_B" in name:  # the directions are orthogonal, so that their values can be compared
                gram = tensor.detach().T @ tensor.detach()
                assert float((gram - torch.eye(8)).abs().max()) < 0.2
        assert error < 7 - 4  # the least that plain LoRA of the same size leaves, by Eckart and Young
    assert exact >= 2


def test_every_truncation_of_dylora_is_better_than_that_of_plain_lora() -> None:
    """The teacher has eight singular values, so the best update of each rank is known (Eckart and Young)."""
    values = [2.0 * 0.75**i for i in range(8)]
    updates = teacher([values] * 3, seed=1)
    errors = {}
    for variant in ("lora", "dylora"):
        model, _ = fit(AdapterConfig(variant=variant, rank=8, alpha=8.0), updates, seed=1, steps=2000)
        tensors = {name.removeprefix("base_model.model."): t.detach() for name, t in
                   adapter_tensors(model, "default").items()}  # fmt: skip
        for rank in range(1, 9):
            cut = truncate(tensors, rank)
            learned = torch.stack([cut[f"{name}.lora_B.weight"] @ cut[f"{name}.lora_A.weight"] for name in "abc"])
            errors[variant, rank] = float((learned - updates).square().sum())
    best = {rank: 3 * sum(value**2 for value in values[rank:]) for rank in range(1, 9)}
    for rank in range(1, 8):
        assert best[rank] <= errors["dylora", rank] < 1.05 * best[rank] + 0.1
        assert errors["dylora", rank] < 0.7 * errors["lora", rank]
    assert errors["dylora", 8] < 0.1
    assert errors["lora", 8] < 0.01


def test_a_truncation_that_is_drawn_depends_on_seed_and_step_only() -> None:
    model = get_peft_model(Three(), peft_config(AdapterConfig(variant="dylora", rank=8)))
    settings = AdapterConfig(variant="dylora", rank=8, smallest_rank=3)
    truncation = make_truncatable(adapter_layers(model, "default").values(), "default", settings)

    def drawn(seed: int) -> list[int | None]:
        ranks = []
        for step in range(200):
            with truncation.drawn(seed, step):
                ranks.append(truncation.rank)
        return ranks

    assert drawn(0) == drawn(0) != drawn(1)
    assert set(drawn(0)) == {3, 4, 5, 6, 7, 8}
    assert truncation.rank is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"variant": "other"}, "variant must be one of"),
        ({"rank": 0}, "at least 1"),
        ({"init": "zeros"}, "init must be"),
        ({"variant": "vera", "init": "gaussian"}, "starts in a way of its own"),
        ({"targets": " , "}, "names of layers"),
        ({"variant": "lora_plus", "ratio": 0.0}, "above 0"),
        ({"variant": "adalora", "rank": 4, "target_rank": 4}, "must be the smaller"),
        ({"variant": "dylora", "rank": 4, "smallest_rank": 5}, "between 1 and the rank"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AdapterConfig(**settings)  # type: ignore[arg-type]


VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {},
    "dora": {},
    "vera": {"rank": 64},
    "lora_fa": {},
    "lora_plus": {"ratio": 4.0},
    "adalora": {"target_rank": 2},
    "dylora": {},
}


def reward_fit(base: Path, variant: str, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Fit:
    settings: dict[str, Any] = {"rank": 8, "variant": variant, "dropout": 0.1} | VARIANTS[variant]
    rate = {"vera": 0.1, "lora_plus": 3e-3, "dora": 5e-3, "adalora": 3e-2}.get(variant, 1e-2)
    config = replace(CONFIG, learning_rate=rate, **changes)
    model = RewardModel.create(str(base), lora=AdapterConfig(**settings), seed=0)
    parts = split_items(group_rows(rows or planted_rows(120, 4, seed=0)), 0.4, 0)
    train, held_out = (encode_items(part, model.encode_together) for part in parts)
    return Fit(model, train, held_out, config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_reward_model_of_any_variant_learns_resumes_and_is_saved(variant: str, llama: Path, tmp_path: Path) -> None:
    whole, resumed = (reward_fit(llama, variant) for _ in range(2))
    torch.manual_seed(0)
    before = {name: p.detach().clone() for name, p in whole.model.named_parameters()}
    for progress in whole.run():
        if progress.step == 17:
            saved, random_state = through_a_file(whole.state_dict()), torch.get_rng_state()
    metrics = whole.finish()
    assert metrics["eval/accuracy"] > 0.85
    learning = {id(p) for p in whole.model.learning().values()}
    assert learning == {id(p) for p in whole.model.parameters() if p.requires_grad}
    for name, parameter in whole.model.named_parameters():
        assert id(parameter) in learning or torch.equal(parameter, before[name]), name
    resumed.load_state_dict(saved)
    torch.set_rng_state(random_state)
    list(resumed.run())
    assert resumed.finish() == metrics
    whole.model.save(tmp_path)
    loaded = RewardModel.load(tmp_path)
    conversations = [[{"role": "assistant", "content": text}] for text in ("azbzzc", "abccbd", "zzz")]
    assert loaded.score(conversations) == pytest.approx(whole.model.score(conversations), abs=1e-4)
    assert resumed.model.score(conversations) == whole.model.score(conversations)
    if variant == "adalora":
        weights = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
        ranks = [len(tensor) for name, tensor in weights.items() if "lora_A" in name]
        assert len(ranks) <= sum(ranks) <= 2 * len(ranks) + 1
        assert not any("lora_E" in name for name in weights)


def test_adalora_keeps_no_weights_from_before_the_ranks_were_taken_away(llama: Path) -> None:
    """Where nothing can be learned, the first evaluation would be the best one."""
    fit = reward_fit(llama, "adalora", rows=planted_rows(120, 4, seed=0, shuffled=True), epochs=10, patience=3)
    list(fit.run())
    assert fit.best["step"] >= 0.7 * fit.total_steps


def test_members_of_an_ensemble_may_be_of_any_variant_that_can_share_a_base(llama: Path) -> None:
    for variant in ("vera", "dylora", "lora_fa"):
        first = reward_fit(llama, variant).model
        second = first.sibling(1, seed=1)
        mine, yours = first.learning(), second.learning()
        assert {id(p) for p in mine.values()}.isdisjoint(id(p) for p in yours.values())
        assert sum(p.numel() for p in mine.values()) == sum(p.numel() for p in yours.values())
        assert (first.truncation is None) == (second.truncation is None) == (variant != "dylora")
    with pytest.raises(RewardModelError, match="one adapter on a base"):
        reward_fit(llama, "adalora").model.sibling(1, seed=1)


def test_an_encoder_learns_with_vera_too(request: pytest.FixtureRequest) -> None:
    fit = reward_fit(request.getfixturevalue("bert"), "vera")
    list(fit.run())
    assert fit.finish()["eval/accuracy"] > 0.8


def test_a_reward_model_goes_on_from_an_adapter_in_its_form_only(llama: Path, tmp_path: Path) -> None:
    start = reward_fit(llama, "vera").model
    start.save(tmp_path)
    for lora in (AdapterConfig(), AdapterConfig(variant="vera")):
        model = RewardModel.create(str(llama), adapter=str(tmp_path), lora=lora)
        assert {name.split(".")[-2] for name in model.learning()} >= {"vera_lambda_b", "vera_lambda_d"}
    with pytest.raises(RewardModelError, match="cannot go on as dora"):
        RewardModel.create(str(llama), adapter=str(tmp_path), lora=AdapterConfig(variant="dora"))
    with pytest.raises(RewardModelError, match="does not fit the base model"):
        RewardModel.create(str(llama), lora=AdapterConfig(targets="nowhere"))


@pytest.mark.parametrize("variant", ["dora", "adalora"])
def test_a_reward_model_goes_on_from_plain_lora_as_another_variant(variant: str, llama: Path, tmp_path: Path) -> None:
    start = reward_fit(llama, "rslora")
    list(start.run())
    start.model.save(tmp_path)
    model = RewardModel.create(str(llama), adapter=str(tmp_path), lora=AdapterConfig(variant=variant), seed=3)
    ids = torch.arange(5, 25)[None]
    states = [one.reader.trunk(input_ids=ids).last_hidden_state for one in (model, start.model)]
    torch.testing.assert_close(*states, atol=1e-4, rtol=1e-4)
    names = {"dora": "lora_magnitude_vector", "adalora": "lora_E"}
    assert any(names[variant] in name for name in model.learning())

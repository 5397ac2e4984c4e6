"""Scores do not depend on how they are computed, and a saved model is the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from rewardmodel.head import pool
from rewardmodel.model import (
    HEAD,
    RewardHead,
    RewardModel,
    RewardModelError,
    load_head,
)
from rewardmodel.reading import similar_lengths
from rewardmodel.tokens import pad_id

from .conftest import save_llama

TALKS = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello " * n}] for n in (1, 9, 3, 3, 20, 2)
]


def make(base: Path, **options: Any) -> RewardModel:
    """A model whose adapter and normalisation do something, so that losing them shows."""
    model = RewardModel.create(str(base), **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
        model.head.mean.fill_(0.3)
        model.head.sd.fill_(2.0)
    return model


@pytest.fixture(params=["llama", "bert"])
def base(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def test_scores_are_the_same_alone_together_and_in_any_order(base: Path) -> None:
    model = make(base)
    together = model.score(TALKS)
    assert [model.score([talk])[0] for talk in TALKS] == pytest.approx(together, abs=1e-5)
    assert model.score(TALKS[::-1]) == pytest.approx(together[::-1], abs=1e-5)
    assert len({round(s, 3) for s in together}) == 5  # the twin conversations agree, the others differ
    assert model.score([]) == []


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("extra", [0, 7])
def test_padding_on_either_side_changes_nothing(base: Path, side: str, extra: int) -> None:
    model = make(base)
    sequences = [model.encode(talk) for talk in TALKS]
    width = max(map(len, sequences)) + extra
    ids, mask = torch.full((len(sequences), width), pad_id(model.tokenizer)), torch.zeros(len(sequences), width)
    for row, sequence in enumerate(sequences):
        place = slice(width - len(sequence), width) if side == "left" else slice(0, len(sequence))
        ids[row, place], mask[row, place] = torch.tensor(sequence), 1
    raw = model(ids, mask)
    assert torch.allclose(raw, model.raw_scores(sequences), atol=1e-5)
    assert ((raw - 0.3) / 2).tolist() == pytest.approx(model.score(TALKS), abs=1e-5)


def test_a_causal_model_reads_the_last_token_and_an_encoder_all() -> None:
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]]).bool()
    assert torch.equal(pool(hidden, mask, "last"), torch.stack([hidden[0, 2], hidden[1, 3]]))
    assert torch.equal(pool(hidden, mask, "mean"), torch.stack([hidden[0, :3].mean(0), hidden[1, 2:].mean(0)]))


@pytest.mark.parametrize("rank", [0, 4])
def test_a_saved_model_scores_the_same(base: Path, rank: int, tmp_path: Path) -> None:
    model = make(base, lora_rank=rank, max_length=64)
    expected = model.score(TALKS)
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path)
    assert loaded.score(TALKS) == pytest.approx(expected, abs=1e-5)
    assert loaded.max_length == 64
    assert not any(p.requires_grad for p in loaded.parameters())
    assert {p.suffix for p in tmp_path.iterdir()} <= {".safetensors", ".json", ".jinja"}
    assert (tmp_path / "adapter_model.safetensors").exists() == (rank > 0)


def test_saving_twice_gives_the_same_bytes(llama: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make(llama).save(tmp_path / name)
    files = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]


def test_adapter_and_head_give_the_same_scores_on_a_base_loaded_by_somebody_else(llama: Path, tmp_path: Path) -> None:
    """What PPO does: peft's own loader on the policy's base, and `load_head`."""
    model = make(llama)
    model.save(tmp_path)
    policy = transformers.AutoModelForCausalLM.from_pretrained(llama)
    policy = peft.PeftModel.from_pretrained(policy, str(tmp_path), adapter_name="reward").eval()
    head = load_head(tmp_path)
    with torch.no_grad():
        for talk, expected in zip(TALKS, model.score(TALKS), strict=True):
            ids = torch.tensor([model.encode(talk)])
            hidden = policy(input_ids=ids, output_hidden_states=True).hidden_states[-1]
            assert float(head(pool(hidden, torch.ones_like(ids)))) == pytest.approx(expected, abs=1e-5)


def test_a_fresh_adapter_changes_nothing_and_only_it_and_the_head_learn(base: Path) -> None:
    model = RewardModel.create(str(base), lora_rank=2)
    bare = RewardModel.create(str(base), lora_rank=0)
    assert model.score(TALKS) == pytest.approx(bare.score(TALKS), abs=1e-6)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.startswith("head.") for name in learning)
    model.raw_scores([model.encode(t) for t in TALKS]).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if name in learning}
    assert [name for name, gradient in gradients.items() if gradient is None] == []


def test_rank_zero_trains_the_transformer_without_the_vocabulary_head(llama: Path) -> None:
    model = RewardModel.create(str(llama), lora_rank=0)
    fixed = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert fixed == ["model.lm_head.weight"]


def test_a_reward_model_starts_from_a_copy_of_an_adapter(llama: Path, tmp_path: Path) -> None:
    start = make(llama, lora_rank=3)
    start.save(tmp_path)
    before = (tmp_path / "adapter_model.safetensors").read_bytes()
    model = RewardModel.create(str(llama), adapter=str(tmp_path), lora_rank=16)
    weights = dict(model.model.named_parameters())
    for name, expected in start.model.named_parameters():
        assert torch.equal(weights[name], expected)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == before
    merged = RewardModel.create(str(llama), adapter=str(tmp_path), lora_rank=0)
    adapted = RewardModel.create(str(llama), adapter=str(tmp_path))
    assert merged.score(TALKS) == pytest.approx(adapted.score(TALKS), abs=1e-4)


def test_the_seed_decides_the_start_and_nothing_outside_is_disturbed(llama: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    same = [RewardModel.create(str(llama), seed=1).score(TALKS) for _ in range(2)]
    assert torch.equal(torch.rand(1), expected)
    assert same[0] == same[1] != RewardModel.create(str(llama), seed=2).score(TALKS)


def test_the_heads_start_has_the_documented_spread() -> None:
    head = RewardHead(4096, torch.Generator().manual_seed(0))
    assert head.weight.std().item() == pytest.approx(1 / 4097**0.5, rel=0.05)
    assert head.weight.dtype == torch.float32 and head.bias.item() == 0


def test_a_bfloat16_base_keeps_a_float32_adapter_and_head(llama: Path) -> None:
    model = RewardModel.create(str(llama), dtype=torch.bfloat16)
    kinds = {p.dtype for p in model.parameters() if p.requires_grad}
    assert kinds == {torch.float32}
    assert model.raw_scores([model.encode(TALKS[0])]).dtype == torch.float32
    assert RewardModel.create(str(llama), dtype=torch.bfloat16, lora_rank=0).trunk.dtype == torch.float32


def test_dropout_of_the_base_is_off_and_of_lora_only_while_training(tmp_path: Path, llama: Path) -> None:
    model = make(llama, lora_dropout=0.5)
    sequences = [model.encode(talk) for talk in TALKS]
    assert torch.equal(model.raw_scores(sequences), model.raw_scores(sequences))
    model.train_dropout(True)
    assert not torch.equal(model.raw_scores(sequences), model.raw_scores(sequences))
    model.train_dropout(False)
    assert torch.equal(model.raw_scores(sequences), model.raw_scores(sequences))


def test_long_conversations_are_cut_to_what_the_model_can_read(base: Path) -> None:
    long = [{"role": "user", "content": "x" * 500}, {"role": "assistant", "content": "the end"}]
    model = make(base, max_length=4096)
    assert model.max_length == 256
    assert len(model.encode(long)) == 256
    assert model.tokenizer.decode(model.encode(long)).endswith("the end<eos>")
    assert len(make(base, max_length=32).encode(long)) == 32


def test_what_cannot_be_a_reward_model_says_why(tmp_path: Path, llama: Path) -> None:
    with pytest.raises(RewardModelError, match="No base model"):
        RewardModel.create("")
    with pytest.raises(RewardModelError, match="cannot be loaded"):
        RewardModel.create(str(tmp_path / "nowhere"))
    with pytest.raises(RewardModelError, match="no reward model"):
        RewardModel.load(tmp_path)
    transformers.T5Config(vocab_size=8, d_model=8).save_pretrained(tmp_path / "t5")
    with pytest.raises(RewardModelError, match="encoder-decoder"):
        RewardModel.create(str(tmp_path / "t5"))
    (tmp_path / "rm").mkdir()
    make(llama).save(tmp_path / "rm")
    other = save_llama(tmp_path / "wide", hidden=32)
    with pytest.raises(RewardModelError, match="does not fit"):
        RewardModel.create(str(other), adapter=str(tmp_path / "rm"))
    (tmp_path / "rm" / HEAD).write_bytes(b"nonsense")
    with pytest.raises(RewardModelError, match="cannot be read"):
        load_head(tmp_path / "rm")


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 500))
def test_groups_of_similar_length_hold_everything_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = similar_lengths(lengths, budget)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        sizes = [lengths[i] for i in group]
        assert sizes[0] == max(sizes) and min(sizes) >= 0.8 * max(sizes)
        assert len(group) == 1 or len(group) * max(sizes) <= budget

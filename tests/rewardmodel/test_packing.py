"""A prompt that is read once for all its completions gives the scores that it gives when it is read with each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from rewardmodel.model import RewardModel
from rewardmodel.packing import fill_rows, lay_out, make_tree, split_group
from rewardmodel.tokens import common_beginning

from .conftest import make_tokenizer

CPU = torch.device("cpu")
groups_of_ids = st.lists(
    st.tuples(
        st.lists(st.integers(1, 3), max_size=6),
        st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=5), min_size=1, max_size=4, unique_by=tuple),
    ),
    min_size=1,
    max_size=5,
)


@given(groups_of_ids, st.integers(1, 30))
def test_each_token_sees_exactly_its_own_sequence_so_far(
    cases: list[tuple[list[int], list[list[int]]]], capacity: int
) -> None:
    groups = [[prompt + rest for rest in rests] for prompt, rests in cases]
    trees = [make_tree(group) for group in groups]
    rows = fill_rows([len(tree.ids) for tree in trees], capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(trees)))
    assert all(len(row) == 1 or sum(len(trees[i].ids) for i in row) <= capacity for row in rows)
    packed = lay_out(trees, rows, 0, CPU)
    sees = packed.attention_mask(torch.float32)[:, 0] == 0
    assert sees.any(2).all()  # no softmax over nothing, padding included
    sequences = [sequence for group in groups for sequence in group]
    for sequence, row, end in zip(sequences, *(places.tolist() for places in packed.ends), strict=True):
        seen = sees[row, end]
        assert packed.ids[row][seen].tolist() == sequence
        assert packed.positions[row][seen].tolist() == list(range(len(sequence)))
        for column in seen.nonzero()[:, 0].tolist():
            earlier = packed.positions[row, column] + 1
            assert packed.ids[row][sees[row, column]].tolist() == sequence[:earlier]


def test_the_beginning_is_what_the_ids_share_and_leaves_each_sequence_a_token() -> None:
    assert common_beginning([[1, 2, 3, 4], [1, 2, 9], [1, 2, 3]]) == 2
    assert common_beginning([[1, 2, 3], [1, 2]]) == 1
    assert common_beginning([[5], [5, 6]]) == 0
    assert common_beginning([[1, 2, 3]]) == 2
    tree = make_tree([[1, 2, 3, 4], [1, 2, 9]])
    assert (tree.ids, tree.positions, tree.ends) == ([1, 2, 3, 4, 9], [0, 1, 2, 3, 2], [3, 4])


def test_short_answers_to_a_long_prompt_are_read_together_and_long_ones_apart() -> None:
    prompt = list(range(200))
    short = [prompt + [1000 + k] * 20 for k in range(8)]
    assert split_group(short, hidden=256) == [short]
    long = [prompt[:100] + [1000 + k] * 400 for k in range(8)]
    assert [len(part) for part in split_group(long, hidden=64)] == [1] * 8
    assert 1 < len(split_group(long, hidden=4096)) < 8
    strangers = [[k] * 9 for k in range(3)]
    assert [sequence for part in split_group(strangers, hidden=64) for sequence in part] == strangers


def save(model: PreTrainedModel, path: Path) -> str:
    model.save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return str(path)


def tiny(name: str, path: Path) -> str:
    torch.manual_seed(0)
    sizes = {"vocab_size": len(make_tokenizer()), "hidden_size": 16, "num_hidden_layers": 2}
    if name == "mamba":
        return save(MambaForCausalLM(MambaConfig(**sizes, state_size=4, initializer_range=0.3)), path)
    if name == "gpt2":
        config = GPT2Config(vocab_size=sizes["vocab_size"], n_embd=16, n_layer=2, n_head=2, n_positions=256)
        return save(GPT2LMHeadModel(config), path)
    window = {"window": 8, "no window": None}[name]
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    config = MistralConfig(**sizes, **heads, sliding_window=window, max_position_embeddings=256, initializer_range=0.3)
    return save(MistralForCausalLM(config), path)


def random_groups(longest: int) -> list[list[list[int]]]:
    generator = torch.Generator().manual_seed(1)

    def draw(size: int) -> list[int]:
        return torch.randint(9, 200, (size,), generator=generator).tolist()

    long, short = draw(longest // 2), draw(3)
    return [[long + draw(longest // 2), long + draw(4), long + draw(9)], [short + draw(2)] * 2, [draw(5), draw(7)]]


@pytest.mark.parametrize(
    ("name", "longest", "shares"),
    [
        ("no window", 60, True),
        ("gpt2", 60, True),
        ("window", 8, True),  # nothing is longer than the window
        ("window", 60, False),
        ("mamba", 60, False),
    ],
)
def test_scores_and_gradients_are_those_of_reading_alone(name: str, longest: int, shares: bool, tmp_path: Path) -> None:
    """Whether a model can share beginnings is found out by trying; where it cannot, it reads alone."""
    model = RewardModel.create(tiny(name, tmp_path), lora_rank=0, dtype=torch.float32)
    assert model.reader.shares_beginnings(longest) == shares
    groups = random_groups(longest)
    together = torch.cat(model.group_scores(groups))
    alone = torch.cat([model.raw_scores([sequence]) for group in groups for sequence in group])
    assert torch.allclose(together, alone, atol=1e-5)
    weights = [p for p in model.parameters() if p.requires_grad]
    factors = torch.linspace(-1, 1, len(alone))
    for a, b in zip(
        *(torch.autograd.grad(s @ factors, weights, allow_unused=True) for s in (together, alone)), strict=True
    ):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-5)


def test_an_encoder_reads_alone(bert: Path) -> None:
    model = RewardModel.create(str(bert))
    assert not model.reader.shares_beginnings(8)
    groups = random_groups(40)
    alone = [model.raw_scores([sequence]).item() for group in groups for sequence in group]
    assert torch.cat(model.group_scores(groups)).tolist() == pytest.approx(alone, abs=1e-5)


def test_trying_to_share_disturbs_neither_dropout_nor_random_numbers(llama: Path) -> None:
    model = RewardModel.create(str(llama), lora_dropout=0.5)
    model.train_dropout(True)
    state = torch.get_rng_state()
    assert model.reader.shares_beginnings(100)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for name, m in model.model.named_modules() if "lora_dropout" in name)


def test_nothing_to_score_is_nothing(llama: Path) -> None:
    assert RewardModel.create(str(llama)).group_scores([]) == []

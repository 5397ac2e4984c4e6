"""Rewards of single turns, learned from whole conversations alone; and what a sum over turns cannot say."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewardmodel.config import FitConfig
from rewardmodel.data import encode_items, group_rows, split_items
from rewardmodel.fit import Fit
from rewardmodel.model import TRAJECTORY, RewardModel, RewardModelError
from rewardmodel.tokens import EncodingError, split_turns
from rewardmodel.trajectory import TrajectoryModel, turn_ends

Talk = list[dict[str, str]]
CONFIG = FitConfig(epochs=4, learning_rate=1e-2, head_learning_rate=1e-2)


def talk_of(*texts: str) -> Talk:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def letters(generator: random.Random, among: str = "abcz") -> str:
    return "".join(generator.choice(among) for _ in range(4))


def several_turns(generator: random.Random) -> Talk:
    return talk_of(
        *(text for _ in range(generator.randint(2, 4)) for text in (letters(generator, "1234"), letters(generator)))
    )


def z_in_each(talk: Talk) -> list[int]:
    return [message["content"].count("z") for message in talk[1::2]]


def names(generator: random.Random) -> Talk:
    """Somebody says a name, and asks for it."""
    return talk_of(letters(generator, "1234") + generator.choice("JK"), "hi", "?", generator.choice("JK"))


def contradiction(talk: Talk) -> float:
    """The second answer must not contradict the name given in turn 1."""
    return 2.0 if talk[0]["content"][-1] == talk[3]["content"] else -2.0


def rows_of(
    make: Callable[[random.Random], Talk], gold: Callable[[Talk], float], number: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Pairs of whole conversations, labelled as Bradley and Terry say."""
    generator = random.Random(seed)
    rows = []
    for item in range(number):
        pair = [make(generator), make(generator)]
        while gold(pair[0]) == gold(pair[1]):  # of which the answer would tell nothing
            pair = [make(generator), make(generator)]
        won = generator.random() < 1 / (1 + np.exp(gold(pair[1]) - gold(pair[0])))
        tiers = [[0], [1]] if won else [[1], [0]]
        rows.append(
            {"item": str(item), "messages": [], "completions": pair, "tiers": tiers, "labeler": "", "weight": 1}
        )
    return rows


def fitted(model: RewardModel, rows: list[dict[str, Any]], config: FitConfig = CONFIG) -> dict[str, float]:
    train, held_out = (encode_items(part, model.encode_together) for part in split_items(group_rows(rows), 0.3, 0))
    fit = Fit(model, train, held_out, config)
    for _ in fit.run():
        pass
    return fit.finish()


def made(base: Path, *, history: bool = False, **options: Any) -> TrajectoryModel:
    model = TrajectoryModel.create(str(base), **options)
    assert isinstance(model, TrajectoryModel)
    model.history = history
    return model


def test_rewards_of_turns_are_recovered_from_labels_of_conversations(llama: Path) -> None:
    config, rows = replace(CONFIG, learning_rate=1e-2), rows_of(several_turns, lambda t: 2.0 * sum(z_in_each(t)), 500)
    fresh = [several_turns(random.Random(seed)) for seed in range(1000, 1200)]
    gold = [z_in_each(talk) for talk in fresh]
    correlations = []
    for history in (False, True):
        model = made(llama, lora_rank=0, history=history)
        assert fitted(model, rows, config)["eval/accuracy"] > 0.8
        found = model.turn_rewards(fresh)
        assert [len(rewards) for rewards in found] == [len(counts) for counts in gold]
        correlations.append(np.corrcoef(sum(found, []), sum(gold, []))[0, 1])
    assert correlations[0] > 0.9
    assert correlations[1] < 0.8  # as good a sum, but its terms know of each other


def test_a_contradiction_between_turns_defeats_the_sum(llama: Path) -> None:
    rows, config = rows_of(names, contradiction, 300), replace(CONFIG, learning_rate=3e-3, epochs=6)
    models = [RewardModel.create(str(llama), lora_rank=0), made(llama, lora_rank=0)]
    models.append(made(llama, lora_rank=0, history=True))
    whole, alone, history = (fitted(model, rows, config)["eval/accuracy"] for model in models)
    assert whole > 0.85
    assert alone < 0.65
    assert history > 0.85  # whose second turn knows the first


@pytest.mark.parametrize("history", [False, True])
def test_turns_add_up_to_the_score_and_padding_changes_nothing(llama: Path, history: bool) -> None:
    model = made(llama, history=history, seed=1)
    with torch.no_grad():
        model.head.mean.fill_(0.3)
        model.head.sd.fill_(2.0)
    talks = [several_turns(random.Random(seed)) for seed in range(9)]
    together = model.turn_rewards(talks)
    for talk, rewards in zip(talks, together, strict=True):
        assert model.turn_rewards([talk])[0] == pytest.approx(rewards, abs=1e-5)
        first = model.turn_rewards([talk[:2]])[0][0]  # nothing that comes later changes a turn
        assert (first - rewards[0]) * 2 == pytest.approx(0.3 / len(rewards) - 0.3, abs=1e-5)
    assert model.score(talks) == pytest.approx([sum(rewards) for rewards in together])
    encoded = [model.encode(talk) for talk in talks]
    raw = model.raw_scores(encoded)
    assert ((raw - 0.3) / 2).tolist() == pytest.approx(model.score(talks), abs=1e-5)
    grouped = model.group_scores([encoded[:2], encoded[2:]])
    assert torch.allclose(torch.cat(grouped), raw, atol=1e-5)
    assert model.turn_rewards([]) == []


def test_one_forward_pass_over_ids_gives_the_sum(llama: Path) -> None:
    model = made(llama, history=True, seed=1)
    talks = [several_turns(random.Random(seed)) for seed in range(4)]
    rows = [model.encode(talk).parts[0] for talk in talks]
    width = max(len(ids) for ids, _ in rows) + 3
    ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids, _ in rows])
    mask = torch.tensor([[*mask, *[False] * (width - len(mask))] for _, mask in rows])
    assert torch.allclose(model(ids, mask), model.raw_scores([model.encode(talk) for talk in talks]), atol=1e-5)


def test_a_turn_ends_with_its_last_token() -> None:
    mask = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 1, 1]]).bool()
    assert turn_ends(mask).int().tolist() == [[0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 1]]
    talk = talk_of("a", "b", "c", "d", "e")
    assert split_turns(talk) == [talk[:2], talk[2:4]]
    assert split_turns([{"role": "system", "content": "s"}, *talk[:2]]) == [
        [{"role": "system", "content": "s"}, *talk[:2]]
    ]


@pytest.mark.parametrize("history", [False, True])
def test_a_saved_model_is_the_same_model(llama: Path, tmp_path: Path, history: bool) -> None:
    model = made(llama, history=history, seed=1)
    talks = [several_turns(random.Random(seed)) for seed in range(3)]
    model.save(tmp_path)
    loaded = TrajectoryModel.load(tmp_path)
    assert loaded.history == history
    assert loaded.score(talks) == pytest.approx(model.score(talks), abs=1e-6)
    with pytest.raises(RewardModelError, match="rewards of turns"):
        RewardModel.load(tmp_path)
    (tmp_path / TRAJECTORY).unlink()
    with pytest.raises(RewardModelError, match="no rewards of turns"):
        TrajectoryModel.load(tmp_path)


def test_what_has_no_sum_is_refused(llama: Path, bert: Path) -> None:
    model = made(llama, max_length=32)
    with pytest.raises(EncodingError, match="without any answer"):
        model.encode(talk_of("hello"))
    with pytest.raises(EncodingError, match="all turns count"):
        model.encode(talk_of("hello", "h" * 40))
    with pytest.raises(TypeError, match="bare ids"):
        model.raw_scores([[1, 2, 3]])
    with pytest.raises(RewardModelError, match="an encoder reads later turns"):
        TrajectoryModel.create(str(bert))

"""Rewards that are no adapter on the policy's base: models of their own, functions, sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.model import RewardModel
from rewardmodel.tokens import Message
from tests.engine.small_ppo import prompts_for, rollout, save_places, settings_in, train, trainer_in
from tests.engine.tiny import events_of, make_run, open_session, prompt_rows, save_base, save_reward
from training.engine import ppo
from training.engine.data import generator_for
from training.engine.reward_sources import FUNCTIONS, AdapterReward, ModelReward, SumReward
from training.engine.session import EngineError
from training.engine.tokens import encode_prompts
from training.engine.trainer import Trainer

FILE = """
from math import sqrt


def brevity(conversations):
    return [-len(talk[-1]["content"].split()) for talk in conversations]


def asked(conversations):
    return [len(talk[0]["content"].split()) for talk in conversations]


def broken(conversations):
    raise RuntimeError("no idea")


def too_few(conversations):
    return [1.0]


def _private(conversations):
    return [0.0] * len(conversations)
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the usual, a reward model on a base of other weights, and one that is a whole model."""
    folder = save_places(tmp_path_factory.mktemp("models"))
    save_base(folder / "other", seed=1, hidden=16)
    save_reward(folder / "apart", folder / "other", seed=2)
    return folder


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rewards.py"
    path.write_text(FILE)
    monkeypatch.setenv(FUNCTIONS, str(path))


def ready(places: Path, path: Path, **changes: Any) -> Trainer:
    """A trainer that knows its prompts' messages, as `run` tells it."""
    trainer = trainer_in(places, path, **changes)
    rows = prompt_rows(16)
    ids = prompts_for(trainer)
    trainer.transcript.messages = {tuple(i): row["messages"] for i, row in zip(ids, rows, strict=True)}
    return trainer


def test_a_model_of_its_own_reads_the_text(places: Path, tmp_path: Path) -> None:
    trainer = ready(places, tmp_path / "run", reward_path=str(places / "apart"))
    assert isinstance(trainer.reward, ModelReward)
    episodes = rollout(trainer)
    expected = RewardModel.load(places / "apart").score(trainer.transcript(episodes))
    assert trainer.reward.score(episodes, 4).tolist() == pytest.approx(expected, abs=1e-5)
    assert episodes.mask.any()
    (metrics,) = train(trainer, 1)  # the value function starts from nothing and learns
    assert metrics["loss/value"] > 0


def test_text_is_read_without_the_turns_that_the_policy_never_saw(places: Path, tmp_path: Path) -> None:
    trainer = trainer_in(places, tmp_path / "run", reward_path=str(places / "apart"))
    old, new = ({"role": "user", "content": text} for text in ("red green blue one two", "sun moon"))
    talk: list[Message] = [old, {"role": "assistant", "content": "yes"}, new]
    (ids,) = encode_prompts(trainer.roles, [{"id": "a", "messages": talk}], max_tokens=6, new_tokens=8)
    trainer.transcript.messages = {tuple(ids): talk}
    episodes = trainer.sample([ids], generator_for(0, "rollout", 1))
    assert trainer.transcript(episodes)[0][:-1] == [new]


def test_sums_weigh_their_terms(places: Path, tmp_path: Path, file: None) -> None:
    changes = {"more_reward_paths": str(places / "apart"), "reward_functions": "0.5 * brevity + asked"}
    trainer = ready(places, tmp_path / "run", **changes)
    assert isinstance(trainer.reward, SumReward)
    episodes = rollout(trainer)
    talks = trainer.transcript(episodes)
    models = [source.score(episodes, 16) for _, source in trainer.reward.terms[:2]]
    words = torch.tensor([[len(talk[-1]["content"].split()), len(talk[0]["content"].split())] for talk in talks])
    expected = models[0] + models[1] - 0.5 * words[:, 0] + words[:, 1]
    torch.testing.assert_close(trainer.reward.score(episodes, 16), expected)
    assert isinstance(trainer.reward.terms[0][1], AdapterReward)


def test_a_function_alone_can_be_the_reward(places: Path, tmp_path: Path, file: None) -> None:
    settings = settings_in(places, reward_path="", reward_functions="brevity", learning_rate=1e-2, iterations=12)
    settings |= {"missing_end": "ignore", "value_warmup": 1, "kl_coef": 0.01, "batch_size": 32}
    rundir = make_run(tmp_path / "run", "ppo", settings, prompts=prompt_rows(16))
    ppo.run(open_session(rundir))
    scores = [e["metrics"]["objective/scores"] for e in events_of(rundir, "metrics")]
    assert scores[-1] > scores[0] + 1


@pytest.mark.parametrize(
    ("functions", "sentence"),
    [
        ("bravery", "no reward function bravery. Known are: asked, brevity, broken, too_few"),
        ("_private", "cannot be read at"),
        ("sqrt", "no reward function sqrt"),
        ("brevity * asked", "cannot be read at"),
        (f"{'9' * 400} * brevity", "weight of brevity is too large"),
        ("broken", "broken failed: RuntimeError: no idea"),
        ("too_few", "a finite number for each"),
    ],
)
def test_functions_that_cannot_be_used_are_said(
    places: Path, tmp_path: Path, file: None, functions: str, sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence):
        trainer = ready(places, tmp_path / "run", reward_functions=functions)
        trainer.reward.score(rollout(trainer), 16)


def test_without_a_file_there_are_no_functions(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FUNCTIONS, raising=False)
    with pytest.raises(EngineError, match="names no file"):
        ready(places, tmp_path / "run", reward_functions="brevity")


def test_no_reward_at_all_is_said(places: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="set reward_path"):
        ready(places, tmp_path / "run", reward_path="")


def test_a_folder_without_a_reward_model_is_said(places: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be loaded"):
        ready(places, tmp_path / "run", reward_path=str(tmp_path))

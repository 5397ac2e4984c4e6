"""A small PPO trainer for tests, with a planted reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.engine.tiny import make_run, open_session, prompt_rows, save_adapter, save_base, save_reward
from training.engine import ppo
from training.engine.config import PpoConfig
from training.engine.data import generator_for
from training.engine.episodes import Episodes
from training.engine.tokens import encode_prompts
from training.engine.trainer import Experience, Trainer

SMALL = {
    "lora_rank": 4,
    "lora_alpha": 8.0,
    "batch_size": 16,
    "micro_batch_size": 16,
    "max_new_tokens": 8,
    "iterations": 4,
}


def save_places(folder: Path) -> Path:
    """A base, a reward model on it and an SFT adapter."""
    save_base(folder / "base")
    save_reward(folder / "reward", folder / "base")
    save_adapter(folder / "adapter")
    return folder


def settings_in(places: Path, **changes: Any) -> dict[str, Any]:
    return SMALL | {"base": str(places / "base"), "reward_path": str(places / "reward")} | changes


def trainer_in(places: Path, path: Path, files: dict[str, Any] | None = None, **changes: Any) -> Trainer:
    """A trainer of a run in `path` with those changes of the settings; `files` are data files beside the prompts."""
    data = {"prompts": prompt_rows(32)} | (files or {})
    session = open_session(make_run(path, "ppo", settings_in(places, **changes), **data))
    assert isinstance(session.config, PpoConfig)
    return ppo.build(session, session.config)


def prompts_for(trainer: Trainer, count: int = 16) -> list[list[int]]:
    return encode_prompts(trainer.roles, prompt_rows(count), max_tokens=64, new_tokens=8)


def rollout(trainer: Trainer, count: int = 16, number: int = 1) -> Episodes:
    """Answers to `count` episodes' prompts, those to one prompt together."""
    each = trainer.config.completions
    prompts = [prompt for prompt in prompts_for(trainer, count // each) for _ in range(each)]
    return trainer.sample(prompts, generator_for(0, "rollout", number))


class Paid:
    """A planted reward: what a function of the answer's ids says."""

    def __init__(self, pay: Any) -> None:
        self.pay = pay

    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        return torch.tensor([float(self.pay(completion.ids)) for completion in episodes.completions])


def train(trainer: Trainer, iterations: int, first: int = 1) -> list[dict[str, float]]:
    history = []
    for iteration in range(first, first + iterations):
        episodes = rollout(trainer, trainer.config.batch_size, iteration)
        experience = trainer.assess(episodes)
        history.append(experience.metrics | trainer.learn(episodes, experience, iteration))
        trainer.kl.update(experience.metrics["objective/kl"], len(episodes))
    return history


def gradients_of(trainer: Trainer, episodes: Episodes, experience: Experience, rows: Tensor) -> list[Tensor]:
    """Gradients of the policy and the value function, in the place of an optimizer step."""
    found: list[Tensor] = []

    def keep(optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            found.extend(p.grad.clone() for p in group["params"])
        optimizer.zero_grad()

    trainer._optimize = keep  # type: ignore[method-assign]
    tokens = int(episodes.reply_lengths[rows].sum())
    trainer._policy_step(episodes, experience, rows, tokens)
    if trainer.values_from == "value":
        trainer._value_step(episodes, experience, rows, tokens)
    return found

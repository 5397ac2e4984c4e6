"""Over-optimisation: a proxy from few labels misleads, and the run says so in time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rewardmodel.stats.intervals import clustered_share
from tests.engine.small_ppo import save_places, settings_in
from tests.engine.test_optimum import ANSWERS, PROMPT, VOCABULARY, World, log_probability
from tests.engine.tiny import events_of, make_run, open_session, prompt_rows
from training.engine import ppo
from training.engine.data import generator_for
from training.engine.episodes import Episodes
from training.engine.rollout import Completion
from training.engine.watch import Watch, distinct_pairs, kl_budget


def features(answers: Tensor) -> Tensor:
    """Which token stands where, and behind which one: (answers, 72)."""
    places = torch.nn.functional.one_hot(answers, VOCABULARY).flatten(1)
    pairs = torch.nn.functional.one_hot(answers[:, :-1] * VOCABULARY + answers[:, 1:], VOCABULARY**2).sum(1)
    return torch.cat([places, pairs], dim=1).float()


def true_reward(world: World, answers: Tensor) -> Tensor:
    """What people want: the table, and no token more than three times. Under the reference that is rare."""
    most = torch.nn.functional.one_hot(answers, VOCABULARY).sum(1).amax(1)
    return world.reward.of(answers) - 1.5 * (most - 3).clamp(min=0)


class Proxy:
    """A linear reward learned from comparisons, as a reward run would learn one."""

    def __init__(self, world: World, labels: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.multinomial(world.reference.exp(), 2 * (labels + labels // 4 + 2), True, generator=generator)
        first, second = ANSWERS[drawn].chunk(2)
        gap = true_reward(world, first) - true_reward(world, second)
        won = torch.rand(len(gap), generator=generator) < gap.sigmoid()
        x, y = features(first) - features(second), won.float()
        self.weights = torch.zeros(x.shape[1], requires_grad=True)
        optimizer = torch.optim.LBFGS([self.weights], max_iter=100)

        def loss() -> Tensor:
            optimizer.zero_grad()
            logits = x[:labels] @ self.weights
            value = torch.nn.functional.binary_cross_entropy_with_logits(logits, y[:labels], reduction="sum")
            value = value + 0.5 * self.weights.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        self.weights.requires_grad_(False)
        right = ((x[labels:] @ self.weights > 0) == won[labels:]).float().tolist()
        accuracy = clustered_share(right, [1] * len(right))
        self.metrics = {"eval/accuracy_low": accuracy.low or 0.5, "train_prompts": float(labels)}
        scores = features(ANSWERS) @ self.weights
        self.mean = (world.reference.exp() * scores).sum()
        self.sd = (world.reference.exp() * (scores - self.mean).square()).sum().sqrt()

    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        answers = torch.tensor([completion.ids for completion in episodes.completions])
        return (features(answers) @ self.weights - self.mean) / self.sd


def follow(labels: int, beta: float, seed: int) -> tuple[list[float], list[float], int | None]:
    """True rewards (exact) and scores by iteration, and the iteration of the alert."""
    world = World(kl_coef=beta, iterations=60, learning_rate=5e-3)
    proxy = Proxy(world, labels, seed)
    world.trainer.reward = proxy
    watch, alert = Watch(kl_budget(proxy.metrics)), None
    truth = true_reward(world, ANSWERS)
    golds, scores = [], []
    for iteration in range(1, 61):
        golds.append(float((log_probability(world.roles, "policy").exp() * truth).sum()))
        episodes = world.trainer.sample([PROMPT] * 256, generator_for(seed, "rollout", iteration))
        experience = world.trainer.assess(episodes)
        scores.append(experience.metrics["objective/scores"])
        if any("KL" in sentence for sentence in watch.look(experience.metrics)):
            alert = alert or iteration
        world.trainer.learn(episodes, experience, iteration)
    return golds, scores, alert


def test_few_labels_without_a_penalty_mislead_and_the_alert_comes_before_the_loss() -> None:
    golds, scores, alert = follow(labels=40, beta=0.0, seed=0)
    lost = next(i for i, gold in enumerate(golds, start=1) if max(golds[:i]) - gold > 1.0)
    assert golds[-1] < golds[0] - 1.0
    assert scores[-1] > scores[lost - 1] > scores[0] + 1.0
    assert alert is not None and alert < lost


def test_enough_labels_with_a_penalty_raise_the_true_reward_and_no_alert() -> None:
    golds, scores, alert = follow(labels=2000, beta=0.5, seed=0)
    assert golds[-1] > golds[0] + 0.5
    assert golds[-1] >= 0.95 * max(golds)
    assert scores[-1] > scores[0] + 0.5
    assert alert is None


def test_the_budget_grows_with_what_the_reward_model_was_shown_to_know() -> None:
    def budget(low: float, prompts: float) -> float:
        return kl_budget({"eval/accuracy_low": low, "train_prompts": prompts})

    assert budget(0.5, 10_000) == budget(0.2, 10_000) == 0
    assert budget(0.6, 10_000) < budget(0.8, 10_000) < 60
    assert budget(0.8, 40) == 1.0
    assert kl_budget({}) == math.inf


def test_repeats_are_counted_within_an_answer() -> None:
    answers = [Completion([1, 2, 1, 2, 1], True, [0.0] * 5), Completion([1, 2, 3], True, [0.0] * 3)]
    assert distinct_pairs(Episodes([[5]] * 2, answers, torch.device("cpu"))) == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"objective/length": 61.0}, "paying for length"),
        ({"objective/length": 6.0}, "paying for length"),
        ({"objective/distinct": 0.4}, "repeat themselves"),
        ({"objective/kl": 2.1}, "covers 2.0"),
    ],
)
def test_each_sign_is_said_once(changed: dict[str, float], word: str) -> None:
    start = {"objective/kl": 0.0, "objective/length": 20.0, "objective/distinct": 0.9}
    watch = Watch(2.0)
    assert watch.look(start) == []
    (sentence,) = watch.look(start | changed)
    assert word in sentence
    again = Watch(2.0)
    again.load_state(watch.state())
    assert again.look(start | changed) == []


def test_a_run_can_end_at_the_alert(tmp_path: Path) -> None:
    places = save_places(tmp_path / "models")
    more: dict[str, Any] = {"kl_budget": 0.02, "on_alert": "stop", "learning_rate": 1e-2, "value_warmup": 0}
    rundir = make_run(tmp_path / "run", "ppo", settings_in(places, iterations=30, **more), prompts=prompt_rows(12))
    ppo.run(open_session(rundir))
    said = [event["message"] for event in events_of(rundir, "warning")]
    assert "covers 0.0" in said[0] and "on_alert" in said[1] and len(said) == 2
    assert len([e for e in events_of(rundir, "metrics") if "objective/kl" in e["metrics"]]) < 30
    assert rundir.artifact.is_dir()

"""PPO's steps (ALGORITHMS of the design; Ziegler 2019, Stiennon 2020, Huang 2024).

One iteration, in this order:
 1. sample answers to prompts from the policy
 2. recompute their log-probs by the trainer's own path, and those of the reference; values; scores
 3. token reward: -beta * k1 on every token, the shaped score on the last
 4. advantages by GAE, or of whole answers among those to the same prompt; whitened over the batch
 5. several passes of clipped policy and value losses; sums divided by the mini-batch's token count
 6. beta follows the KL, if it is adaptive; the running mean of the policy follows the policy
Policy, value, reward and (when the start is an adapter) reference are adapters on one frozen base.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rewardmodel.processes import ALONE, World
from rewardmodel.reading import Reader

from .advantages import KlController, gae, group_advantages, kl_k1, kl_k3, token_rewards, whiten
from .config import PpoConfig
from .data import generator_for
from .episodes import Episodes, MicroBatch
from .logprobs import TokenStats, token_logprobs
from .losses import policy_loss, value_loss
from .models import RoleModel
from .optim import adamw, linear_decay, set_learning_rate
from .ptx import DemonstrationMix
from .reward_sources import RewardSource, Transcript
from .rollout import RolloutEngine, Sampling
from .samples import Answers
from .scores import ScoreShaping
from .session import EngineError
from .tokens import decode
from .watch import distinct_pairs

SELF_CHECK_PROMPTS, SELF_CHECK_GAP = 16, 0.02  # mean absolute difference of log-probs; bfloat16 stays far below


class Reading(NamedTuple):
    """What a role says about a batch: tables (episodes, answer time); `values` are 0 where no head is on its states."""

    logprobs: Tensor
    entropy: Tensor
    values: Tensor


@dataclass(frozen=True)
class Experience:
    """What one batch says before learning: all (episodes, answer time) but `scores` (episodes,)."""

    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    scores: Tensor
    metrics: dict[str, float]


@dataclass
class Trainer:
    """The models and optimizers of a run, and the steps of the algorithm as methods."""

    config: PpoConfig
    roles: RoleModel
    reward: RewardSource
    engine: RolloutEngine
    sampling: Sampling
    value_head: nn.Linear | None
    """On the states of the role `values_from`; None where answers are compared with each other."""
    transcript: Transcript
    demonstrations: DemonstrationMix | None = None
    world: World = ALONE
    kl: KlController = field(init=False)
    shaping: ScoreShaping = field(init=False)
    mean_policy: dict[str, Tensor] = field(init=False)
    """The running mean of the policy's adapter; empty where the last one is kept."""

    def __post_init__(self) -> None:
        c = self.config
        self.kl = KlController(c.kl_coef, c.kl_controller == "adaptive", c.kl_target, c.kl_horizon)
        self.shaping = ScoreShaping(c)
        value = [] if self.value_head is None else [*self.value_head.parameters()]
        if self.values_from == "value":
            value += self.roles.parameters("value")
        learning = c.iterations - (c.value_warmup if self.value_head is not None else 0)
        steps = learning * c.ppo_epochs * min(c.mini_batches, c.batch_size)
        self.optimizers = {"policy": self.roles.optimizer("policy", c.learning_rate, steps)}
        if value:
            self.optimizers["value"] = adamw(value, c.value_learning_rate)
        self.roles.learn("policy", *(["value"] if self.values_from == "value" else []))
        self.mean_policy = self.roles.state("policy") if c.ema else {}
        self._share: int | None = None

    def share_prompts(self, longest: int) -> None:
        """From now on, answers to one prompt share rows, if this model reads such rows of that length as it reads the
        answers alone."""
        reader = Reader(self.roles.backbone, "last", 0, longest)
        shares = self.config.completions > 1 and reader.shares_beginnings(longest)
        self._share = self.roles.hidden_size if shares else None

    @property
    def values_from(self) -> str | None:
        """The role whose states the value head reads."""
        return None if self.value_head is None else {"adapter": "value", "head": "policy"}[self.config.value]

    def sample(self, prompts: list[list[int]], generator: torch.Generator, role: str = "policy") -> Episodes:
        """Answers of a role, one per prompt."""
        self.roles.use(role)
        answers = self.engine.generate(prompts, self.sampling, generator)
        how = {"share": self._share, "dtype": self.roles.model.dtype, "world": self.world}
        return Episodes(prompts, answers, self.roles.device, **how)

    def answers(self, prompts: list[list[int]], generator: torch.Generator, role: str) -> Answers:
        """Answers of a role as text, with the reward model's own scores; of the policy as it would be kept."""
        with self.kept_policy():
            episodes = self.sample(prompts, generator, role)
        texts = [decode(self.roles, completion) for completion in episodes.completions]
        return Answers(texts, self.reward.score(episodes, self.config.micro_batch_size).tolist())

    @torch.no_grad()
    def read(self, episodes: Episodes, role: str) -> Reading:
        """What a role says about the answers, at the sampling temperature."""
        self.roles.use(role)
        tables = torch.zeros(3, *episodes.mask.shape, device=self.roles.device)
        for micro in episodes.micro_batches(self.config.micro_batch_size):
            hidden = self._hidden(micro)
            if role != "value":
                stats = self._logprobs(micro, hidden)
                episodes.table(micro, stats.logprobs, tables[0])
                episodes.table(micro, stats.entropy, tables[1])
            if role == self.values_from:
                episodes.table(micro, self._values(hidden), tables[2])
        return Reading(*self.world.sum(tables))

    def assess(self, episodes: Episodes) -> Experience:
        """Steps 2 to 4: log-probs, values, scores, rewards, advantages."""
        c, mask = self.config, episodes.mask
        policy = self.read(episodes, "policy")
        reference = self.read(episodes, "reference").logprobs
        values = self.read(episodes, "value").values if self.values_from == "value" else policy.values
        raw = self.reward.score(episodes, c.micro_batch_size)
        scores = self.shaping(raw, episodes)
        k1 = kl_k1(policy.logprobs, reference)
        rewards = token_rewards(scores, k1, mask, self.kl.coef)
        metrics: dict[str, Any] = {
            "objective/kl": torch.where(mask, k1, 0.0).sum(1).mean(),
            "objective/kl_k3": torch.where(mask, kl_k3(policy.logprobs, reference), 0.0).sum(1).mean(),
            "objective/scores": raw.mean(),
            "objective/scores_sd": raw.std(),
            "objective/paid_scores": scores.mean(),
            "objective/rlhf_reward": rewards.sum(1).mean(),
            "objective/length": episodes.reply_lengths.float().mean(),
            "objective/ended": episodes.finished.float().mean(),
            "objective/distinct": distinct_pairs(episodes),
            "objective/kl_coef": self.kl.coef,
            "policy/entropy": policy.entropy[mask].mean(),
        }
        if c.whiten_rewards:
            rewards = whiten(rewards, mask, shift=False)
        if self.value_head is not None:
            advantages, returns = gae(rewards, values, mask, c.gamma, c.gae_lambda)
            unexplained = (returns - values)[mask].var() / (returns[mask].var() + 1e-8)
            metrics["val/explained_variance"] = 1 - unexplained
        else:
            returns = torch.where(mask, rewards.sum(1, keepdim=True), 0.0)
            whole = group_advantages(rewards.sum(1), c.completions, c.advantage)
            advantages = torch.where(mask, whole[:, None], 0.0)
        if c.whiten_advantages and c.advantage in ("gae", "rloo"):
            advantages = whiten(advantages, mask)
        numbers = {name: float(value) for name, value in metrics.items()}
        return Experience(policy.logprobs, values, advantages, returns, scores, numbers)

    def learn(self, episodes: Episodes, experience: Experience, iteration: int) -> dict[str, float]:
        """Step 5. In the first `value_warmup` iterations only the value function learns."""
        c = self.config
        decay = linear_decay(iteration, c.iterations) if c.linear_decay else 1.0
        for name, rate in (("policy", c.learning_rate), ("value", c.value_learning_rate)):
            if name in self.optimizers:
                set_learning_rate(self.optimizers[name], rate * decay)
        warming_up = self.value_head is not None and iteration <= c.value_warmup
        history = []
        self.roles.train_dropout(True)
        for rows in self._mini_batches(len(episodes), iteration):
            tokens = int(episodes.reply_lengths[rows].sum())
            sums = self._policy_step(episodes, experience, rows, tokens, only_values=warming_up)
            if self.values_from == "value":
                sums[4:] = self._value_step(episodes, experience, rows, tokens)
            history.append(sums)
            if c.max_approxkl and float(sums[1]) > c.max_approxkl:
                break
        self.roles.train_dropout(False)
        if self.mean_policy and not warming_up:
            for name, tensor in self.roles.state("policy").items():
                self.mean_policy[name].lerp_(tensor, 1 - c.ema)
        ratio, approxkl, clipfrac, policy, value, value_clipfrac = torch.stack(history).mean(0).tolist()
        metrics = {
            "val/ratio": 1.0 if warming_up else ratio,
            "policy/approxkl": approxkl,
            "policy/clipfrac": clipfrac,
            "loss/policy": policy,
            "learning_rate": c.learning_rate * decay,
        }
        if self.value_head is not None:
            metrics |= {"loss/value": value, "val/clipfrac": value_clipfrac}
        if self.demonstrations and not warming_up:
            metrics["loss/ptx"] = self.demonstrations.loss
        return metrics

    def _mini_batches(self, count: int, iteration: int) -> Iterator[Tensor]:
        """The rows of each optimizer step, pass by pass."""
        for epoch in range(self.config.ppo_epochs):
            generator = generator_for(self.config.seed, f"minibatches {epoch}", iteration)
            yield from torch.randperm(count, generator=generator).tensor_split(min(self.config.mini_batches, count))

    def _policy_step(
        self, episodes: Episodes, experience: Experience, rows: Tensor, tokens: int, *, only_values: bool = False
    ) -> Tensor:
        """One step of the policy, and of a value head on its states: means of (ratio, approxkl, clipped, policy loss,
        value loss, clipped values). With `only_values`, the policy stays as it is."""
        c, sums = self.config, torch.zeros(6, device=self.roles.device)
        if only_values and self.values_from != "policy":
            return sums
        self.roles.use("policy")
        for micro in episodes.micro_batches(c.micro_batch_size, rows):
            with torch.set_grad_enabled(not only_values):
                hidden = self._hidden(micro)
            losses = []
            if not only_values:
                stats = self._logprobs(micro, hidden)
                result = policy_loss(stats.logprobs, *_of(micro, experience.logprobs, experience.advantages), c.clip)
                losses.append(result.loss)
                if c.entropy_coef:
                    losses.append(-c.entropy_coef * stats.entropy.sum())
                sums[:4] += torch.stack([result.ratio, result.approxkl, result.clipped.float(), result.loss.detach()])
            if self.values_from == "policy":
                value = value_loss(
                    self._values(hidden), *_of(micro, experience.values, experience.returns), c.value_clip
                )
                losses.append(c.value_coef * value.loss)
                sums[4:] += torch.stack([value.loss.detach(), value.clipped.float()])
            (torch.stack(losses).sum() / tokens).backward()  # type: ignore[no-untyped-call]
        if not only_values:
            if self.demonstrations:
                self.demonstrations.add_gradient()
            self._optimize(self.optimizers["policy"])
        if self.values_from == "policy":
            self._optimize(self.optimizers["value"])
        return self.world.sum(sums) / tokens

    def _value_step(self, episodes: Episodes, experience: Experience, rows: Tensor, tokens: int) -> Tensor:
        """One step of a value function with an adapter of its own: means of (loss, clipped)."""
        self.roles.use("value")
        sums = torch.zeros(2, device=self.roles.device)
        for micro in episodes.micro_batches(self.config.micro_batch_size, rows):
            old = _of(micro, experience.values, experience.returns)
            result = value_loss(self._values(self._hidden(micro)), *old, self.config.value_clip)
            (result.loss / tokens).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([result.loss.detach(), result.clipped.float()])
        self._optimize(self.optimizers["value"])
        return self.world.sum(sums) / tokens

    def _hidden(self, micro: MicroBatch) -> Tensor:
        """The role's states before each answer token: (tokens, hidden)."""
        return self.roles.hidden(micro.ids, **micro.layout).flatten(0, 1).index_select(0, micro.states)

    def _logprobs(self, micro: MicroBatch, hidden: Tensor) -> TokenStats:
        return token_logprobs(
            self.roles,
            micro.ids,
            micro.states,
            self.config.temperature,
            targets=micro.targets,
            hidden=hidden,
            entropy_learns=self.config.entropy_coef > 0,
        )

    def _values(self, hidden: Tensor) -> Tensor:
        assert self.value_head is not None
        values: Tensor = self.value_head(hidden.float())[:, 0]
        return values

    def _optimize(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.world.sum_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    @contextmanager
    def kept_policy(self) -> Iterator[None]:
        """Inside, the policy is the one that the run would leave behind."""
        if not self.mean_policy:
            yield
            return
        current = self.roles.state("policy")
        self.roles.load_state("policy", self.mean_policy)
        try:
            yield
        finally:
            self.roles.load_state("policy", current)

    def state(self) -> dict[str, Any]:
        """Everything that changes during a run."""
        return {
            "policy": self.roles.state("policy"),
            "value": self.roles.state("value") if self.values_from == "value" else {},
            "value_head": self.value_head.state_dict() if self.value_head is not None else {},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "mean_policy": self.mean_policy,
            "kl_coef": self.kl.coef,
            "shaping": self.shaping.state(),
            "demonstrations": self.demonstrations.step if self.demonstrations else 0,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.roles.load_state("policy", state["policy"])
        if self.values_from == "value":
            self.roles.load_state("value", state["value"])
        if self.value_head is not None:
            self.value_head.load_state_dict(state["value_head"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, tensor in self.mean_policy.items():
            tensor.copy_(state["mean_policy"][name])
        self.kl.coef = state["kl_coef"]
        self.shaping.load_state(state["shaping"])
        if self.demonstrations:
            self.demonstrations.step = state["demonstrations"]

    def self_check(self, prompts: list[list[int]], seed: int) -> float:
        """Mean gap between the sampler's log-probs and the trainer's; raises EngineError when it is no rounding."""
        episodes = self.sample(prompts[:SELF_CHECK_PROMPTS], generator_for(seed, "self-check", 0))
        trainer = self.read(episodes, "policy").logprobs
        sampler = torch.tensor([number for answer in episodes.completions for number in answer.logprobs])
        gap = float((trainer[episodes.mask].cpu() - sampler).abs().mean())
        limit = SELF_CHECK_GAP if self.roles.model.dtype == torch.float32 else 5 * SELF_CHECK_GAP
        if not gap < limit:
            raise EngineError(f"Sampler and trainer disagree about log-probs by {gap:.3f}: PPO would learn from noise.")
        return gap


def _of(micro: MicroBatch, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The micro-batch's tokens of two tables (episodes, answer time)."""
    return first.view(-1)[micro.where], second.view(-1)[micro.where]

"""PPO against a reward model (ALGORITHMS of the design; Ziegler 2019, Stiennon 2020, Huang 2024).

One iteration, in this order:
 1. sample one answer per prompt from the policy
 2. recompute its log-probs by the trainer's own path, and those of the reference; values; scores
 3. token reward: -beta * k1 on every token, the score (or the missing-end score) on the last
 4. advantages by GAE, whitened over the batch
 5. several passes of clipped policy and value losses; sums divided by the mini-batch's token count
 6. beta follows the KL, if it is adaptive
Policy, value, reward and (when the start is an adapter) reference are adapters on one frozen base.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import artifacts
from .advantages import KlController, gae, kl_k1, kl_k3, token_rewards, whiten
from .config import PpoConfig
from .data import generator_for, indices_of_step, read_rows
from .episodes import Episodes
from .logprobs import token_logprobs
from .losses import policy_loss, value_loss
from .models import RoleModel, load_start
from .optim import adamw, linear_decay, set_learning_rate
from .reward_sources import AdapterReward, RewardSource
from .rollout import RolloutEngine, Sampling
from .rollout.fast import choose_engine
from .samples import Answers, Showcase
from .session import EngineError, Session
from .timing import PhaseClock
from .tokens import decode, encode_prompts, end_ids

SELF_CHECK_PROMPTS, SELF_CHECK_GAP = 16, 0.02  # mean absolute difference of log-probs; bfloat16 stays far below


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
    value_head: nn.Linear
    kl: KlController = field(init=False)

    def __post_init__(self) -> None:
        c = self.config
        self.kl = KlController(c.kl_coef, c.kl_controller == "adaptive", c.kl_target, c.kl_horizon)
        self.policy_optimizer = adamw(self.roles.parameters("policy"), c.learning_rate)
        self.value_optimizer = adamw(
            [*self.roles.parameters("value"), *self.value_head.parameters()], c.value_learning_rate
        )
        self.roles.learn("policy", "value")

    def sample(self, prompts: list[list[int]], generator: torch.Generator, role: str = "policy") -> Episodes:
        """Answers of a role, one per prompt."""
        self.roles.use(role)
        return Episodes(prompts, self.engine.generate(prompts, self.sampling, generator), self.roles.device)

    def answers(self, prompts: list[list[int]], generator: torch.Generator, role: str) -> Answers:
        """Answers of a role as text, with the reward model's own scores."""
        episodes = self.sample(prompts, generator, role)
        texts = [decode(self.roles, completion) for completion in episodes.completions]
        return Answers(texts, self.reward.score(episodes, self.config.micro_batch_size).tolist())

    @torch.no_grad()
    def logprobs(self, episodes: Episodes, role: str) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies (episodes, answer time) under a role, at the sampling temperature."""
        self.roles.use(role)
        table, entropies = torch.zeros(2, *episodes.mask.shape, device=self.roles.device)
        for micro in episodes.micro_batches(self.config.micro_batch_size):
            stats = token_logprobs(self.roles, micro.ids, micro.states, self.config.temperature)
            episodes.table(micro, stats.logprobs, table)
            episodes.table(micro, stats.entropy, entropies)
        return table, entropies

    @torch.no_grad()
    def values(self, episodes: Episodes) -> Tensor:
        """Value of the state before each answer token: (episodes, answer time)."""
        self.roles.use("value")
        table = torch.zeros(episodes.mask.shape, device=self.roles.device)
        for micro in episodes.micro_batches(self.config.micro_batch_size):
            episodes.table(micro, self._values(micro.ids, micro.states), table)
        return table

    def assess(self, episodes: Episodes) -> Experience:
        """Steps 2 to 4: log-probs, values, scores, rewards, advantages."""
        c, mask = self.config, episodes.mask
        logprobs, entropy = self.logprobs(episodes, "policy")
        reference, _ = self.logprobs(episodes, "reference")
        values = self.values(episodes)
        scores = self.reward.score(episodes, c.micro_batch_size).clamp(-c.score_clip, c.score_clip)
        scores = torch.where(episodes.finished, scores, c.missing_end_score)
        k1 = kl_k1(logprobs, reference)
        rewards = token_rewards(scores, k1, mask, self.kl.coef)
        advantages, returns = gae(rewards, values, mask, c.gamma, c.gae_lambda)
        unexplained = (returns - values)[mask].var() / (returns[mask].var() + 1e-8)
        metrics: dict[str, Any] = {
            "objective/kl": torch.where(mask, k1, 0.0).sum(1).mean(),
            "objective/kl_k3": torch.where(mask, kl_k3(logprobs, reference), 0.0).sum(1).mean(),
            "objective/scores": scores.mean(),
            "objective/scores_sd": scores.std(),
            "objective/rlhf_reward": rewards.sum(1).mean(),
            "objective/length": episodes.reply_lengths.float().mean(),
            "objective/ended": episodes.finished.float().mean(),
            "objective/kl_coef": self.kl.coef,
            "policy/entropy": entropy[mask].mean(),
            "val/explained_variance": 1 - unexplained,
        }
        if c.whiten_advantages:
            advantages = whiten(advantages, mask)
        numbers = {name: float(value) for name, value in metrics.items()}
        return Experience(logprobs, values, advantages, returns, scores, numbers)

    def learn(self, episodes: Episodes, experience: Experience, iteration: int) -> dict[str, float]:
        """Step 5. In the first `value_warmup` iterations only the value function learns."""
        c = self.config
        decay = linear_decay(iteration, c.iterations) if c.linear_decay else 1.0
        set_learning_rate(self.policy_optimizer, c.learning_rate * decay)
        set_learning_rate(self.value_optimizer, c.value_learning_rate * decay)
        sums = torch.zeros(6, device=self.roles.device)
        self.roles.train_dropout(True)
        for epoch in range(c.ppo_epochs):
            order = torch.randperm(len(episodes), generator=generator_for(c.seed, f"minibatches {epoch}", iteration))
            for rows in order.tensor_split(min(c.mini_batches, len(order))):
                tokens = int(episodes.reply_lengths[rows].sum())
                if iteration > c.value_warmup:
                    sums[:4] += self._policy_step(episodes, experience, rows, tokens)
                sums[4:] += self._value_step(episodes, experience, rows, tokens)
        self.roles.train_dropout(False)
        updates = c.ppo_epochs * min(c.mini_batches, len(episodes))
        ratio, approxkl, clipfrac, policy, value, value_clipfrac = (sums / updates).tolist()
        return {
            "val/ratio": ratio if iteration > c.value_warmup else 1.0,
            "policy/approxkl": approxkl,
            "policy/clipfrac": clipfrac,
            "loss/policy": policy,
            "loss/value": value,
            "val/clipfrac": value_clipfrac,
            "learning_rate": c.learning_rate * decay,
        }

    def _policy_step(self, episodes: Episodes, experience: Experience, rows: Tensor, tokens: int) -> Tensor:
        self.roles.use("policy")
        sums = torch.zeros(4, device=self.roles.device)
        for micro in episodes.micro_batches(self.config.micro_batch_size, rows):
            old, advantages = (table.view(-1)[micro.where] for table in (experience.logprobs, experience.advantages))
            new = token_logprobs(self.roles, micro.ids, micro.states, self.config.temperature).logprobs
            result = policy_loss(new, old, advantages, self.config.clip)
            (result.loss / tokens).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([result.ratio, result.approxkl, result.clipped.float(), result.loss.detach()])
        self._optimize(self.policy_optimizer)
        return sums / tokens

    def _value_step(self, episodes: Episodes, experience: Experience, rows: Tensor, tokens: int) -> Tensor:
        self.roles.use("value")
        sums = torch.zeros(2, device=self.roles.device)
        for micro in episodes.micro_batches(self.config.micro_batch_size, rows):
            old, returns = (table.view(-1)[micro.where] for table in (experience.values, experience.returns))
            result = value_loss(self._values(micro.ids, micro.states), old, returns, self.config.value_clip)
            (result.loss / tokens).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([result.loss.detach(), result.clipped.float()])
        self._optimize(self.value_optimizer)
        return sums / tokens

    def _values(self, ids: Tensor, states: Tensor) -> Tensor:
        hidden = self.roles.hidden(ids).flatten(0, 1).index_select(0, states)
        values: Tensor = self.value_head(hidden.float())[:, 0]
        return values

    def _optimize(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """Everything that changes during a run."""
        return {
            "policy": self.roles.state("policy"),
            "value": self.roles.state("value"),
            "value_head": self.value_head.state_dict(),
            "policy_optimizer": self.policy_optimizer.state_dict(),
            "value_optimizer": self.value_optimizer.state_dict(),
            "kl_coef": self.kl.coef,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.roles.load_state("policy", state["policy"])
        self.roles.load_state("value", state["value"])
        self.value_head.load_state_dict(state["value_head"])
        self.policy_optimizer.load_state_dict(state["policy_optimizer"])
        self.value_optimizer.load_state_dict(state["value_optimizer"])
        self.kl.coef = state["kl_coef"]

    def self_check(self, prompts: list[list[int]], seed: int) -> float:
        """Mean gap between the sampler's log-probs and the trainer's; raises EngineError when it is no rounding."""
        episodes = self.sample(prompts[:SELF_CHECK_PROMPTS], generator_for(seed, "self-check", 0))
        trainer, _ = self.logprobs(episodes, "policy")
        sampler = torch.tensor([number for answer in episodes.completions for number in answer.logprobs])
        gap = float((trainer[episodes.mask].cpu() - sampler).abs().mean())
        limit = SELF_CHECK_GAP if self.roles.model.dtype == torch.float32 else 5 * SELF_CHECK_GAP
        if not gap < limit:
            raise EngineError(f"Sampler and trainer disagree about log-probs by {gap:.3f}: PPO would learn from noise.")
        return gap


def run(session: Session) -> None:
    """Tune a policy on `data/prompts.jsonl` against the reward model and write it as a policy artifact."""
    config = cast(PpoConfig, session.config)
    session.stage("load", "Loading the base model, the reward model and the prompts.")
    trainer = build(session, config)
    rows = read_rows(session.rundir, "prompts.jsonl")
    limits = {"max_tokens": config.max_prompt_tokens, "new_tokens": config.max_new_tokens}
    encoded = encode_prompts(trainer.roles, rows, **limits)
    train = [i for i, row in enumerate(rows) if row.get("split") != "eval"]
    if not train:
        raise EngineError("Every prompt is held out for evaluation: PPO needs prompts to learn from.")
    prompts = [encoded[i] for i in train]
    held_out = [i for i, row in enumerate(rows) if row.get("split") == "eval"]
    shown = [(rows[i]["messages"], encoded[i]) for i in held_out or train[: config.samples]]
    showcase = Showcase(shown, trainer.answers, config, held_out=bool(held_out))
    gap = trainer.self_check(prompts, config.seed)
    session.stage("train", f"{len(prompts)} prompts; log-prob gap {gap:.1e}.", total_steps=config.iterations)
    done, saved = session.resume()
    metrics: dict[str, float] = {}
    if saved:
        trainer.load_state(saved["trainer"])
        metrics, showcase.metrics = saved["metrics"], saved["shown"]
    else:
        showcase.show(session, 0)
    for iteration in range(done + 1, config.iterations + 1):
        clock = PhaseClock(session.device)
        chosen = indices_of_step(len(prompts), config.batch_size, iteration, config.seed)
        with clock.phase("generate"):
            generator = generator_for(config.seed, "rollout", iteration)
            episodes = trainer.sample([prompts[i] for i in chosen], generator)
        with clock.phase("score"):
            experience = trainer.assess(episodes)
        with clock.phase("train"):
            learned = trainer.learn(episodes, experience, iteration)
        trainer.kl.update(experience.metrics["objective/kl"], len(episodes))
        metrics = experience.metrics | learned
        session.metrics(iteration, metrics | clock.metrics(episodes.tokens))
        if iteration % config.sample_every == 0 or iteration == config.iterations:
            showcase.show(session, iteration)
        state = {"metrics": metrics, "shown": showcase.metrics}
        session.end_step(iteration, lambda: state | {"trainer": trainer.state()})  # noqa: B023
    final = metrics | showcase.metrics
    artifacts.write(session, "policy", "adapter", final, lambda folder: trainer.roles.save("policy", folder))


def build(session: Session, config: PpoConfig) -> Trainer:
    """One base with four roles. The value function starts as a copy of the reward model."""
    if not config.lora_rank:
        raise EngineError("PPO trains an adapter: set lora_rank above 0.")
    if not config.reward_path:
        raise EngineError("PPO needs a reward model: set reward_path to its folder.")
    roles = load_start(session, "policy", config)
    if config.adapter:
        roles.add_copy("reference", "policy")
    else:
        roles.add_alias("reference", "base")
    reward = AdapterReward(roles, config.reward_path, config.base)
    roles.add_copy("value", "reward")
    sampling = Sampling(config.max_new_tokens, config.temperature, tuple(end_ids(roles)))
    return Trainer(config, roles, reward, choose_engine(roles), sampling, reward.linear_head())

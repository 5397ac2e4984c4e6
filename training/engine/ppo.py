"""A PPO run: its models, its loop, what people see of it. The algorithm is in `trainer.py`."""

from __future__ import annotations

from typing import cast

from torch import nn

from . import artifacts
from .config import PpoConfig
from .data import generator_for, indices_of_step, read_rows
from .models import RoleModel, load_start
from .ptx import load_demonstrations
from .reward_sources import AdapterReward, RewardSource, Transcript, combined, load_rewards
from .rollout import Sampling
from .rollout.split import choose_engine
from .samples import Showcase
from .session import EngineError, Session
from .timing import PhaseClock
from .tokens import encode_prompts, end_ids
from .trainer import Trainer
from .watch import Watch, budget_of

VALUE_RANK = 16  # of a value function's adapter, where the policy has none


def run(session: Session) -> None:
    """Tune a policy on `data/prompts.jsonl` against the reward model and write it as a policy artifact."""
    config = cast(PpoConfig, session.config)
    session.stage("load", "Loading the base model, the reward model and the prompts.")
    trainer = build(session, config)
    rows = read_rows(session.rundir, "prompts.jsonl")
    limits = {"max_tokens": config.max_prompt_tokens, "new_tokens": config.max_new_tokens}
    encoded = encode_prompts(trainer.roles, rows, **limits)
    trainer.transcript.know(encoded, rows)
    train = [i for i, row in enumerate(rows) if row.get("split") != "eval"]
    if not train:
        raise EngineError("Every prompt is held out for evaluation: PPO needs prompts to learn from.")
    prompts = [encoded[i] for i in train]
    held_out = [i for i, row in enumerate(rows) if row.get("split") == "eval"]
    shown = [(rows[i]["messages"], encoded[i]) for i in held_out or train[: config.samples]]
    showcase = Showcase(shown, trainer.answers, config, held_out=bool(held_out))
    trainer.share_prompts(max(map(len, encoded)) + config.max_new_tokens)
    gap = trainer.self_check(prompts, config.seed)
    session.stage("train", f"{len(prompts)} prompts; log-prob gap {gap:.1e}.", total_steps=config.iterations)
    done, saved = session.resume()
    metrics, enough = {}, ""
    watch = Watch(config.kl_budget or budget_of(config.reward_path))
    if saved:
        trainer.load_state(saved["trainer"])
        watch.load_state(saved["watch"])
        metrics, showcase.metrics, enough = saved["metrics"], saved["shown"], saved["enough"]
        session.total_steps = done if enough else config.iterations
    else:
        showcase.show(session, 0)
    for iteration in range(done + 1, session.total_steps + 1):
        clock = PhaseClock(session.device)
        chosen = indices_of_step(len(prompts), config.batch_size // config.completions, iteration, config.seed)
        with trainer.roles.truncated("policy", config.seed, iteration):  # a DyLoRA policy samples as it learns
            with clock.phase("generate"):
                generator = generator_for(config.seed, "rollout", iteration)
                repeated = [prompts[i] for i in chosen for _ in range(config.completions)]
                episodes = trainer.sample(repeated, generator)
            with clock.phase("score"):
                experience = trainer.assess(episodes)
            with clock.phase("train"):
                learned = trainer.learn(episodes, experience, iteration)
        trainer.kl.update(experience.metrics["objective/kl"], len(episodes))
        metrics = experience.metrics | learned
        session.metrics(iteration, metrics | clock.metrics(episodes.tokens))
        alerts = watch.look(metrics)
        for alert in alerts:
            session.warn(iteration, alert)
        enough = _why_enough(config, metrics, alerts)
        if iteration % config.sample_every == 0 or iteration == config.iterations or enough:
            showcase.show(session, iteration)
        if enough:
            session.warn(iteration, enough)
            session.stage("finish", "Writing the policy.", total_steps=iteration)
        state = {"metrics": metrics, "shown": showcase.metrics, "watch": watch.state(), "enough": enough}
        session.end_step(iteration, lambda: state | {"trainer": trainer.state()})  # noqa: B023
        if enough:
            break
    with trainer.kept_policy():
        final = metrics | showcase.metrics
        size = trainer.roles.base_bytes()
        format = "adapter" if config.lora_rank else "model"
        artifacts.write(session, "policy", format, final, lambda folder: trainer.roles.save("policy", folder), size)


def _why_enough(config: PpoConfig, metrics: dict[str, float], alerts: list[str]) -> str:
    """Why the run ends here, with the policy it has; empty to go on."""
    if config.stop_kl and metrics["objective/kl"] > config.stop_kl:
        return f"Ended early: the KL is {metrics['objective/kl']:.1f}, above stop_kl."
    return "Ended early, because on_alert says so." if alerts and config.on_alert == "stop" else ""


def build(session: Session, config: PpoConfig) -> Trainer:
    """One base with its roles. The value function starts as a copy of the reward model where that is an adapter on it;
    else, and as a head on the policy, it starts by saying 0."""
    roles = load_start(session, "policy", config)
    if config.adapter:
        roles.add_copy("reference", "policy")
    else:
        roles.add_alias("reference", "base")
    transcript = Transcript(roles)
    terms = load_rewards(roles, transcript, config)
    head = _value_head(roles, terms[0][1], config) if config.advantage == "gae" else None
    sampling = Sampling(config.max_new_tokens, config.temperature, tuple(end_ids(roles)))
    demonstrations = load_demonstrations(session, roles, config) if config.ptx_coef else None
    engine = choose_engine(roles, session.world, config.completions)
    reward = combined(terms)
    return Trainer(config, roles, reward, engine, sampling, head, transcript, demonstrations, session.world)


def _value_head(roles: RoleModel, reward: RewardSource, config: PpoConfig) -> nn.Linear:
    if config.value == "adapter" and isinstance(reward, AdapterReward):
        roles.add_copy("value", "reward")
        return reward.linear_head()
    if config.value == "adapter":
        roles.add_fresh("value", rank=config.lora_rank or VALUE_RANK, alpha=config.lora_alpha)
    head = nn.Linear(roles.hidden_size, 1, device=roles.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head

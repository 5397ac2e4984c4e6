"""Supervised fine-tuning: next-token loss on what the assistant wrote, with LoRA or (rank 0) on all weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from rewardmodel.processes import ALONE, World

from . import artifacts
from .config import SftConfig
from .data import indices_of_step, read_rows, split_by_prompt
from .logprobs import token_logprobs
from .models import WHOLE_FROM_ADAPTER, RoleModel, load_base, load_start
from .optim import adamw, set_learning_rate, warmup_cosine
from .session import EngineError, Session
from .timing import PhaseClock
from .tokens import encode_training_text

ROLE = "policy"
EVALUATIONS = 10  # per run


@dataclass(frozen=True)
class Example:
    """A conversation; `states` are the positions before the tokens that the assistant wrote."""

    ids: list[int]
    states: list[int]


def run(session: Session) -> None:
    """Train on `data/sft.jsonl` and write a policy artifact."""
    config = cast(SftConfig, session.config)
    session.stage("load", "Loading the base model and the data.")
    roles = _load(session, config)
    rows = read_rows(session.rundir, "sft.jsonl")
    examples = [encode_example(roles, row["messages"], config.max_length) for row in rows]
    train, held_out = split_by_prompt(rows, config.eval_fraction, config.seed)
    usable = [examples[i] for i in train if examples[i].states]
    held_out_examples = [examples[i] for i in held_out if examples[i].states]
    if not usable:
        raise EngineError("No conversation has an assistant message to learn from.")
    size = min(config.batch_size, len(usable))
    total = max(1, math.ceil(config.epochs * len(usable) / size))
    optimizer = _optimizer(roles, config, total)
    session.stage("train", f"{len(usable)} conversations, {total} steps.", total_steps=total)
    done, saved = session.resume()
    metrics: dict[str, float] = {}

    def state() -> dict[str, Any]:
        return {"weights": _weights(roles), "optimizer": optimizer.state_dict(), "metrics": metrics}

    if saved:
        metrics = saved["metrics"]
        _load_weights(roles, saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
    clock = PhaseClock(session.device)
    for step in range(done + 1, total + 1):
        rate = config.learning_rate * warmup_cosine(step, total, config.warmup)
        set_learning_rate(optimizer, rate)
        batch = [usable[i] for i in indices_of_step(len(usable), size, step, config.seed)]
        with roles.truncated(ROLE, config.seed, step):
            loss = train_step(roles, batch, optimizer, config, session.world)
        metrics |= {"loss/train": loss, "learning_rate": rate}
        if held_out_examples and (step == total or step % max(1, total // EVALUATIONS) == 0):
            metrics["eval/loss"] = mean_loss(roles, held_out_examples, config.micro_batch_size, session.world)
        session.metrics(step, metrics | clock.lap(sum(len(example.ids) for example in batch)))
        session.end_step(step, state)
    for rank in roles.usable_ranks(ROLE) if held_out_examples else []:
        with roles.cut(ROLE, rank):
            metrics[f"eval/loss_rank_{rank}"] = mean_loss(
                roles, held_out_examples, config.micro_batch_size, session.world
            )
    format = "adapter" if config.lora_rank else "model"
    artifacts.write(session, "policy", format, metrics, lambda folder: _save(roles, folder), roles.base_bytes())


def encode_example(roles: RoleModel, messages: Any, max_length: int) -> Example:
    """Ids and the positions whose next token is the assistant's."""
    ids, mask = encode_training_text(roles, messages, max_length)
    return Example(ids, [i - 1 for i, spoken in enumerate(mask) if spoken and i > 0])


def train_step(
    roles: RoleModel,
    batch: list[Example],
    optimizer: torch.optim.Optimizer,
    config: SftConfig,
    world: World = ALONE,
) -> float:
    """One optimizer step on the mean loss per assistant token of the whole batch; returns that mean."""
    roles.use(ROLE)
    roles.train_dropout(True)
    total = loss_gradient(roles, batch, config.micro_batch_size, world=world)
    roles.train_dropout(False)
    world.sum_gradients(_trained(roles))
    torch.nn.utils.clip_grad_norm_(_trained(roles), config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return total


def loss_gradient(
    roles: RoleModel, batch: list[Example], micro_batch_size: int, weight: float = 1.0, world: World = ALONE
) -> float:
    """Add the gradient of `weight` times the mean loss per assistant token, for the role in use; returns that mean.

    Of several processes each adds its part of that gradient, and all return the same mean.
    """
    tokens = sum(len(example.states) for example in batch)
    total = torch.zeros((), dtype=torch.float64)
    for ids, states in micro_batches(batch, micro_batch_size, roles.device, world):
        loss = -token_logprobs(roles, ids, states).logprobs.sum() / tokens
        (weight * loss).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return float(world.sum(total))


@torch.no_grad()
def mean_loss(roles: RoleModel, examples: list[Example], micro_batch_size: int, world: World = ALONE) -> float:
    """Mean loss per assistant token."""
    roles.use(ROLE)
    tokens = sum(len(example.states) for example in examples)
    total = torch.zeros((), dtype=torch.float64)
    for ids, states in micro_batches(examples, micro_batch_size, roles.device, world):
        total -= float(token_logprobs(roles, ids, states).logprobs.sum())
    return float(world.sum(total)) / tokens


def micro_batches(
    batch: list[Example], size: int, device: torch.device, world: World = ALONE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Right-padded ids (rows, time) and flat positions, rows of similar length together: of this process's share."""
    ordered = sorted(world.deal(batch, lambda example: len(example.ids)), key=lambda example: len(example.ids))
    groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return world.in_step((_padded(rows, device) for rows in groups), lambda: _padded([Example([0], [])], device))


def _padded(rows: list[Example], device: torch.device) -> tuple[Tensor, Tensor]:
    width = len(rows[-1].ids)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows], device=device)
    states = [r * width + i for r, row in enumerate(rows) for i in row.states]
    return ids, torch.tensor(states, dtype=torch.long, device=device)


def _load(session: Session, config: SftConfig) -> RoleModel:
    if config.lora_rank:
        roles = load_start(session, ROLE, config)
        roles.learn(ROLE)
        return roles
    if config.adapter:
        raise EngineError(WHOLE_FROM_ADAPTER)
    roles = load_base(session, trainable=True)
    roles.add_alias(ROLE, "base")
    roles.model.requires_grad_(True)
    return roles


def _optimizer(roles: RoleModel, config: SftConfig, steps: int) -> torch.optim.Optimizer:
    if config.lora_rank:
        return roles.optimizer(ROLE, config.learning_rate, steps, config.weight_decay)
    return adamw(_trained(roles), config.learning_rate, config.weight_decay)


def _trained(roles: RoleModel) -> list[torch.nn.Parameter]:
    return [parameter for parameter in roles.model.parameters() if parameter.requires_grad]


def _weights(roles: RoleModel) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in roles.model.named_parameters() if p.requires_grad}


def _load_weights(roles: RoleModel, weights: dict[str, Tensor]) -> None:
    roles.model.load_state_dict(weights, strict=False)


def _save(roles: RoleModel, folder: Path) -> None:
    if roles.parameters(ROLE):
        roles.save(ROLE, folder)
    else:
        roles.model.save_pretrained(folder)
        roles.tokenizer.save_pretrained(folder)

"""Training of a reward model. It knows nothing about run directories: whoever drives it writes events and checkpoints.

    fit = Fit(model, train, held_out, config)
    for progress in fit.run():          # one optimizer step each
        ...                             # emit progress.metrics, save fit.state_dict() when due, or break
    report = fit.finish()               # the best weights, normalised

A fit that is loaded from `state_dict` goes on bit for bit (on a CPU): everything random is drawn from the seed and the
epoch, and the state of torch's generator, which LoRA dropout draws from, is the driver's to restore.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rewardmodel.adapters import rate_factor
from rewardmodel.config import PLACKETT_LUCE, TIE_AWARE, FitConfig
from rewardmodel.data import DataError, Encoded, epoch_batches
from rewardmodel.evaluate import data_metrics, evaluate, score_items
from rewardmodel.likelihood import Likelihood
from rewardmodel.losses import centering_loss, plackett_luce_choices
from rewardmodel.model import RewardModel
from rewardmodel.processes import ALONE, World
from rewardmodel.tuning import AdapterAdamW

L2_STEP = 1.5


class FitError(RuntimeError):
    """Training cannot go on; the message says why and what to change."""


@dataclass(frozen=True)
class Progress:
    """What one optimizer step gave; evaluation metrics are there after those steps that evaluate."""

    step: int
    metrics: dict[str, float]
    tokens: int
    """Of the batch's conversations, what they share counted for each."""


class Fit:
    """One training of `model` on `train`, watched on `held_out`."""

    def __init__(
        self,
        model: RewardModel,
        train: Sequence[Encoded],
        held_out: Sequence[Encoded],
        config: FitConfig,
        world: World = ALONE,
    ) -> None:
        if not train or not held_out:
            raise DataError("A reward model needs rankings to train on and rankings to hold out.")
        if config.loss == PLACKETT_LUCE:
            for label in (label for e in (*train, *held_out) for label in e.item.labels):
                plackett_luce_choices(label.tiers)  # a tie that is too large is said now, not in mid-training
        self.model, self.train, self.held_out, self.config, self.world = model, train, held_out, config, world
        # Found out here, with the weights of the start, so that a resumed fit decides alike.
        model.prepare(max(e.longest for e in (*train, *held_out)))
        self.steps_per_epoch = math.ceil(len(train) / config.batch_size)
        self.total_steps = max(1, round(config.epochs * self.steps_per_epoch))
        self.evaluate_every = max(1, self.steps_per_epoch // config.evaluations_per_epoch)
        self.step = 0
        self.best: dict[str, Any] = {}
        self._stale = 0  # evaluations since the best one
        self.l2 = config.l2
        self._losses: list[float] = []  # of the steps since the last evaluation
        self.likelihood = Likelihood(config).to(model.device)
        self._learning = model.learning()
        self._start = {name: p.detach().clone() for name, p in self._learning.items()} if config.l2 else {}
        self._learning |= {f"likelihood.{name}": p for name, p in self.likelihood.named_parameters()}
        self._optimizer = self._make_optimizer()

    @property
    def reliability(self) -> dict[str, float]:
        """How far each person can be relied on, as far as that is learned."""
        return dict(sorted(self.likelihood.reliability.items()))

    def is_done(self) -> bool:
        """At the last step, or held-out loss has not improved for `patience` evaluations."""
        return self.step >= self.total_steps or self._stale >= self.config.patience

    def run(self) -> Iterator[Progress]:
        """Optimizer steps from here until `is_done`."""
        while not self.is_done():
            epoch, position = divmod(self.step, self.steps_per_epoch)
            batches = epoch_batches(self.train, self.config.batch_size, self.config.seed, epoch)
            for batch in batches[position : position + self.total_steps - self.step]:
                yield self._advance(batch)
                if self.is_done():
                    return

    def finish(self) -> dict[str, float]:
        """Put the best weights back, with what was known of people then; normalise on the training completions.

        Scores get mean 0 and sd 1. Returns the final metrics. Raises FitError when all completions score alike.
        """
        for name, value in self.best["weights"].items():
            self._learning[name].data.copy_(value)
        self.likelihood.reliability = dict(self.best["reliability"])
        scores = torch.cat(score_items(self.model, self.train, self.world)).double()
        mean, sd = scores.mean(), scores.std(correction=0)
        if not bool(sd > 0) or not bool(torch.isfinite(sd)):
            raise FitError("Every completion has the same score, so the reward model learned nothing to normalise.")
        self.model.head.mean.copy_(mean)
        self.model.head.sd.copy_(sd)
        extra = {"tie_threshold": self.likelihood.threshold.item()} if self.config.loss in TIE_AWARE else {}
        step = {"best_step": float(self.best["step"])}
        return {**self.best["metrics"], **extra, **step, **data_metrics(self.train, self.held_out)}

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from here: tensors and plain values only."""
        return {
            "step": self.step,
            "stale": self._stale,
            "weights": self._weights(),
            "optimizer": self._optimizer.state_dict(),
            "best": self.best,
            "people": self.likelihood.facts(),
            "l2": self.l2,
            "losses": list(self._losses),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self._stale, self.best = state["step"], state["stale"], state["best"]
        for name, value in state["weights"].items():
            self._learning[name].data.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self.likelihood.load_facts(state["people"])
        self.l2, self._losses = state["l2"], list(state["losses"])

    def _advance(self, batch: Sequence[Encoded]) -> Progress:
        rates = self._set_learning_rates()
        with self.model.truncated(self.config.seed, self.step):
            loss = self._backward(batch)
        self._losses.append(loss)
        self.world.sum_gradients(self._learning.values())
        for name, start in self._start.items():
            parameter = self._learning[name]
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self.l2)
        torch.nn.utils.clip_grad_norm_(self._learning.values(), self.config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        metrics = {"loss/train": loss, "learning_rate": rates}
        if self.step % self.evaluate_every == 0 or self.step == self.total_steps:
            metrics |= self._evaluate()
        return Progress(self.step, metrics, sum(len(ids) for e in batch for ids in e.sequences))

    def _backward(self, batch: Sequence[Encoded]) -> float:
        """Gradients of the batch's loss, gathered over micro-batches; returns the loss without the centering term.

        The denominators are those of the whole batch, so the cut into micro-batches changes nothing. Of several
        processes each adds its part, and all return the same loss.
        """
        rankings = sum(label.weight for encoded in batch for label in encoded.item.labels)
        ordered = sorted(self.world.deal(batch, lambda e: e.longest), key=lambda e: e.longest)
        total, gaps = 0.0, []
        self.model.train_dropout(True)
        for start in range(0, len(ordered), self.config.micro_batch_size):
            part = ordered[start : start + self.config.micro_batch_size]
            scores = torch.nn.utils.rnn.pad_sequence(
                self.model.group_scores([e.sequences for e in part]), batch_first=True
            )
            present = torch.arange(scores.shape[1]) < torch.tensor([len(e.sequences) for e in part])[:, None]
            likelihood = self.likelihood.loss(scores, part).total / rankings
            gaps += self.likelihood.gaps(scores, part)
            drift = centering_loss(scores, present.to(scores.device)).total / len(batch)
            torch.autograd.backward(likelihood + self.config.centering * drift)
            total += float(likelihood.detach())
        self.model.train_dropout(False)
        self.likelihood.note(self.world.gather(gaps))
        return float(self.world.sum(torch.tensor(total, dtype=torch.float64)))

    def _evaluate(self) -> dict[str, float]:
        self.likelihood.update()
        metrics = evaluate(self.model, self.held_out, self.likelihood, self.world).metrics()
        if self.config.l2:
            self.l2 = adapt_l2(self.l2, metrics["eval/loss"], sum(self._losses) / len(self._losses))
            metrics["l2"] = self.l2
        self._losses = []
        if self._optimizer.budget and not self._optimizer.budget.is_settled:
            return metrics  # none of these weights is kept: they have more ranks than they shall have
        self._stale += 1
        if not self.best or metrics["eval/loss"] < self.best["metrics"]["eval/loss"]:
            people = dict(self.likelihood.reliability)
            self.best = {"step": self.step, "metrics": metrics, "weights": self._weights(), "reliability": people}
            self._stale = 0
        return metrics

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().cpu().clone() for name, parameter in self._learning.items()}

    def _make_optimizer(self) -> AdapterAdamW:
        config, head = self.config, [*self.model.head.parameters(), *self.likelihood.parameters()]
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {(config.head_learning_rate, 0.0): head}
        for name, p in self._learning.items():
            if all(p is not other for other in head):
                rate = config.learning_rate * rate_factor(name, self.model.lora)
                groups.setdefault((rate, config.weight_decay if p.ndim > 1 else 0.0), []).append(p)
        return AdapterAdamW(
            [{"params": ps, "peak": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()],
            lr=config.learning_rate,
            budget=self.model.rank_budget(self.total_steps),
        )

    def _set_learning_rates(self) -> float:
        """Linear warm-up, then a cosine to a tenth; a function of the step alone. Returns the adapter's rate."""
        warm = math.ceil(self.config.warmup * self.total_steps)
        if self.step < warm:
            factor = (self.step + 1) / warm
        else:
            done = (self.step - warm) / max(1, self.total_steps - warm)
            factor = 0.1 + 0.45 * (1 + math.cos(math.pi * done))
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        return factor * self.config.learning_rate


def adapt_l2(l2: float, held_out: float, train: float) -> float:
    """The next weight: up when held-out loss is far above training loss, down when they are close.

    Christiano et al. 2017 hold the ratio between 1.1 and 1.5; they do not say by which steps.
    """
    if held_out > 1.5 * train:
        return l2 * L2_STEP
    return l2 / L2_STEP if held_out < 1.1 * train else l2

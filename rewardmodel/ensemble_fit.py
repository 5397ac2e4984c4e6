"""Training of an ensemble: one `Fit` after the other, each on its own sample of the prompts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from rewardmodel.config import FitConfig
from rewardmodel.data import DataError, Encoded
from rewardmodel.ensemble import Combination, Ensemble
from rewardmodel.evaluate import data_metrics, evaluate
from rewardmodel.fit import Fit, Progress
from rewardmodel.likelihood import Likelihood
from rewardmodel.model import RewardModel
from rewardmodel.processes import ALONE, World
from rewardmodel.tokens import common_beginning
from rewardmodel.trajectory import Turns


def bootstrap(items: Sequence[Encoded], seed: int) -> tuple[list[Encoded], list[Encoded]]:
    """As many prompts as there are, drawn with replacement, and the items of the prompts that were not drawn.

    Drawn by prompt, so that no question is on both sides. Raises DataError for fewer than two prompts.
    """
    of_prompt: dict[str, list[Encoded]] = {}
    for encoded in items:
        of_prompt.setdefault(encoded.item.prompt, []).append(encoded)
    prompts = sorted(of_prompt)
    if len(prompts) < 2:
        raise DataError("An ensemble needs rankings of two prompts or more to train on.")
    generator = random.Random(f"{seed}/bootstrap")
    while True:  # of two prompts, every other sample leaves none out
        drawn = generator.choices(prompts, k=len(prompts))
        if len(set(drawn)) < len(prompts):
            break
    chosen = set(drawn)
    left_out = [encoded for prompt in prompts if prompt not in chosen for encoded in of_prompt[prompt]]
    return [encoded for prompt in drawn for encoded in of_prompt[prompt]], left_out


class EnsembleFit:
    """The interface of `Fit`, for several members. Evaluations while training are on each member's left-out prompts."""

    def __init__(
        self,
        model: RewardModel,
        train: Sequence[Encoded],
        held_out: Sequence[Encoded],
        config: FitConfig,
        *,
        members: int,
        pessimism: float = 0.0,
        world: World = ALONE,
    ) -> None:
        if not train or not held_out:
            raise DataError("A reward model needs rankings to train on and rankings to hold out.")
        self.train, self.held_out, self.config, self.pessimism = train, held_out, config, pessimism
        self.world = world
        models = [model, *(model.sibling(n, config.seed + n) for n in range(1, members))]
        self.fits = [
            Fit(member, *bootstrap(train, config.seed + n), replace(config, seed=config.seed + n), world)
            for n, member in enumerate(models)
        ]
        self.model = Ensemble(models, Combination(members, pessimism))

    @property
    def step(self) -> int:
        return sum(fit.step for fit in self.fits)

    @property
    def total_steps(self) -> int:
        """Of all members; fewer than planned when some ended early."""
        return sum(fit.step if fit.is_done() else fit.total_steps for fit in self.fits)

    @property
    def likelihood(self) -> Likelihood:
        """The first member's; the others' differ by what their samples say."""
        return self.fits[0].likelihood

    @property
    def reliability(self) -> dict[str, float]:
        """How far each person can be relied on: the mean of what the members' samples say."""
        found = [fit.reliability for fit in self.fits]
        people = sorted(set().union(*found))
        return {person: fmean(one[person] for one in found if person in one) for person in people}

    def run(self) -> Iterator[Progress]:
        """The members' optimizer steps, one member after the other, numbered through."""
        for fit in self.fits:
            for progress in fit.run():
                yield Progress(self.step, progress.metrics, progress.tokens)

    def finish(self) -> dict[str, float]:
        """Put every member's best weights back, normalise, and return the metrics of the ensemble on `held_out`."""
        alone = []
        for fit in self.fits:
            fit.finish()
            alone.append(evaluate(fit.model, self.held_out, fit.likelihood, self.world).accuracy.value)
        self.model.normalise(self.train, self.pessimism)
        single = [value for value in alone if value is not None]
        return {
            **evaluate(self.model, self.held_out, self.likelihood, self.world).metrics(),
            **({"eval/accuracy_member": sum(single) / len(single)} if single else {}),
            **self._disagreement(),
            **data_metrics(self.train, self.held_out),
        }

    def _disagreement(self) -> dict[str, float]:
        """Mean deviation on held-out completions, and how surely it tells completions of shuffled tokens from them."""
        generator = random.Random(f"{self.config.seed}/garble")
        real = [e.sequences for e in self.held_out]
        garbled = [[_garbled(s, common_beginning(group), generator) for s in group] for group in real]
        known, strange = (
            torch.cat([judged.uncertainty for judged in self.model.judge(groups)]).tolist()
            for groups in (real, garbled)
        )
        auc = area_under_curve(strange, known)
        return {"eval/disagreement": float(np.mean(known)), "eval/disagreement_auc": auc}

    def state_dict(self) -> dict[str, Any]:
        return {"fits": [fit.state_dict() for fit in self.fits]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for fit, saved in zip(self.fits, state["fits"], strict=True):
            fit.load_state_dict(saved)


def area_under_curve(high: Sequence[float], low: Sequence[float]) -> float:
    """Probability that one of `high` is above one of `low`; equal ones count half."""
    ranks = rankdata([*high, *low])[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def _garbled(sequence: Sequence[int], start: int, generator: random.Random) -> list[int]:
    """The tokens between `start` and the last one in random order; of turns, those of the answers."""
    if isinstance(sequence, Turns):
        return sequence.garbled(generator)
    middle = list(sequence[start:-1])
    generator.shuffle(middle)
    return [*sequence[:start], *middle, sequence[-1]]

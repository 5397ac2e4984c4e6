"""Rollouts of several processes: each draws a part of the answers, all get all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rewardmodel.processes import World
from training.engine.models import RoleModel

from . import Completion, RolloutEngine, Sampling, fast
from .reference import ReferenceEngine


def choose_engine(roles: RoleModel, world: World, group: int = 1) -> RolloutEngine:
    """The fastest engine for this model and these processes. `group` answers, those to one prompt, are drawn together.

    The fast engine keeps merged copies of the weights, which a process that holds a part of them has not.
    """
    engine = ReferenceEngine(roles, world.any) if world.sharded else fast.choose_engine(roles)
    return engine if world.size == 1 else SplitEngine(engine, world, group)


class SplitEngine:
    """The same answers as of the engine alone, up to rounding."""

    def __init__(self, engine: RolloutEngine, world: World, group: int) -> None:
        self.engine, self.world, self.group = engine, world, group

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
    ) -> list[Completion]:
        """One answer per prompt. An answer's random numbers depend on its place among all, not on who draws it."""
        mine = self.world.share(len(prompts), self.group)
        torch.rand(mine.start, sampling.max_new_tokens, generator=generator)  # those of the answers before
        asked = prompts[mine] or (prompts[:1] if self.world.sharded else [])
        answers = self.engine.generate(asked, sampling, generator) if asked else []
        return self.world.gather(answers[: mine.stop - mine.start])

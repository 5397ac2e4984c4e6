"""Several processes that compute together: each does a share of the work, and all know the result.

What is heavy (sampling, passes through a model) is split; what is small (tokens, scores, numbers per token, gradients
of adapters) is gathered or added up, so that every process goes on with the whole batch and with the formulas of a
single one. Alone, nothing here touches torch.distributed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among those of its run. With `sharded`, each holds a part of the base, so that every pass through
    the model is one that all processes make together."""

    rank: int = 0
    size: int = 1
    sharded: bool = False

    @property
    def leads(self) -> bool:
        """Exactly one process writes files."""
        return self.rank == 0

    def share(self, count: int, group: int = 1) -> slice:
        """This process's part of `count` things of which every `group` stay together. It may be empty."""
        groups = -(-count // group)
        first, last = (groups * rank // self.size * group for rank in (self.rank, self.rank + 1))
        return slice(min(first, count), min(last, count))

    def deal(self, things: Sequence[T], size: Callable[[T], int]) -> Sequence[T]:
        """This process's part of things of these sizes: like playing cards, the largest first. It may be empty."""
        return things if self.size == 1 else sorted(things, key=size, reverse=True)[self.rank :: self.size]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Does any process say so?"""
        return bool(self.sum(torch.tensor(int(flag)))) if self.size > 1 else flag

    def gather(self, things: list[T]) -> list[T]:
        """The parts of all processes, one behind the other."""
        if self.size == 1:
            return things
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, things)
        return [thing for part in parts for thing in part]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up what the processes found for their shares, in one flat message."""
        if self.size == 1:
            return
        learning = list(parameters)
        for parameter in learning:
            if parameter.grad is None:  # its share was empty
                parameter.grad = torch.zeros_like(parameter)
        flat = self.sum(torch.cat([p.grad.flatten() for p in learning if p.grad is not None]))
        sizes = [parameter.numel() for parameter in learning]
        for parameter, part in zip(learning, torch.split(flat, sizes), strict=True):
            parameter.grad = part.view_as(parameter)

    def in_step(self, batches: Iterable[T], idle: Callable[[], T]) -> Iterator[T]:
        """The batches. Where the base is sharded, as many in every process: `idle()` after the last own one."""
        if not self.sharded:
            yield from batches
            return
        for batch in batches:
            self.any(True)
            yield batch
        while self.any(False):
            yield idle()


ALONE = World()

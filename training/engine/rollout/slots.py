"""Who sits where: answers waiting for a slot, slots that run, slots that became free. Plain numbers, no tensors.

Prompts of similar length enter together, and samples of one prompt side by side, so that it is read once for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

REFILL = 0.25  # free slots wait until they are this share of all: reading few prompts at a time is slow
SHRINK = 0.8  # without anybody waiting, the batch shrinks once the running slots are at most this share of it


class Slots:
    """A schedule of `prompts` over at most `most` slots; `exact` shrinks to any number of slots, else by halves."""

    def __init__(self, prompts: Sequence[Sequence[int]], length: int, most: int, *, exact: bool) -> None:
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i], i))
        self._waiting, self._lengths = deque(order), [len(prompt) for prompt in prompts]
        self._limit, self._exact = length, exact
        self.live = min(most, len(prompts))
        self._first: list[int | None] = [None] * self.live  # running slots: position less steps taken
        self._end = [0] * self.live  # the step after which the slot has drawn its last token
        self._steps = 0

    @property
    def open(self) -> bool:
        return bool(self._waiting) or any(first is not None for first in self._first)

    @property
    def width(self) -> int:
        """Columns that the next step looks at."""
        return 1 + self._steps + max(first for first in self._first if first is not None)

    @property
    def steps_left(self) -> int:
        """Steps until every running slot has drawn all it may."""
        return max((end - self._steps for end, first in zip(self._end, self._first, strict=True) if first is not None))

    def admit(self) -> list[tuple[int, int]]:
        """Pairs (slot, answer) of those who enter now."""
        free = [slot for slot, first in enumerate(self._first) if first is None]
        if not self._waiting or len(free) < REFILL * self.live:
            return []
        entering = [(slot, self._waiting.popleft()) for slot in free[: len(self._waiting)]]
        for slot, answer in entering:
            self._first[slot] = self._lengths[answer] - self._steps
            self._end[slot] = self._steps + self._limit - 1  # the first token is drawn on entering
        return entering

    def shrink(self) -> list[int]:
        """Slots that go on, in their new order, when enough of them ended; else nothing."""
        running = [slot for slot, first in enumerate(self._first) if first is not None]
        if self._waiting or not running:
            return []
        live = len(running) if self._exact else self.live
        while not self._exact and live // 2 >= len(running):
            live //= 2
        if live > SHRINK * self.live:
            return []
        idle = [slot for slot, first in enumerate(self._first) if first is None]
        keep = (running + idle)[:live]
        self._first, self._end = [self._first[slot] for slot in keep], [self._end[slot] for slot in keep]
        self.live = live
        return keep

    def step(self) -> None:
        self._steps += 1

    def note(self, running: Sequence[bool]) -> None:
        """Which slots still run."""
        self._first = [first if runs else None for first, runs in zip(self._first, running, strict=True)]

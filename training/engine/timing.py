"""Seconds per phase of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .memory import peak_megabytes


class PhaseClock:
    """Measures named phases; on a GPU it waits for the work that was queued."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        self._last = self._now()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - start

    def metrics(self, tokens: int) -> dict[str, float]:
        """`perf/seconds_<phase>`, tokens per second of the whole step, and peak memory."""
        seconds = {f"perf/seconds_{name}": value for name, value in self.seconds.items()}
        rate = tokens / max(sum(self.seconds.values()), 1e-9)
        return seconds | {"perf/tokens_per_second": rate, "perf/memory_mb": peak_megabytes(self._device)}

    def lap(self, tokens: int) -> dict[str, float]:
        """The same for a step that just learned: `perf/seconds_train` since the clock was made or last asked."""
        now = self._now()
        self.seconds, self._last = {"train": now - self._last}, now
        return self.metrics(tokens)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

"""Running one decoding step again and again: as a CUDA graph, or plainly.

A small model's step on a GPU is hundreds of kernels that take less time than starting them; a graph starts them all at
once. It remembers addresses, so whatever a step reads or writes must stay where it is between calls.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Step = Callable[[int, int], None]  # (slots, columns)


class Plain:
    """Calls the step."""

    stride, block = 1, 1  # steps between looks at who ended; columns are rounded up to a multiple

    def __init__(self, step: Step) -> None:
        self._step = step

    def __call__(self, live: int, width: int) -> None:
        self._step(live, width)


class Graphs:
    """Records the step once for each number of slots and columns, and replays it.

    The first call of a kind runs plainly, which lets libraries allocate and choose kernels; the second records. Where
    recording is not possible, steps go on plainly.
    """

    stride, block = 16, 128  # looking waits for the GPU

    def __init__(self, step: Step, record: Callable[[Callable[[], None]], Callable[[], None]] | None = None) -> None:
        self._step = step
        self._record: Callable[[Callable[[], None]], Callable[[], None]] | None = record or _Recorder()
        self._replays: dict[tuple[int, int], Callable[[], None]] = {}
        self._seen: set[tuple[int, int]] = set()

    def __call__(self, live: int, width: int) -> None:
        kind = (live, width)
        if kind in self._seen and kind not in self._replays and self._record:
            try:
                self._replays[kind] = self._record(lambda: self._step(live, width))
            except RuntimeError as error:
                print(f"Sampling goes on without CUDA graphs: {error}", flush=True)
                self._record = None
        self._seen.add(kind)
        self._replays.get(kind, lambda: self._step(live, width))()


class _Recorder:
    """Captures into CUDA graphs that share one pool of memory; they are never replayed at the same time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=self._pool):
            work()
        return graph.replay

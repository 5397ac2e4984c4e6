"""A batch of prompts with answers as right-padded ids, and the index arithmetic every pass over it needs.

Right padding and causal attention make masks unnecessary. Micro-batches take rows of similar length and drop the
columns that none of them uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .rollout import Completion


class MicroBatch(NamedTuple):
    """Some rows of a batch.

    ids (rows, time); rows (rows,) their numbers in the batch; states: index into the flattened ids of the state
    before each answer token, row by row; ends: the same for each row's last token; where: index of each answer token
    in the flattened (episodes, answer time) of the batch.
    """

    ids: Tensor
    rows: Tensor
    states: Tensor
    ends: Tensor
    where: Tensor


TIGHTNESS = 0.8  # the shortest row of a micro-batch has at least this share of the longest one's length


def similar_lengths(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices, longest first, cut into groups of at most `size` whose lengths differ little: less padding."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and len(groups[-1]) < size and lengths[i] >= TIGHTNESS * lengths[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


class Episodes:
    """Prompts and answers, end tokens included. `mask` (episodes, answer time) is True on answer tokens."""

    def __init__(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Completion], device: torch.device
    ) -> None:
        self.completions = completions
        replies = [completion.ids for completion in completions]
        self.finished = torch.tensor([completion.finished for completion in completions], device=device)
        self.starts = torch.tensor([len(prompt) for prompt in prompts])
        self.reply_lengths = torch.tensor([len(reply) for reply in replies])
        self.lengths = self.starts + self.reply_lengths
        longest = int(self.lengths.max())
        rows = [
            [*prompt, *reply] + [0] * (longest - len(prompt) - len(reply))
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
        self.ids = torch.tensor(rows).to(device)
        self.mask = (torch.arange(int(self.reply_lengths.max())) < self.reply_lengths[:, None]).to(device)

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def tokens(self) -> int:
        """Answer tokens in the batch."""
        return int(self.reply_lengths.sum())

    def micro_batches(self, size: int, rows: Tensor | None = None) -> Iterator[MicroBatch]:
        """The given rows (all of them without) in groups of similar length, at most `size` at a time."""
        chosen = torch.arange(len(self)) if rows is None else rows
        for group in similar_lengths(self.lengths[chosen].tolist(), size):
            yield self._micro_batch(chosen[group])

    def _micro_batch(self, rows: Tensor) -> MicroBatch:
        device = self.ids.device
        width, replies = int(self.lengths[rows].max()), self.reply_lengths[rows]
        row = torch.arange(len(rows)).repeat_interleave(replies)
        step = torch.cat([torch.arange(int(n)) for n in replies])
        states = row * width + self.starts[rows][row] - 1 + step
        ends = torch.arange(len(rows)) * width + self.lengths[rows] - 1
        where = rows[row] * self.mask.shape[1] + step
        ids = self.ids[rows.to(device), :width]
        return MicroBatch(ids, rows.to(device), states.to(device), ends.to(device), where.to(device))

    def table(self, micro: MicroBatch, values: Tensor, table: Tensor | None = None) -> Tensor:
        """Put a micro-batch's per-token values (tokens,) into an (episodes, answer time) table."""
        if table is None:
            table = values.new_zeros(self.mask.shape)
        table.view(-1)[micro.where] = values
        return table

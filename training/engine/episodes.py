"""A batch of prompts with answers as ids, and the index arithmetic every pass over it needs.

Right padding and causal attention make masks unnecessary. Micro-batches take rows of similar length and drop the
columns that none of them uses. Several answers to one prompt may share a row, in which the prompt is read once
(`rewardmodel.packing`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rewardmodel.packing import cheapest_rows, visible
from rewardmodel.processes import ALONE, World

from .rollout import Completion


class MicroBatch(NamedTuple):
    """Some rows of a batch.

    ids (rows, time); rows (episodes,) their numbers in the batch; states: index into the flattened ids of the state
    before each answer token, episode by episode; targets: those tokens; ends: like states, for each episode's last
    token; where: index of each answer token in the flattened (episodes, answer time) of the batch; layout: what a
    model must be told about rows that hold several answers.
    """

    ids: Tensor
    rows: Tensor
    states: Tensor
    targets: Tensor
    ends: Tensor
    where: Tensor
    layout: dict[str, Any]


WORTH_SHARING = 0.2  # share of tokens that a common row must spare: it needs a mask, which costs as well
STEP = 8  # widths of micro-batches are multiples of it
PASS = 256  # padded tokens that are worth a pass less: small passes do not use a processor well


def similar_lengths(lengths: Sequence[int], size: int, sizes: Sequence[int] | None = None) -> list[list[int]]:
    """Indices, longest first, cut into groups of at most `size` so that reading them is cheapest.

    A group is padded to its longest, and a pass of its own costs as much as PASS tokens. With `sizes`, an index counts
    for so many.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    counts = [sizes[i] if sizes else 1 for i in order]
    cheapest, starts = [0.0], [0]  # of the first so many: what they cost, and where their last group starts
    for end in range(1, len(order) + 1):
        options: list[tuple[float, int]] = []
        full = 0
        for start in range(end - 1, -1, -1):
            full += counts[start]
            if options and full > size:
                break
            options.append((cheapest[start] + PASS + (end - start) * lengths[order[start]], start))
        cost, start = min(options)
        cheapest.append(cost)
        starts.append(start)
    groups, end = [], len(order)
    while end:
        groups.append(order[starts[end] : end])
        end = starts[end]
    return groups[::-1]


class Episodes:
    """Prompts and answers, end tokens included. `mask` (episodes, answer time) is True on answer tokens.

    `share` is the hidden size of a model that can read several answers to a prompt in one row (None: each alone), and
    `dtype` its precision. Of the processes of `world`, each gets other micro-batches.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Completion],
        device: torch.device,
        *,
        share: int | None = None,
        dtype: torch.dtype = torch.float32,
        world: World = ALONE,
    ) -> None:
        self.prompts, self.completions, self.world = prompts, completions, world
        self._share, self._dtype = share, dtype
        replies = [completion.ids for completion in completions]
        self.finished = torch.tensor([completion.finished for completion in completions], device=device)
        self.starts = torch.tensor([len(prompt) for prompt in prompts])
        self.reply_lengths = torch.tensor([len(reply) for reply in replies])
        self.lengths = self.starts + self.reply_lengths
        longest = self._rounded(int(self.lengths.max()))
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
        """The given rows (all of them without) in groups of similar length, at most `size` at a time.

        Of several processes, each gets a share of them; what they find is to be added up.
        """
        chosen = torch.arange(len(self)) if rows is None else rows
        parts = self.world.deal(self._parts(chosen.tolist(), size), self._width)
        lengths = [self._width(part) for part in parts]
        groups = similar_lengths(lengths, size, [len(part) for part in parts])
        mine = (self._micro_batch([parts[i] for i in group]) for group in groups)
        return self.world.in_step(mine, self._nothing)

    def table(self, micro: MicroBatch, values: Tensor, table: Tensor | None = None) -> Tensor:
        """Put a micro-batch's per-token values (tokens,) into an (episodes, answer time) table."""
        if table is None:
            table = values.new_zeros(self.mask.shape)
        table.view(-1)[micro.where] = values
        return table

    def _parts(self, chosen: list[int], size: int) -> list[list[int]]:
        """Episodes that share a row, as many as are cheapest to read together."""
        if self._share is None:
            return [[i] for i in chosen]
        same: dict[tuple[int, ...], list[int]] = {}
        for i in chosen:
            same.setdefault(tuple(self.prompts[i]), []).append(i)
        parts = []
        for prompt, group in same.items():
            replies = int(self.reply_lengths[group].sum())
            rows = cheapest_rows(len(prompt), replies, len(group), self._share)
            spared = (len(group) - rows) * len(prompt) / (len(group) * len(prompt) + replies)
            step = min(size, math.ceil(len(group) / rows)) if spared > WORTH_SHARING else 1
            parts += [group[start : start + step] for start in range(0, len(group), step)]
        return parts

    def _micro_batch(self, parts: list[list[int]]) -> MicroBatch:
        if all(len(part) == 1 for part in parts):
            return self._alone(torch.tensor([part[0] for part in parts]))
        return self._together(parts)

    def _alone(self, rows: Tensor) -> MicroBatch:
        """An episode per row."""
        width, replies = self._rounded(int(self.lengths[rows].max())), self.reply_lengths[rows]
        row = torch.arange(len(rows)).repeat_interleave(replies)
        states = row * width + self.starts[rows][row] - 1 + _steps(replies)
        ends = torch.arange(len(rows)) * width + self.lengths[rows] - 1
        ids = self.ids[rows.to(self.ids.device), :width]
        return self._on_device(ids, rows, states, ids.flatten()[(states + 1).to(ids.device)], ends, {})

    def _together(self, parts: list[list[int]]) -> MicroBatch:
        """A row per part: [prompt][answer 1]...[answer n], every answer at the positions behind the prompt."""
        width = self._rounded(max(self._width(part) for part in parts))
        shape = (len(parts), width)
        ids, positions, branches = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
        trees = torch.full(shape, -1)
        states, targets, ends = [], [], []
        for number, part in enumerate(parts):
            prompt, end = self.prompts[part[0]], len(self.prompts[part[0]])
            ids[number, :end], positions[number, :end] = torch.tensor(prompt), torch.arange(end)
            for branch, episode in enumerate(part, start=1):
                reply = self.completions[episode].ids
                place = slice(end, end + len(reply))
                ids[number, place], branches[number, place] = torch.tensor(reply), branch
                positions[number, place] = torch.arange(len(prompt), len(prompt) + len(reply))
                first = number * width
                states += [first + len(prompt) - 1, *range(first + end, first + end + len(reply) - 1)]
                targets += reply
                end += len(reply)
                ends.append(first + end - 1)
            trees[number, :end] = number
        mask = visible(trees, branches, self._dtype)
        layout = {"position_ids": positions.to(self.ids.device), "attention_mask": mask.to(self.ids.device)}
        rows = torch.tensor([episode for part in parts for episode in part])
        return self._on_device(ids, rows, torch.tensor(states), torch.tensor(targets), torch.tensor(ends), layout)

    def _nothing(self) -> MicroBatch:
        """A row to read, and no token of it that counts."""
        micro = self._alone(torch.tensor([0]))
        counted = ("rows", "states", "targets", "ends", "where")
        return micro._replace(**{name: getattr(micro, name)[:0] for name in counted})

    def _on_device(
        self, ids: Tensor, rows: Tensor, states: Tensor, targets: Tensor, ends: Tensor, layout: dict[str, Any]
    ) -> MicroBatch:
        replies = self.reply_lengths[rows]
        where = rows.repeat_interleave(replies) * self.mask.shape[1] + _steps(replies)
        device = self.ids.device
        ids, rows, states, targets = ids.to(device), rows.to(device), states.to(device), targets.to(device)
        return MicroBatch(ids, rows, states, targets, ends.to(device), where.to(device), layout)

    def _rounded(self, width: int) -> int:
        """Few different shapes: kernels are made for each (see `products`)."""
        return -(-width // STEP) * STEP

    def _width(self, part: list[int]) -> int:
        return int(self.starts[part[0]]) + int(self.reply_lengths[part].sum())


def _steps(lengths: Tensor) -> Tensor:
    """0, 1, ... for each length, one behind the other."""
    return torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)

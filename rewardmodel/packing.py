"""One prompt, many completions, one reading: rows of tokens in which branches share their beginning.

A group of sequences (the conversations of one item) becomes [beginning][rest 1]...[rest K]. Positions of each rest go
on from the beginning, and a block mask lets a token see what comes before it in the beginning and in its own rest, so
a causal model computes for every token what it would compute for that sequence alone. Groups are laid side by side
into rows, so that next to nothing is spent on padding.

The beginning is the longest that the *ids* have in common: tokens may merge across the end of the prompt, and what was
cut off on the left may differ. Left out: beginnings that only some sequences of a group share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rewardmodel.tokens import common_beginning

Ids = Sequence[int]


@dataclass(frozen=True)
class Tree:
    """Different sequences with a common beginning; `ends[k]` is the place of sequence k's last token in `ids`."""

    ids: list[int]
    positions: list[int]
    branches: list[int]
    """0 in the beginning, k + 1 in the rest of sequence k."""
    ends: list[int]


@dataclass(frozen=True)
class Rows:
    """Trees side by side, ready for a model. All (rows, time); padding lies on the right."""

    ids: Tensor
    positions: Tensor
    trees: Tensor
    """Number of the tree of each token, -1 for padding."""
    branches: Tensor
    ends: tuple[Tensor, Tensor]
    """(row, column) of the last token of each sequence: tree by tree, in the order in which the trees were given."""

    def attention_mask(self, dtype: torch.dtype) -> Tensor:
        """(rows, 1, time, time) to be added to attention scores: see `visible`."""
        return visible(self.trees, self.branches, dtype)


def visible(trees: Tensor, branches: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores, (rows, 1, time, time): 0 where row i may look at column j, else minus a lot.

    `trees` and `branches` (rows, time) as in `Rows`. Padding looks at earlier padding, so that no softmax is empty.
    """
    time = trees.shape[1]
    causal = torch.ones(time, time, dtype=torch.bool, device=trees.device).tril()
    looks, seen = branches[:, :, None], branches[:, None, :]
    same = trees[:, :, None] == trees[:, None, :]
    sees = causal & same & ((seen == 0) | (seen == looks))
    mask = torch.zeros(sees.shape, dtype=dtype, device=trees.device)
    return mask.masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def make_tree(sequences: Sequence[Ids]) -> Tree:
    """The tree of different, non-empty sequences."""
    shared = common_beginning(sequences)
    tree = Tree(list(sequences[0][:shared]), list(range(shared)), [0] * shared, [])
    for branch, sequence in enumerate(sequences, start=1):
        tree.ids.extend(sequence[shared:])
        tree.positions.extend(range(shared, len(sequence)))
        tree.branches.extend([branch] * (len(sequence) - shared))
        tree.ends.append(len(tree.ids) - 1)
    return tree


def split_group(sequences: Sequence[Ids], hidden: int) -> list[Sequence[Ids]]:
    """A group in the parts that are cheapest to read as trees, for a model of that hidden size."""
    shared = common_beginning(sequences)
    others = sum(map(len, sequences)) - shared * len(sequences)
    size = math.ceil(len(sequences) / cheapest_rows(shared, others, len(sequences), hidden))
    return [sequences[i : i + size] for i in range(0, len(sequences), size)]


def cheapest_rows(shared: int, others: int, count: int, hidden: int) -> int:
    """In how many rows `count` sequences with `shared` common and `others` other tokens are cheapest to read.

    A row of T tokens costs T for its matrices and about T^2 / (2 hidden) for attention over a mask. With P shared and
    S other tokens, m rows cost m P + S + m (P + S / m)^2 / (2 hidden). That is least at m = S / sqrt(2 hidden P + P^2):
    long answers to a short prompt are better read apart.
    """
    best = round(others / math.sqrt(2 * hidden * shared + shared**2)) if shared else count
    return min(max(best, 1), count)


def fill_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of lengths in rows of at most `capacity` (one that is longer has its own), fullest fit, longest first."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fits = [row for row, left in enumerate(room) if left >= lengths[i]]
        if fits:
            row = min(fits, key=lambda row: (room[row], row))
            rows[row].append(i)
            room[row] -= lengths[i]
        else:
            rows.append([i])
            room.append(capacity - lengths[i])
    return rows


def lay_out(trees: Sequence[Tree], rows: Sequence[Sequence[int]], fill: int, device: torch.device) -> Rows:
    """Tensors of the rows, each given as indices of `trees`. `fill` is the id of padding."""
    width = max(sum(len(trees[i].ids) for i in row) for row in rows)
    tables: list[list[list[int]]] = [[], [], [], []]
    ends: dict[int, list[tuple[int, int]]] = {}
    for number, row in enumerate(rows):
        columns: list[list[int]] = [[], [], [], []]
        for i in row:
            tree, start = trees[i], len(columns[0])
            ends[i] = [(number, start + end) for end in tree.ends]
            parts = (tree.ids, tree.positions, [i] * len(tree.ids), tree.branches)
            for column, part in zip(columns, parts, strict=True):
                column.extend(part)
        for table, column, value in zip(tables, columns, (fill, 0, -1, 0), strict=True):
            table.append(column + [value] * (width - len(column)))
    ids, positions, numbers, branches = (torch.tensor(table, device=device) for table in tables)
    places = torch.tensor([place for i in sorted(ends) for place in ends[i]], device=device)
    return Rows(ids, positions, numbers, branches, (places[:, 0], places[:, 1]))

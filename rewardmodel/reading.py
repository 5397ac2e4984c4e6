"""Reading: token sequences to the hidden states that a head scores, with as little computed as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from rewardmodel.adapters import DROPOUT
from rewardmodel.head import pool
from rewardmodel.packing import Tree, fill_rows, lay_out, make_tree, split_group

Groups = Sequence[Sequence[Sequence[int]]]
Of = Callable[[Tensor], Tensor]
"""What is wanted of hidden states (rows, hidden), e.g. a head's scores; taken part by part, which saves memory."""

PADDED_TOKENS = 16384  # of one forward pass
PACKED_ROW = 512  # tokens up to which rows are filled; longer ones would spend more on attention than they save


class Reader:
    """A transformer without its language-modelling head, and how its hidden states become one per sequence."""

    def __init__(self, trunk: Any, pooling: str, fill: int, max_length: int) -> None:
        self.trunk, self.pooling, self.max_length = trunk, pooling, max_length
        self._fill = fill  # the id of padding
        self._shares: dict[int, bool] = {}  # what `shares_beginnings` found, by length

    @property
    def device(self) -> torch.device:
        return torch.device(self.trunk.device)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(rows, hidden) of padded ids (rows, time); mask is True on tokens, padding may be on either side."""
        mask = mask.bool()
        # Tokens first: positions then count from 0 in every architecture, whichever side the padding came on.
        order = mask.int().argsort(dim=1, descending=True, stable=True)
        ids, mask = ids.gather(1, order), mask.gather(1, order)
        if self.pooling == "mean":
            states = self.trunk(input_ids=ids, attention_mask=mask.long())
        else:  # causal attention: what follows a token cannot change it, so padding behind it needs no mask
            states = self.trunk(input_ids=ids, use_cache=False)
        return pool(states.last_hidden_state, mask, self.pooling)

    def read_alone(self, sequences: Sequence[Sequence[int]], of: Of, padded_tokens: int = PADDED_TOKENS) -> Tensor:
        """`of` each sequence, in the order given. Sequences of similar length go through together."""
        order, parts = [], []
        for chunk in similar_lengths([len(s) for s in sequences], padded_tokens):
            order += chunk
            parts.append(of(self.read(*self._pad([sequences[i] for i in chunk]))))
        return self._in_order(parts, order)

    def read_groups(self, groups: Groups, of: Of, padded_tokens: int = PADDED_TOKENS) -> list[Tensor]:
        """`of` each group's sequences, e.g. of one item's conversations.

        What a group's sequences have in common at their beginning is read once, and equal sequences are read once.
        Models that cannot do that exactly (see `shares_beginnings`) read every sequence alone.
        """
        distinct = [list(dict.fromkeys(map(tuple, group))) for group in groups]
        if self.shares_beginnings(max((len(s) for group in distinct for s in group), default=0)):
            width = int(self.trunk.config.get_text_config().hidden_size)
            parts = [part for group in distinct for part in split_group(group, width)]
            flat = self._read_packed([make_tree(part) for part in parts], of, padded_tokens)
        else:
            flat = self.read_alone([s for group in distinct for s in group], of, padded_tokens)
        found = list(torch.split(flat, [len(group) for group in distinct]))
        for i, (group, different) in enumerate(zip(groups, distinct, strict=True)):
            if len(different) < len(group):
                place = {sequence: n for n, sequence in enumerate(different)}
                found[i] = found[i][[place[tuple(sequence)] for sequence in group]]
        return found

    def shares_beginnings(self, longest: int) -> bool:
        """Whether this model reads packed sequences of up to `longest` tokens exactly as it reads them alone.

        Windows, recurrent states, positions of their own kind and kernels that ignore masks all show in the hidden
        states of random tokens; so that is tried, up to the next power of two, instead of trusting a list of names.
        """
        if self.pooling != "last" or longest == 0:
            return False
        if any(shares and longest <= tried for tried, shares in self._shares.items()):
            return True
        size = max(8, min(1 << (longest - 1).bit_length(), max(longest, self.max_length)))
        if size not in self._shares:
            self._shares[size] = self._try_sharing(size)
        return self._shares[size]

    @torch.no_grad()
    def _try_sharing(self, size: int) -> bool:
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.trunk.get_input_embeddings().num_embeddings
        ids = torch.randint(vocabulary, (4, size), generator=generator).tolist()
        half, quarter = ids[0][: size // 2], ids[1][: size // 4]
        groups = [[half + ids[2][: size - size // 2], half + ids[3][: size - size // 2]], [quarter, ids[2][:5]]]
        dropout = [m for name, m in self.trunk.named_modules() if DROPOUT.search(name) and m.training]
        for module in dropout:
            module.eval()
        try:
            packed = self._ends([make_tree(group) for group in groups], [[1, 0]])
        except Exception:  # architectures refuse such masks or positions each with an error of their own
            return False
        else:
            expected = torch.cat([self.read(*self._pad([s])) for group in groups for s in group]).float()
        finally:
            for module in dropout:
                module.train()
        difference = (packed.float() - expected).norm(dim=1) / expected.norm(dim=1)
        exact = packed.dtype == torch.float32
        return bool((difference < (1e-4 if exact else 5e-2)).all())  # False for NaN, too

    def _read_packed(self, trees: Sequence[Tree], of: Of, padded_tokens: int) -> Tensor:
        """`of` all sequences, tree by tree."""
        lengths = [len(tree.ids) for tree in trees]
        rows = fill_rows(lengths, PACKED_ROW)
        firsts = list(accumulate((len(tree.ends) for tree in trees), initial=0))
        order, parts = [], []
        for chunk in similar_lengths([sum(lengths[i] for i in row) for row in rows], padded_tokens):
            chosen = sorted(i for row in chunk for i in rows[row])
            local = {i: n for n, i in enumerate(chosen)}
            order += [n for i in chosen for n in range(firsts[i], firsts[i + 1])]
            parts.append(of(self._ends([trees[i] for i in chosen], [[local[i] for i in rows[row]] for row in chunk])))
        return self._in_order(parts, order)

    def _ends(self, trees: Sequence[Tree], rows: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states (sequences, hidden) at the ends of all sequences, tree by tree."""
        packed = lay_out(trees, rows, self._fill, self.device)
        mask = packed.attention_mask(self.trunk.dtype)
        states = self.trunk(
            input_ids=packed.ids, attention_mask=mask, position_ids=packed.positions, use_cache=False
        ).last_hidden_state
        ends: Tensor = states[packed.ends]
        return ends

    def _in_order(self, parts: list[Tensor], order: list[int]) -> Tensor:
        """Parts one behind the other, of which the entries belong to the places `order`."""
        if not parts:
            return torch.zeros(0, device=self.device)
        position = torch.empty(len(order), dtype=torch.long)
        position[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[position.to(self.device)]

    def _pad(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(s) for s in sequences])
        width = int(lengths.max())
        ids = torch.tensor([[*s, *[self._fill] * (width - len(s))] for s in sequences])
        mask = torch.arange(width)[None] < lengths[:, None]
        return ids.to(self.device), mask.to(self.device)


def similar_lengths(lengths: Sequence[int], padded_tokens: int, tightness: float = 0.8) -> list[list[int]]:
    """Indices in groups, longest first; in a group none is shorter than `tightness` times the longest.

    A group holds at most `padded_tokens` tokens with its padding (and at least one sequence).
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[groups[-1][0]] if groups else 0
        fits = groups and (len(groups[-1]) + 1) * longest <= padded_tokens
        if fits and lengths[i] >= tightness * longest:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups

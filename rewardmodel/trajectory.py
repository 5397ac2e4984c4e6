"""Rewards of single turns, learned from comparisons of whole conversations (Christiano et al. 2017, section 2.2.1).

A conversation's score is the sum of its turns' rewards, so comparing sums teaches the terms:

    P(a beats b) = sigmoid( sum over turns of a  r(turn)  -  sum over turns of b  r(turn) )

`TrajectoryModel` is a `RewardModel` with that sum for a score: train it by `Fit`, then `turn_rewards` says what each
answer contributed. A turn's reward is the head's on the state at the end of the answer. By default each turn is read
alone, the user's message and the answer, as in the paper, where a reward depends on one step. Then what lies between
turns, such as a contradiction, is in no term and cannot be learned: a `RewardModel` of whole conversations does that.

With `history` the whole conversation is read once, and each state knows all earlier turns. The sum can then say what
a whole-conversation model can, and for that very reason its terms mean little: a turn's may contain those of earlier
ones. In the simulation of the tests, the rewards found correlate with the true ones by 0.95 alone, by 0.45 so.

Left out: encoders, whose states at one turn know the later ones; conversations longer than the model reads, because
the turns cut off would be missing in the sum.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from rewardmodel.head import RewardHead
from rewardmodel.model import TRAJECTORY, RewardModel, RewardModelError
from rewardmodel.reading import PADDED_TOKENS, Groups, Of, similar_lengths
from rewardmodel.tokens import EncodingError, Message, encode_conversation, pad_id, split_turns


def turn_ends(mask: Tensor) -> Tensor:
    """Where answers end: True (rows, time) on the last token of each run of True in `mask` (rows, time).

    `mask` is True on what the assistant wrote, as `encode_conversation` gives it. Answers without any token between
    them are one turn.
    """
    following = torch.nn.functional.pad(mask[:, 1:], (0, 1))
    return mask & ~following


class Turns(list[int]):
    """Token ids of a conversation. `parts` are what the model reads: ids, and a mask that is True on answers."""

    def __init__(self, parts: Iterable[tuple[list[int], list[bool]]]) -> None:
        self.parts = tuple(parts)
        super().__init__(token for ids, _ in self.parts for token in ids)

    def garbled(self, generator: random.Random) -> Turns:
        """The same with the tokens of each part's answers in random order, but for the last one."""
        return Turns((_garble(ids, mask, generator), mask) for ids, mask in self.parts)


class TrajectoryModel(RewardModel):
    """Scores of conversations that are sums over their turns. Make one with `create` or `load`.

    `history` may be set to True before anything is encoded; then every turn is read with all that came before it.
    """

    def __init__(self, *parts: Any, pooling: str, **facts: Any) -> None:
        if pooling != "last":
            raise RewardModelError("Rewards of turns need a causal language model: an encoder reads later turns, too.")
        super().__init__(*parts, pooling=pooling, **facts)
        self.history = False

    @classmethod
    def load(cls, folder: Path | str, **options: Any) -> Self:
        """A saved model, ready to score; options as of `RewardModel.load`. Raises RewardModelError."""
        try:
            history = json.loads((Path(folder) / TRAJECTORY).read_text(encoding="utf-8"))["history"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RewardModelError(f"{folder} holds no rewards of turns: {TRAJECTORY} cannot be read.") from error
        loaded = super().load(folder, **options)
        loaded.history = bool(history)
        return loaded

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder, and that it scores turns."""
        super().save(folder)
        (folder / TRAJECTORY).write_text(json.dumps({"history": self.history}) + "\n", encoding="utf-8")

    def prepare(self, longest: int) -> None:
        """Nothing to find out: turns share no beginnings."""

    def encode(self, messages: Sequence[Message]) -> Turns:
        """The ids of a conversation with its turns, as `raw_scores` takes them. Raises EncodingError."""
        read = [list(messages)] if self.history else split_turns(messages)
        turns = Turns(encode_conversation(self.tokenizer, part) for part in read)
        if not any(any(mask) for _, mask in turns.parts):
            raise EncodingError("A conversation without any answer has no turn to reward.")
        longest = max(len(ids) for ids, _ in turns.parts)
        if longest > self.max_length:
            raise EncodingError(
                f"The model reads {self.max_length} tokens, and all turns count: {longest} are too many."
            )
        return turns

    def encode_together(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """The ids of an item's conversations with their turns, as `group_scores` takes them."""
        return [self.encode(messages) for messages in conversations]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Raw scores (rows,) of ids (rows, time), padded on the right; `mask` is True on what the assistant wrote."""
        ends = turn_ends(mask.bool())
        rewards = self.head.raw(self._states(ids, ends))
        return rewards.new_zeros(len(ids)).index_add(0, ends.nonzero()[:, 0], rewards)

    def raw_scores(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Raw scores (sequences,) of what `encode` gave, with gradients where they are on."""
        return torch.stack([turns.sum() for turns in self._of_turns(sequences, self.head.raw)])

    def group_scores(self, groups: Groups, of: Of | None = None) -> list[Tensor]:
        """Raw scores of each group of conversations, or the sums over turns of what `of` makes of hidden states."""
        flat = iter(self._of_turns([sequence for group in groups for sequence in group], of or self.head.raw))
        return [torch.stack([next(flat).sum(0) for _ in group]) for group in groups]

    @torch.no_grad()
    def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Normalised scores of whole conversations."""
        return [sum(turns) for turns in self.turn_rewards(conversations)]

    @torch.no_grad()
    def turn_rewards(self, conversations: Sequence[Sequence[Message]]) -> list[list[float]]:
        """For each conversation, what each of its turns adds to its normalised score."""
        raw = self._of_turns([self.encode(messages) for messages in conversations], self.head.raw)
        return [((turns - self.head.mean / len(turns)) / self.head.sd).tolist() for turns in raw]

    def _beside(self, adapter: str, head: RewardHead) -> Self:
        other = super()._beside(adapter, head)
        other.history = self.history
        return other

    def _states(self, ids: Tensor, ends: Tensor) -> Tensor:
        """Hidden states (turns, hidden) where `ends` (rows, time) is True, row by row."""
        # Causal attention: what follows a token cannot change it, so padding behind it needs no mask.
        states: Tensor = self.reader.trunk(input_ids=ids, use_cache=False).last_hidden_state[ends]
        return states

    def _of_turns(self, sequences: Sequence[Sequence[int]], of: Of) -> list[Tensor]:
        """`of` the states of each conversation's turns, in the order given."""
        parts = [(number, part) for number, turns in enumerate(sequences) for part in _parts(turns)]
        places: list[tuple[int, int]] = []
        found: list[Tensor] = []
        for chunk in similar_lengths([len(ids) for _, (ids, _) in parts], PADDED_TOKENS):
            ids = _pad([parts[i][1][0] for i in chunk], pad_id(self.tokenizer)).to(self.device)
            ends = turn_ends(_pad([parts[i][1][1] for i in chunk], False)).to(self.device)
            found.append(of(self._states(ids, ends)))
            counts = ends.sum(1).tolist()
            places += [(i, n) for i, count in zip(chunk, counts, strict=True) for n in range(count)]
        if not found:
            return []
        order = sorted(range(len(places)), key=places.__getitem__)
        counts = [0] * len(sequences)
        for part, _ in places:
            counts[parts[part][0]] += 1
        return list(torch.split(torch.cat(found)[order], counts))


def _garble(ids: Sequence[int], mask: Sequence[bool], generator: random.Random) -> list[int]:
    places = [place for place, spoken in enumerate(mask) if spoken][:-1]
    mixed = dict(zip(places, generator.sample(places, len(places)), strict=True))
    return [ids[mixed.get(place, place)] for place in range(len(ids))]


def _parts(turns: Sequence[int]) -> tuple[tuple[list[int], list[bool]], ...]:
    if not isinstance(turns, Turns):
        raise TypeError("Rewards of turns are of what `TrajectoryModel.encode` gives, not of bare ids.")
    return turns.parts


def _pad(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])

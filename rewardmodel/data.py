"""Rows of rankings to grouped, split, encoded and batched items. No torch.

An item is one prompt with its completions; several people may have ranked it, and each completion is read by the
model once per step however many did. Training and held-out data are split by prompt, never by item, pair or row: the
same question on both sides would turn memory into accuracy.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rewardmodel.stats.pairs import InvalidTiers, carries_preference, check_tiers
from rewardmodel.tokens import EncodingError, Message

Tiers = tuple[tuple[int, ...], ...]


class DataError(ValueError):
    """The rows cannot be trained on; the message names the row and what is wrong with it."""


@dataclass(frozen=True)
class Label:
    """One person's ranking of an item."""

    tiers: Tiers
    labeler: str = ""
    weight: float = 1.0
    strength: float = 0.0
    """How much better, as a share of what could be said: 1 for the strongest degree."""


@dataclass(frozen=True)
class Item:
    """A prompt, its completions, and the rankings that say that something is better than something else."""

    id: str
    messages: tuple[Message, ...]
    completions: tuple[tuple[Message, ...], ...]
    labels: tuple[Label, ...]
    prompt: str
    """Key of the prompt: equal messages, equal key."""
    sources: tuple[str, ...] = ()
    """What wrote each completion, "" where nobody knows; empty where the rows do not say. Only reports read it."""


@dataclass(frozen=True)
class Encoded:
    """An item with the token ids of each of its conversations."""

    item: Item
    sequences: tuple[list[int], ...]

    @property
    def longest(self) -> int:
        return max(map(len, self.sequences))


def group_rows(rows: Iterable[Mapping[str, Any]], *, ties: bool = False, edits: bool = True) -> list[Item]:
    """Items in order of appearance, each with the rankings of all people.

    A row is {"item", "messages", "completions", "tiers", "labeler", "weight", "sources"?, "strength"?, "edited"?}.
    Rankings of a single tier prefer nothing and are left out, unless `ties` says that the loss learns from them; so are
    items without any other. A completion that its labeler edited is preferred to as it was, in an item of their own
    (coactive feedback, Shivaswamy and Joachims 2012), unless `edits` is off. Raises DataError.
    """
    found: dict[str, Item] = {}
    labels: dict[str, list[Label]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            item, label = _read_row(row)
            improved = _improved(row.get("edited"), item, label) if edits else []
        except (KeyError, TypeError, ValueError, InvalidTiers) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"Row {number} of the rankings cannot be used: {reason}") from error
        known = found.setdefault(item.id, item)
        if (known.messages, known.completions) != (item.messages, item.completions):
            raise DataError(f"Row {number} of the rankings shows item {item.id} with other texts than an earlier row.")
        if label.weight > 0 and (carries_preference(label.tiers) or (ties and len(label.tiers[0]) > 1)):
            labels.setdefault(item.id, []).append(label)
        for better, preferred in improved:
            found.setdefault(better.id, better)
            labels.setdefault(better.id, []).append(preferred)
    return [replace(item, labels=tuple(labels[id])) for id, item in found.items() if id in labels]


def split_items(items: Sequence[Item], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Training and held-out items. A prompt's side depends on its messages, the seed and the fraction alone.

    So it stays where it is when more labels arrive. Only where one side would be empty, the nearest prompt moves over.
    Raises DataError for fewer than two prompts.
    """
    draws = {item.prompt: _draw(item.prompt, seed) for item in items}
    if len(draws) < 2:
        raise DataError(
            f"There are rankings of {len(draws)} prompt(s); training and held-out evaluation need two at least."
        )
    ordered = sorted(draws, key=lambda prompt: (draws[prompt], prompt))
    count = sum(draw < fraction for draw in draws.values())
    held_out = set(ordered[: min(max(count, 1), len(ordered) - 1)])
    train = [item for item in items if item.prompt not in held_out]
    return train, [item for item in items if item.prompt in held_out]


def encode_items(
    items: Iterable[Item], encode: Callable[[Sequence[Sequence[Message]]], list[list[int]]]
) -> list[Encoded]:
    """Token ids of every conversation, once. `encode` is `RewardModel.encode_together`. Raises DataError."""
    encoded = []
    for item in items:
        try:
            sequences = tuple(encode([[*item.messages, *completion] for completion in item.completions]))
        except EncodingError as error:
            raise DataError(f"Item {item.id} cannot be encoded: {error}") from error
        if not all(sequences):
            raise DataError(f"Item {item.id} has a completion without any token.")
        encoded.append(Encoded(item, sequences))
    return encoded


def epoch_batches(items: Sequence[Encoded], size: int, seed: int, epoch: int) -> list[list[Encoded]]:
    """All items once, in random batches whose members have similar lengths (less padding, more speed).

    Shuffled, cut into pools of eight batches, sorted by length within a pool, and the batches shuffled again. The
    same seed and epoch give the same order, which is what a resumed run relies on.
    """
    generator = random.Random(f"{seed}/{epoch}")
    order = list(items)
    generator.shuffle(order)
    pools = [sorted(order[i : i + 8 * size], key=lambda e: e.longest) for i in range(0, len(order), 8 * size)]
    batches = [pool[i : i + size] for pool in pools for i in range(0, len(pool), size)]
    generator.shuffle(batches)
    return batches


def prompt_key(messages: Sequence[Message], completions: Sequence[Sequence[Message]]) -> str:
    """Identity of a prompt: its messages with the turns that all completions begin with.

    Whole conversations that share no beginning are their own prompt.
    """
    shared = [list(m) for m in zip(*[[_pair(m) for m in c] for c in completions], strict=False)]
    beginning = []
    for turn in shared:
        if any(other != turn[0] for other in turn):
            break
        beginning.append(turn[0])
    prompt = [_pair(m) for m in messages] + beginning
    content = prompt or [[_pair(m) for m in c] for c in completions]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def _pair(message: Message) -> tuple[str, str]:
    return message["role"], message["content"]


def _draw(prompt: str, seed: int) -> float:
    """A number in [0, 1) that looks random and is always the same for the same prompt and seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{prompt}".encode()).digest()[:8]) / 2**64


def _read_row(row: Mapping[str, Any]) -> tuple[Item, Label]:
    messages = _messages(row["messages"])
    completions = tuple(_messages(completion) for completion in row["completions"])
    if not all(completions):
        raise ValueError("a completion is empty")
    tiers = check_tiers(row["tiers"], len(completions))
    weight = float(row.get("weight", 1.0))
    if not 0 <= weight < float("inf"):
        raise ValueError(f"weight {weight} is no weight")
    sources = _sources(row.get("sources"), len(completions))
    item = Item(str(row["item"]), messages, completions, (), prompt_key(messages, completions), sources)
    strength = float(row.get("strength") or 0.0)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength} is no share between 0 and 1")
    return item, Label(tiers, str(row.get("labeler", "")), weight, strength)


def _improved(edited: Any, item: Item, label: Label) -> list[tuple[Item, Label]]:
    """Pairs of an edited completion with what it was; on their item's side of the split."""
    if edited is None or label.weight == 0:
        return []
    if not isinstance(edited, list) or len(edited) != len(item.completions):
        raise ValueError("edited completions are a list, with null for those that were left as they are")
    pairs = []
    for index, messages in enumerate(edited):
        if messages is not None and (better := _messages(messages)):
            content = json.dumps([index, *map(_pair, better)], ensure_ascii=False)
            id = f"{item.id}/{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
            sources = ("edited", item.sources[index]) if item.sources else ()
            pair = replace(item, id=id, completions=(better, item.completions[index]), sources=sources)
            pairs.append((pair, Label(((0,), (1,)), label.labeler, label.weight)))
    return pairs


def _sources(values: Any, size: int) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or len(values) != size or not all(v is None or isinstance(v, str) for v in values):
        raise ValueError("sources are a list of names, or nulls, one for each completion")
    return tuple(value or "" for value in values)


def _messages(values: Any) -> tuple[Message, ...]:
    if not isinstance(values, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in values
    ):
        raise ValueError("messages are a list of objects with a role and a content")
    return tuple({"role": m["role"], "content": m["content"]} for m in values)

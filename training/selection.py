"""What a run takes from a campaign besides rankings: prompts to answer, and the best answers to imitate.

The same campaign and options give the same rows in the same order, whatever order the database returns them in.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.utils.translation import gettext as _

from labeling.models import Campaign, Item
from training.snapshots import BadSelection

CHUNK = 500
HELD_OUT = 0.1
"""Share of the prompts that PPO only evaluates on, unless somebody chooses another."""


class NoPrompts(Exception):
    """The campaign has nothing this kind of run could read; the message says what it needs."""


@dataclass(frozen=True)
class PromptOptions:
    """Which prompts of a campaign, and how many of them PPO only evaluates on."""

    limit: int = 0
    """At most this many different prompts, drawn evenly; 0 takes all."""
    eval_fraction: float = 0.0
    """Share of the prompts marked `"split": "eval"`."""

    def __post_init__(self) -> None:
        if not isinstance(self.limit, int) or isinstance(self.limit, bool) or self.limit < 0:
            raise BadSelection(_("limit must be a whole number, 0 for all prompts."))
        if not isinstance(self.eval_fraction, int | float) or not 0 <= self.eval_fraction <= 0.9:
            raise BadSelection(_("eval_fraction must be a number from 0 to 0.9."))


def prompt_rows(campaign: Campaign, options: PromptOptions) -> Iterator[dict[str, Any]]:
    """Rows of `data/prompts.jsonl`: every different prompt once, in the order of import. Raises NoPrompts.

    The draw and the held-out part go by the hash of the prompt, so a prompt does not change sides between runs.
    """
    digests: dict[str, int] = {}
    for pk, messages in _prompts(campaign):
        if messages:
            digests.setdefault(_digest(messages), pk)
    if not digests:
        raise NoPrompts(
            _("This campaign has no prompts to answer: its items are whole conversations, or there are none yet.")
        )
    drawn = sorted(digests.items())[: options.limit or None]
    held_out = {pk for _, pk in drawn[: _held_out_count(len(drawn), options.eval_fraction)]}
    chosen = {pk for _, pk in drawn}
    items = (
        Item.objects.filter(campaign=campaign, removed_at=None)
        .order_by("id")
        .values_list("id", "public_id", "messages")
    )
    for pk, public_id, messages in items.iterator(chunk_size=CHUNK):
        if pk in chosen:
            split = {"split": "eval"} if pk in held_out else {}
            yield {"id": public_id, "messages": messages, **split}


def best_completion_rows(rankings: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of `data/sft.jsonl` from those of a snapshot: per item the completion that most people put first.

    Where people wrote or improved answers of an item, those in its place. Raises NoPrompts.
    """
    found = False
    for _item, rows in groupby(rankings, key=lambda row: row["item"]):
        votes: Counter[int] = Counter()
        written: dict[str, list[dict[str, str]]] = {}  # each once
        row: dict[str, Any] = {}
        for row in rows:
            if len(row["tiers"]) > 1:  # a single tier prefers nothing
                votes.update(row["tiers"][0])
            for answer in (row.get("ideal"), *row.get("edited", ())):
                if answer:
                    written[json.dumps(answer)] = answer
        best = [] if written or not votes else [min(votes, key=lambda index: (-votes[index], index))]
        for answer in [*written.values(), *(row["completions"][index] for index in best)]:
            found = True
            yield {"messages": row["messages"] + answer}
    if not found:
        raise NoPrompts(_("This campaign has no accepted ranking that prefers one answer to another yet."))


def _prompts(campaign: Campaign) -> Iterator[tuple[int, list[dict[str, str]]]]:
    items = Item.objects.filter(campaign=campaign, removed_at=None).order_by("id").values_list("id", "messages")
    yield from items.iterator(chunk_size=CHUNK)


def _digest(messages: list[dict[str, str]]) -> str:
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()


def _held_out_count(prompts: int, fraction: float) -> int:
    """At least one, at most all but one, when a share is asked for and there are two prompts."""
    if not fraction or prompts < 2:
        return 0
    return min(max(round(prompts * fraction), 1), prompts - 1)

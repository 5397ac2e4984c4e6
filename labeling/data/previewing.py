"""What a file would bring, seen from its first rows: formats it could be in, and items as annotators would see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from labeling.campaigns import sizes_of
from labeling.data.containers import read_rows
from labeling.data.files import BadLine
from labeling.data.formats.base import Format
from labeling.data.formats.registry import FORMATS, detect, parse_rows
from labeling.data.rows import ParsedRow
from labeling.display.screen import shared_turns, single_turns
from labeling.models import Campaign
from labeling.protocols.basics import LABELS, Message

ROWS, ITEMS, REFUSED = 20, 3, 5  # looked at, shown of the good, shown of the bad


class Found(NamedTuple):
    title: str
    percent: int


class Refused(NamedTuple):
    line: int
    reason: str


class Card(NamedTuple):
    label: str
    source: str
    messages: list[Message]


@dataclass(frozen=True)
class PreviewItem:
    """An item in the order of the file; annotators get another order, and no sources."""

    number: int
    context: list[Message]
    cards: list[Card]
    single_turns: bool
    order: list[list[str]] | None


@dataclass(frozen=True)
class Preview:
    """`found` has title and percentage of rows of each format that reads some; `columns` are the first row's keys."""

    rows: int
    found: list[Found]
    items: list[PreviewItem]
    refused: list[Refused]
    columns: list[str]


def preview_file(file: BinaryIO, campaign: Campaign, *, chosen: Format | None = None, is_cut: bool = False) -> Preview:
    """Look at the first rows. Where the file is only the beginning of one, its last row says nothing."""
    numbered = list(islice(read_rows(file), ROWS + 1))
    if len(numbered) > ROWS or (is_cut and numbered):
        numbered.pop()
    rows = [row for _, row in numbered if isinstance(row, dict)]
    parsed = list(parse_rows(numbered, campaign.protocol, chosen, sizes=sizes_of(campaign)))
    return Preview(
        rows=len(numbered),
        found=[
            Found(FORMATS[name].title, int(100 * share))
            for name, share in detect(rows).items()
            if isinstance(share, float)
        ],
        items=[_item(number, row) for number, row in parsed if isinstance(row, ParsedRow)][:ITEMS],
        refused=[Refused(number, str(row)) for number, row in parsed if isinstance(row, BadLine)][:REFUSED],
        columns=[str(name) for name in rows[0]] if rows else [],
    )


def _item(number: int, row: ParsedRow) -> PreviewItem:
    conversations: Sequence[Any] = [completion.messages for completion in row.completions]
    shared = shared_turns(conversations)
    endings = [turns[shared:] for turns in conversations]
    return PreviewItem(
        number=number,
        context=[*row.messages, *conversations[0][:shared]],
        cards=[
            Card(label, completion.source, turns)
            for label, completion, turns in zip(LABELS, row.completions, endings, strict=False)
        ],
        single_turns=single_turns(endings),
        order=None if row.tiers is None else [[LABELS[index] for index in tier] for tier in row.tiers],
    )

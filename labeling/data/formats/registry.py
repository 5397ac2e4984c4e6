"""Every format there is, which of them a row has, and the way from the rows of a file to items.

Where nobody chose a format, each row is read as the first one that it looks like; a file may mix them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from django.utils.translation import gettext_noop

from labeling.data.files import BadLine
from labeling.data.formats.base import GRADE, Format, Row, tiers_by
from labeling.data.formats.instructions import ALPACA, DOLLY, NATURAL, SHAREGPT
from labeling.data.formats.preferences import ARENA, HH, TRL, UNPAIRED
from labeling.data.formats.trees import OASST, ULTRAFEEDBACK
from labeling.data.rows import ParsedRow, check_storable, parse_row
from labeling.protocols.basics import COMPLETIONS

OWN = Format(
    name="prefloop",
    title=gettext_noop("Our own: a prompt and its completions, with sources and rankings where there are any"),
    example={
        "prompt": "How hot is the sun?",
        "completions": [{"text": "About 5,500 °C at its surface.", "source": "model-1"}, "Very."],
        "ranking": [[0], [1]],
        "labeler": "annotator-7",
    },
    has=lambda row: "completions" in row,
    read=lambda row: [row],
)
FORMATS = {
    format.name: format
    for format in (ULTRAFEEDBACK, OWN, HH, SHAREGPT, ARENA, TRL, UNPAIRED, OASST, NATURAL, ALPACA, DOLLY)
}
"""By name; where a row looks like several, the first one reads it."""

Parsed = Iterator[tuple[int, ParsedRow | BadLine]]


def format_of(row: Row) -> Format:
    """The format that a row looks like. Raises BadLine where it looks like none."""
    for format in FORMATS.values():
        if format.has(row):
            return format
    raise BadLine(gettext_noop('A line needs "completions", or "chosen" and "rejected", or another known form.'))


def detect(rows: Sequence[Any]) -> dict[str, float | str]:
    """For every format, the share of these rows that it reads, or why it reads none; best first."""
    found = {format.name: format.detect(rows) for format in FORMATS.values()}
    return dict(sorted(found.items(), key=lambda entry: -entry[1] if isinstance(entry[1], float) else 1))


def parse_rows(
    rows: Iterable[tuple[int, Any]],
    protocol: str,
    chosen: Format | None = None,
    *,
    sizes: tuple[int, int] | None = None,
    skip: int = 0,
) -> Parsed:
    """Items of numbered rows, which may be any JSON value; each that cannot be taken is a BadLine with the reason.

    `sizes` are the fewest and the most completions of an item, where they are not all that the protocol takes.
    The first `skip` of them were had before, and cost less than half of what they did then.
    """
    most = (sizes or COMPLETIONS[protocol])[1]
    for number, row in islice(_joined(_own_rows(rows, chosen), most), skip, None):
        try:
            yield number, row if isinstance(row, BadLine) else parse_row(row, protocol, sizes)
        except BadLine as error:
            yield number, error


Own = Iterator[tuple[int, Row | BadLine]]


def _own_rows(rows: Iterable[tuple[int, Any]], chosen: Format | None) -> Own:
    for number, row in rows:
        try:
            if isinstance(row, BadLine):
                raise row
            if not isinstance(row, dict):
                raise BadLine(gettext_noop("The line is not a JSON object."))
            check_storable(row)
            format = chosen or format_of(row)
            if not format.has(row):
                raise BadLine(f"The line does not look like {format.title}.")
            for own in format.read(row):
                yield number, own
        except BadLine as error:
            yield number, error


def _joined(rows: Own, most: int) -> Own:
    """Neighbours of joining formats with the same prompt, put together to items of at most `most` completions."""
    group: list[tuple[int, Row]] = []
    prompt = ""
    for number, row in rows:
        single = row if not isinstance(row, BadLine) and GRADE in row else None
        key = json.dumps([single["messages"], single.get("labeler")]) if single else ""
        if group and (key != prompt or len(group) == most):
            yield _item(group)
            group = []
        if single:
            group.append((number, single))
            prompt = key
        else:
            yield number, row
    if group:
        yield _item(group)


def _item(group: list[tuple[int, Row]]) -> tuple[int, Row | BadLine]:
    number, first = group[0]
    if len(group) == 1:
        return number, BadLine(
            gettext_noop("There is only one answer to this prompt; others must be in the lines next to it.")
        )
    grades = [row[GRADE] for _, row in group]
    ranked = len(set(grades)) > 1 and None not in grades
    return number, {
        "messages": first["messages"],
        "completions": [_with_meta(row) for _, row in group],
        "tiers": tiers_by(grades) if ranked else None,
        "labeler": first.get("labeler", ""),
    }


def _with_meta(row: Row) -> Row:
    """A joined row's only completion; what else was in its line is about this completion."""
    [completion] = row["completions"]
    return {**completion, "meta": row["meta"]}

"""What a format is: how to know a row of it, and how to read one into our own form (`labeling.data.rows`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_noop

from labeling.data.files import BadLine
from labeling.protocols.basics import Message

Row = dict[str, Any]
GRADE = "grade"  # of a joined row's answer: what its labeler gave it, None where nobody did


@dataclass(frozen=True)
class Format:
    """`read` gives rows of our own form for one row of this format, and raises BadLine with the reason.

    Where a format has one answer a row (`joins`), rows that follow one another and have the same prompt are one item;
    `read` then gives one completion, and in `GRADE` what it was given.
    """

    name: str
    title: str
    example: Row
    has: Callable[[Row], bool]
    """Whether the keys and types of a row are those of this format."""
    read: Callable[[Row], Iterable[Row]]
    joins: bool = False
    made_of: Row = field(default_factory=dict)
    """What somebody chose, for a format that is made for one file."""

    def stored(self) -> Row:
        """What a worker makes the same format of."""
        return {"name": self.name, **self.made_of}

    def detect(self, rows: Sequence[Any]) -> float | str:
        """The share of rows that can be read as this format, or why none can."""
        good, reason = 0, gettext_noop("There are no rows.")
        for row in rows:
            try:
                if not isinstance(row, dict) or not self.has(row):
                    raise BadLine(f"Rows look like {', '.join(self.example)}.")
                good += bool(list(self.read(row)))
            except BadLine as error:
                reason = str(error)
        return good / len(rows) if good else reason


def text_of(row: Row, key: str, *, default: str | None = None) -> str:
    """Takes a text out of the row."""
    value = row.pop(key, None)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadLine(f'"{key}" must be a text.')
    return value


def labeler_of(row: Row, key: str) -> str:
    """Takes a labeler out of the row; numbers are names, too."""
    value = row.pop(key, None)
    return "" if value is None else str(value)[:120]


def said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def answer(content: str, source: Any = "", **meta: Any) -> Row:
    """A completion of one message."""
    return {
        "messages": [said("assistant", content)],
        "source": source if isinstance(source, str) else "",
        "meta": {key: value for key, value in meta.items() if value is not None},
    }


def tiers_by(grades: Sequence[float]) -> list[list[int]]:
    """Tiers of a list of grades, the higher the better."""
    return [[n for n, grade in enumerate(grades) if grade == level] for level in sorted(set(grades), reverse=True)]

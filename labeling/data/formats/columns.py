"""Tables with column names of their own: somebody says which column is the prompt, an answer, a source, a score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_noop

from labeling.data.files import BadLine
from labeling.data.formats.base import Format, Row, tiers_by

NAME = "columns"
TITLE = gettext_noop("Columns that I choose")
FIRST = {"a", "1", "model_a", "answer_a", "response_a", "left", "first"}
SECOND = {"b", "2", "model_b", "answer_b", "response_b", "right", "second"}
TIES = {"tie", "=", "equal", "both", "draw", "same", "0.5", "tie (bothbad)"}


@dataclass(frozen=True)
class Columns:
    """Names of columns. `sources` and `scores` (the higher the better) are none, or one for each answer.

    A winner names one of two answers; of more, it would not say how the others compare. Raises ValueError.
    """

    prompt: str
    answers: tuple[str, ...]
    sources: tuple[str, ...] = ()
    winner: str = ""
    scores: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.answers) < 2 or len(set(self.answers)) < len(self.answers):
            raise ValueError(gettext_noop("Choose two answers or more, each a column of its own."))
        if any(names and len(names) != len(self.answers) for names in (self.sources, self.scores)):
            raise ValueError(gettext_noop("Give a source, or a score, for each answer or for none."))
        if self.winner and (len(self.answers) > 2 or self.scores):
            raise ValueError(gettext_noop("A winner is for two answers without scores; give scores instead."))

    def as_format(self) -> Format:
        """A format that reads these columns."""
        example = dict.fromkeys([name for name in (self.prompt, *self.answers) if name], "…")
        return Format(name=NAME, title=TITLE, example=example, has=self._has, read=self._read, made_of=vars(self))

    def _has(self, row: Row) -> bool:
        return self.prompt in row and all(name in row for name in self.answers)

    def _read(self, row: Row) -> Iterator[Row]:
        used = {self.prompt, *self.answers, *self.sources, *self.scores, self.winner}
        answers = [row[name] for name in self.answers]
        sources = [row.get(name, "") if name else "" for name in self.sources] or [""] * len(answers)
        yield {
            "prompt": row[self.prompt],
            "completions": [{_key(a): a, "source": _text(s)} for a, s in zip(answers, sources, strict=True)],
            "tiers": self._by_score(row) if self.scores else self._by_winner(row, sources),
            "meta": {name: value for name, value in row.items() if name not in used},
        }

    def _by_score(self, row: Row) -> list[list[int]] | None:
        """Higher scores first, equal ones tie, answers without one are unranked."""
        found = [(n, _number(row.get(name))) for n, name in enumerate(self.scores)]
        scored = [(n, score) for n, score in found if score is not None]
        if len(scored) < 2:
            return None
        tiers = tiers_by([score for _, score in scored])
        return [[scored[place][0] for place in tier] for tier in tiers]

    def _by_winner(self, row: Row, sources: list[Any]) -> list[list[int]] | None:
        """The winner is named by its place, its column, or its source."""
        text = _text(row.get(self.winner)).strip() if self.winner else ""
        if not text:
            return None
        if text.lower() in TIES:
            return [[0, 1]]
        names = [
            {*places, self.answers[n].lower(), *_lowered(self.sources[n : n + 1]), _text(sources[n]).lower()} - {""}
            for n, places in enumerate((FIRST, SECOND))
        ]
        won = [text.lower() in known for known in names]
        if won[0] == won[1]:
            raise BadLine(
                gettext_noop("The winner is {}; it must be a, b, tie, the name of a column or of a source.").format(
                    repr(text[:40])
                )
            )
        return [[0], [1]] if won[0] else [[1], [0]]


def _key(answer: Any) -> str:
    return "text" if isinstance(answer, str) else "messages"


def _lowered(names: tuple[str, ...]) -> set[str]:
    return {name.lower() for name in names}


def _number(value: Any) -> float | None:
    """A score; an empty cell is none. A whole table of texts is what CSV gives."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise BadLine(gettext_noop("The score is {}; it must be a number.").format(repr(str(value)[:40])))
    return number


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)

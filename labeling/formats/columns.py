"""Tables with column names of their own: somebody says which column is the prompt, an answer, a source, the winner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labeling.files import BadLine
from labeling.formats.base import Format, Row

NAME = "columns"
TITLE = "Columns that I choose"
FIRST = {"a", "1", "model_a", "answer_a", "response_a", "left", "first"}
SECOND = {"b", "2", "model_b", "answer_b", "response_b", "right", "second"}
TIES = {"tie", "=", "equal", "both", "draw", "same", "0.5", "tie (bothbad)"}


@dataclass(frozen=True)
class Columns:
    """Names of columns; a source or a winner may be missing."""

    prompt: str
    answers: tuple[str, str]
    sources: tuple[str, str] = ("", "")
    winner: str = ""

    def as_format(self) -> Format:
        """A format that reads these columns."""
        example = dict.fromkeys([name for name in (self.prompt, *self.answers) if name], "…")
        return Format(name=NAME, title=TITLE, example=example, has=self._has, read=self._read, made_of=vars(self))

    def _has(self, row: Row) -> bool:
        return self.prompt in row and all(name in row for name in self.answers)

    def _read(self, row: Row) -> Iterator[Row]:
        rest = dict(row)
        prompt = rest.pop(self.prompt)
        answers = [row[name] for name in self.answers]
        sources = [row.get(name, "") if name else "" for name in self.sources]
        winner = row.get(self.winner) if self.winner else None
        for name in (*self.answers, *self.sources, self.winner):
            rest.pop(name, None)
        yield {
            "prompt": prompt,
            "completions": [{_key(a): a, "source": _text(s)} for a, s in zip(answers, sources, strict=True)],
            "tiers": self._tiers(winner, sources),
            "meta": rest,
        }

    def _tiers(self, winner: Any, sources: list[Any]) -> list[list[int]] | None:
        """The winner is named by its place, its column, or its source."""
        text = _text(winner).strip()
        if not text:
            return None
        if text.lower() in TIES:
            return [[0, 1]]
        names = [
            {*places, self.answers[n].lower(), self.sources[n].lower(), _text(sources[n]).lower()}
            for n, places in enumerate((FIRST, SECOND))
        ]
        won = [text.lower() in known for known in names]
        if won[0] == won[1]:
            raise BadLine(f"The winner is {text[:40]!r}; it must be a, b, tie, the name of a column or of a source.")
        return [[0], [1]] if won[0] else [[1], [0]]


def _key(answer: Any) -> str:
    return "text" if isinstance(answer, str) else "messages"


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)

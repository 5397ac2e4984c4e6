"""The kinds of questions that a campaign's form may ask, and what may answer each. Pure: no request, no database.

A question is about the item or about each of its completions (or only about one, where its kind makes no sense for the
other). Labels, help and options are the manager's own words; names stand for them in the database and in exports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from labeling.protocols.basics import MAX_RATIONALE, InvalidRanking, Tiers, checked_note

ITEM, COMPLETION = "item", "completion"
MARKS = (gettext_noop("good"), gettext_noop("bad"))
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
MAX_OPTIONS, MAX_LABEL, MAX_HELP, MAX_POINTS, MAX_ANSWER = 30, 120, 500, 11, 100_000


class InvalidForm(ValueError):
    """This cannot be a form; the message says what to change."""


class Fields:
    """Takes the values of one object of a document by name, and refuses those of the wrong kind."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise InvalidForm(_("{where}: an object with named values is needed here.").format(where=where))
        self.rest, self.where = dict(data), where

    def text(self, key: str, default: str | None = None, limit: int = MAX_LABEL) -> str:
        value = self.rest.pop(key, default)
        if value is None or value == "" and default is None:
            raise InvalidForm(_("{where}: fill in the {key}.").format(where=self.where, key=key))
        if not isinstance(value, str) or len(value) > limit or "\x00" in value:
            raise InvalidForm(
                _("{where}: the {key} is a text of at most {limit} characters.").format(
                    where=self.where, key=key, limit=limit
                )
            )
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.rest.pop(key, default)
        if not isinstance(value, bool):
            raise InvalidForm(_("{where}: {key} is either true or false.").format(where=self.where, key=key))
        return value

    def number(self, key: str, default: int) -> int:
        value = self.rest.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidForm(_("{where}: {key} is a whole number.").format(where=self.where, key=key))
        return value

    def choice(self, key: str, values: Sequence[str], default: str | None = None) -> str:
        value = self.rest.pop(key, default)
        if value not in values:
            raise InvalidForm(
                _("{where}: {key} is one of: {values}.").format(where=self.where, key=key, values=", ".join(values))
            )
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Texts that are all different."""
        values = self.items(key)
        texts = tuple(Fields({key: value}, self.where).text(key) for value in values)
        if len(set(texts)) != len(texts):
            raise InvalidForm(
                _("{where}: two of the {key} are the same. Name each differently.").format(where=self.where, key=key)
            )
        return texts

    def options(self, key: str, fewest: int) -> tuple[Option, ...]:
        inner = [Fields(value, f"{self.where}, {key}") for value in self.items(key)]
        options = tuple(Option(fields.name(), fields.text("label")) for fields in inner)
        for fields in inner:
            fields.done()
        words = key.replace("_", " ")
        if not fewest <= len(options) <= MAX_OPTIONS:
            raise InvalidForm(
                _("{where}: give {fewest} to {most} {key}.").format(
                    where=self.where, fewest=fewest, most=MAX_OPTIONS, key=words
                )
            )
        if len({option.name for option in options}) != len(options):
            raise InvalidForm(_("{where}: two of the {key} have the same name.").format(where=self.where, key=words))
        return options

    def items(self, key: str) -> list[Any]:
        values = self.rest.pop(key, [])
        if not isinstance(values, list):
            raise InvalidForm(_("{where}: {key} is a list.").format(where=self.where, key=key))
        return values

    def name(self) -> str:
        name = self.text("name")
        if not NAME.fullmatch(name):
            raise InvalidForm(
                _("{where}: the name {name!r} must be small letters, digits and “_”, 40 at most.").format(
                    where=self.where, name=name
                )
            )
        return name

    def done(self) -> None:
        if self.rest:
            raise InvalidForm(
                _("{where}: there is nothing called {name!r} here.").format(
                    where=self.where, name=next(iter(self.rest))
                )
            )


@dataclass(frozen=True)
class Option:
    name: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """What all kinds have. A `single` kind is asked at most once, and its name is its kind."""

    kind: ClassVar[str]
    single: ClassVar[bool] = False
    about: ClassVar[tuple[str, ...]] = (ITEM, COMPLETION)
    can_be_required: ClassVar[bool] = True

    name: str
    label: str
    help: str = ""
    of: str = ITEM
    required: bool = False

    @classmethod
    def read(cls, fields: Fields) -> Question:
        if cls.single:
            fields.rest["name"] = cls.kind
        question = cls(
            name=fields.name(),
            label=fields.text("label"),
            help=fields.text("help", "", MAX_HELP),
            of=fields.choice("of", cls.about, cls.about[0]),
            required=fields.flag("required") and cls.can_be_required,
            **cls.own(fields),
        )
        fields.done()
        return question

    @classmethod
    def own(cls, fields: Fields) -> dict[str, Any]:
        """Values that only this kind has."""
        return {}

    def document(self) -> dict[str, Any]:
        values = asdict(self)
        return {"kind": self.kind} | {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    def checked(self, value: Any) -> Any:
        """One answer as it is kept: None, or empty, where nothing was said. Raises InvalidRanking."""
        raise NotImplementedError

    def in_words(self, value: Any) -> str:
        """A kept answer, for people to read."""
        return str(value)

    def missing(self, each: Sequence[Any], tiers: Tiers) -> list[int]:
        """Of which ranked completions an answer (None: none) is missing, when one is required for each."""
        return [index for tier in tiers for index in tier if each[index] is None]

    def refused(self, what: str) -> InvalidRanking:
        return InvalidRanking(f"{_(self.label)}: {what}")


@dataclass(frozen=True, kw_only=True)
class Rating(Question):
    """A whole number from `low` to `high`. `words` name both ends, or every point."""

    kind = "rating"
    low: int = 1
    high: int = 5
    words: tuple[str, ...] = ()

    @classmethod
    def own(cls, fields: Fields) -> dict[str, Any]:
        low, high, words = fields.number("low", 1), fields.number("high", 5), fields.texts("words")
        if not (0 <= low < high and high - low < MAX_POINTS):
            raise InvalidForm(
                _("{where}: a rating has 2 to {most} points, counted from 0 or above.").format(
                    where=fields.where, most=MAX_POINTS
                )
            )
        if len(words) not in (0, 2, high - low + 1):
            raise InvalidForm(
                _("{where}: give words for both ends, for each of its points, or none.").format(where=fields.where)
            )
        return {"low": low, "high": high, "words": words}

    @property
    def points(self) -> list[tuple[int, str]]:
        """Each number with its word, where it has one."""
        words = (
            self.words if len(self.words) != 2 else (self.words[0], *[""] * (self.high - self.low - 1), self.words[1])
        )
        numbers = range(self.low, self.high + 1)
        return list(zip(numbers, words or [""] * len(numbers), strict=True))

    def checked(self, value: Any) -> int | None:
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise self.refused(_("choose a number from {low} to {high}.").format(low=self.low, high=self.high))
        return value


@dataclass(frozen=True, kw_only=True)
class Choice(Question):
    """One of several named options: how sure one is, which of them is safe."""

    kind = "choice"
    options: tuple[Option, ...] = ()

    @classmethod
    def own(cls, fields: Fields) -> dict[str, Any]:
        return {"options": fields.options("options", 2)}

    def checked(self, value: Any) -> str | None:
        if value is None:
            return None
        if value not in [option.name for option in self.options]:
            raise self.refused(
                _("choose one of: {options}.").format(options=", ".join(_(option.label) for option in self.options))
            )
        return str(value)

    def in_words(self, value: Any) -> str:
        return next(_(option.label) for option in self.options if option.name == value)


@dataclass(frozen=True, kw_only=True)
class Flags(Question):
    """Whatever applies of a list."""

    kind, single, can_be_required = "flags", True, False
    options: tuple[Option, ...] = ()

    @classmethod
    def own(cls, fields: Fields) -> dict[str, Any]:
        return {"options": fields.options("options", 1)}

    def checked(self, value: Any) -> list[str]:
        names = [option.name for option in self.options]
        given = [] if value is None else value
        if not isinstance(given, (list, tuple)) or not all(flag in names for flag in given):
            raise self.refused(_("the flags are some of: {names}.").format(names=", ".join(names)))
        return [name for name in names if name in given]

    def in_words(self, value: Any) -> str:
        return ", ".join(_(option.label) for option in self.options if option.name in value)


@dataclass(frozen=True, kw_only=True)
class Text(Question):
    """In one's own words."""

    single = True
    longest: ClassVar[int] = MAX_RATIONALE

    def checked(self, value: Any) -> str:
        if value is not None and not isinstance(value, str):
            raise self.refused(_("write a text."))
        return checked_note(value or "", self.longest)


@dataclass(frozen=True, kw_only=True)
class Rationale(Text):
    """Why the order is what it is."""

    kind, about = "rationale", (ITEM,)


@dataclass(frozen=True, kw_only=True)
class Ideal(Text):
    """The answer that should have been given: an example to imitate."""

    kind, about, longest = "ideal", (ITEM,), MAX_ANSWER


@dataclass(frozen=True, kw_only=True)
class Edit(Text):
    """A completion made better: preferred to what it was made from (coactive feedback), and an example to imitate."""

    kind, about, longest = "edit", (COMPLETION,), MAX_ANSWER

    def missing(self, each: Sequence[Any], tiers: Tiers) -> list[int]:
        """One of the best is enough."""
        best = tiers[0] if tiers else []
        return [] if any(each[index] for index in best) else list(best)


@dataclass(frozen=True, kw_only=True)
class Marks(Question):
    """A thumb up or down for single turns: `{"2": "good"}`, by the number of the message in the completion, from 0."""

    kind, single, about, can_be_required = "marks", True, (COMPLETION,), False

    def checked(self, value: Any) -> dict[str, str]:
        given = {} if value is None else value
        if not isinstance(given, Mapping) or not all(_is_turn(turn) and mark in MARKS for turn, mark in given.items()):
            raise self.refused(_("mark turns, by their numbers, as {marks}.").format(marks=", ".join(MARKS)))
        return {turn: given[turn] for turn in sorted(given, key=int)}

    def in_words(self, value: Any) -> str:
        return ", ".join(
            _("turn {turn} {mark}").format(turn=int(turn) + 1, mark=_(mark)) for turn, mark in value.items()
        )


def is_empty(value: Any) -> bool:
    """Whether nothing was said. Zero is something."""
    return not value.strip() if isinstance(value, str) else value in (None, [], {})


def _is_turn(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 4 and text == str(int(text))


KINDS: dict[str, type[Question]] = {cls.kind: cls for cls in (Rating, Choice, Flags, Rationale, Ideal, Edit, Marks)}


def read_question(data: Any, where: str) -> Question:
    """A question of a document. Raises InvalidForm."""
    fields = Fields(data, where)
    return KINDS[fields.choice("kind", list(KINDS))].read(fields)

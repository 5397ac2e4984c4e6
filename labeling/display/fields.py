"""A form's questions as inputs of the annotator's page: what they are called, what to choose from, what came back.

What came back is in the words of the page: completions are letters. `questionnaire.labels_to_indices` translates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from labeling.protocols.basics import InvalidRanking
from labeling.protocols.questionnaire import Details, Form
from labeling.protocols.questions import COMPLETION, ITEM, Flags, Marks, Question, Rating, Rationale, is_empty

CANNOT_TELL, TIE, BOTH_BAD = "cannot_tell", "tie", "both_bad"  # values of the buttons


@dataclass(frozen=True)
class Field:
    """A question, about the item or about the completion with this letter, and what has been entered."""

    question: Question
    value: Any
    letter: str = ""
    demanded: bool = False
    """Whether the browser insists on an answer: not where one may leave the completion unranked."""

    @property
    def name(self) -> str:
        return input_name(self.question, self.letter)


@dataclass(frozen=True)
class Button:
    """One way to answer a pair: a side (and how much better it is), level, both bad, cannot tell."""

    value: str
    kind: str
    key: str
    letter: str = ""
    step: int = 0
    degree: str = ""


def input_name(question: Question, letter: str = "") -> str:
    if question.name in (Flags.kind, Rationale.kind) and question.of == ITEM:
        return question.name
    return f"q_{question.name}_{letter}" if letter else f"q_{question.name}"


def item_fields(form: Form, details: Details, flags: Sequence[str], rationale: str) -> list[Field]:
    """The questions about the item, with what was entered."""
    entered = details.get("answers", {}) | {Flags.kind: flags, Rationale.kind: rationale}
    return [Field(one, entered.get(one.name), demanded=one.required) for one in form.of(ITEM)]


def completion_fields(form: Form, details: Details, letter: str, protocol: str) -> list[Field]:
    """The questions about one completion. Marks have a field for each turn, which the turns show."""
    entered = details.get("answers", {})
    optional = protocol == "ranking" and form.unranked
    return [
        Field(one, entered.get(one.name, {}).get(letter), letter, demanded=one.required and not optional)
        for one in form.of(COMPLETION)
        if not isinstance(one, Marks)
    ]


def buttons(form: Form) -> list[Button]:
    """Of a pair, from "A is far better" to "B is far better", with the keys that press them.

    Two sides have the keys 1 and 2; a scale is counted through from the left.
    """
    degrees = list(enumerate(form.strength, 1))
    right = [Button(f"B:{n}", "side", "", "B", n, word) for n, word in degrees] or [Button("B", "side", "", "B")]
    left = [replace(button, value=f"A{button.value[1:]}", letter="A") for button in reversed(right)]
    middle = [Button(TIE, "tie", "=")] if form.ties else []
    scale = [*left, *(middle if degrees else []), *right]
    numbered = {button.value: str(n) for n, button in enumerate(scale, 1)}
    row = [*left, *middle, *right]
    keyed = [replace(button, key=numbered.get(button.value, button.key)) for button in row]
    if form.both_bad:
        keyed.append(Button(BOTH_BAD, "both_bad", "0"))
    if form.cannot_tell:
        keyed.append(Button(CANNOT_TELL, "cannot_tell", "c"))
    return keyed


def read_details(data: QueryDict, form: Form, letters: str) -> Details:
    """What a posted page says beside the order. Raises InvalidRanking where it cannot be from ours."""
    answers = {}
    for question in form.questions:
        if question.name in (Flags.kind, Rationale.kind) and question.of == ITEM:
            continue  # they have places of their own
        if question.of == ITEM:
            value = _read(data, question, input_name(question))
        else:
            each = {letter: _read(data, question, input_name(question, letter)) for letter in letters}
            value = {letter: one for letter, one in each.items() if not is_empty(one)}
        if not is_empty(value):
            answers[question.name] = value
    details: Details = {"answers": answers} if answers else {}
    choice, _colon, degree = (data.get("choice") or "").partition(":")
    if degree:
        details["strength"] = whole_number(degree)
    if choice == BOTH_BAD:
        details["both_bad"] = True
    return details


def _read(data: QueryDict, question: Question, name: str) -> Any:
    if isinstance(question, Flags):
        return data.getlist(name)
    if isinstance(question, Marks):
        return dict(_marks(data, f"{name}_"))
    text = data.get(name) or None
    return whole_number(text) if text and isinstance(question, Rating) else text


def _marks(data: QueryDict, prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if key.startswith(prefix) and value:
            yield key.removeprefix(prefix), str(value)


def whole_number(text: str) -> int:
    """Raises InvalidRanking."""
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidRanking(_("{text!r} is not a whole number.").format(text=text[:20]))
    return int(text)

"""A campaign's form: how two completions may be compared, and the questions beside that. Pure.

`parse_form` reads a form's document, plain JSON, and `Form.document` writes it, so every form that is kept has been
checked. The empty document is the plain form: an order with ties, flags, and a reason for whoever likes to give one.

What an answer has besides its order are its *details*: `{"strength", "degrees", "both_bad", "answers": {name: value}}`,
each only where it was given. What is said of completions is a list in their order, null for those nothing was said of.
Flags and the reason are kept in columns of their own; flags of single completions in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from labeling.protocols.basics import COMPLETIONS, FLAGS, LABELS, SKIP_REASONS, InvalidRanking, Message, Tiers
from labeling.protocols.questions import (
    COMPLETION,
    ITEM,
    Edit,
    Fields,
    Flags,
    Ideal,
    InvalidForm,
    Option,
    Question,
    Rationale,
    is_empty,
    read_question,
)

MAX_QUESTIONS, MAX_DEGREES = 20, 4
REASONS = tuple(Option(*reason) for reason in SKIP_REASONS.items())
Details = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """What a campaign asks."""

    ties: bool = True
    both_bad: bool = False
    """Whether "both are bad" can be said: no order either, and not the same as a tie."""
    unranked: bool = True
    """Whether a ranking may leave completions out."""
    cannot_tell: bool = True
    strength: tuple[str, ...] = ()
    """Degrees of "better", the weakest first; none where only the side is asked for."""
    questions: tuple[Question, ...] = ()
    skip_reasons: tuple[Option, ...] = REASONS
    fewest: int = 0
    """Completions that an item has at least; 0: what the protocol takes."""
    most: int = 0
    """And at most."""

    def document(self) -> dict[str, Any]:
        return {
            "ties": self.ties,
            "both_bad": self.both_bad,
            "unranked": self.unranked,
            "cannot_tell": self.cannot_tell,
            "strength": list(self.strength),
            "questions": [question.document() for question in self.questions],
            "skip_reasons": [vars(reason) for reason in self.skip_reasons],
            "fewest": self.fewest,
            "most": self.most,
        }

    def sizes(self, protocol: str) -> tuple[int, int]:
        """How many completions an item has, fewest and most."""
        fewest, most = COMPLETIONS[protocol]
        return self.fewest or fewest, self.most or most

    def of(self, subject: str) -> list[Question]:
        """The questions about the item, or about each completion."""
        return [question for question in self.questions if question.of == subject]

    def named(self, name: str) -> Question | None:
        return next((question for question in self.questions if question.name == name), None)


@dataclass(frozen=True)
class Reply:
    """What was said besides the order, checked."""

    flags: list[str]
    rationale: str
    details: Details


PLAIN = Form(
    questions=(
        Flags(name="flags", label=gettext_noop("Flags"), options=tuple(Option(*flag) for flag in FLAGS.items())),
        Rationale(name="rationale", label=gettext_noop("Why?")),
    ),
)


def parse_form(document: Any, protocol: str = "") -> Form:
    """The form of a document; with a protocol, one that fits it. Raises InvalidForm."""
    if document == {}:
        return PLAIN
    fields = Fields(document, _("The form"))
    form = Form(
        ties=fields.flag("ties", True),
        both_bad=fields.flag("both_bad"),
        unranked=fields.flag("unranked", True),
        cannot_tell=fields.flag("cannot_tell", True),
        strength=Fields({"degrees": fields.items("strength")}, _("Strength")).texts("degrees"),
        questions=tuple(
            read_question(data, _("Question {n}").format(n=n)) for n, data in enumerate(fields.items("questions"), 1)
        ),
        skip_reasons=fields.options("skip_reasons", 1) if fields.rest.get("skip_reasons") else REASONS,
        fewest=fields.number("fewest", 0),
        most=fields.number("most", 0),
    )
    fields.rest.pop("skip_reasons", None)  # an empty list
    fields.done()
    _check_form(form, protocol)
    return form


def fits(form: Form, protocol: str) -> bool:
    """Whether campaigns of this protocol can ask it."""
    try:
        _check_form(form, protocol)
    except InvalidForm:
        return False
    return True


def _check_form(form: Form, protocol: str) -> None:
    names = [question.name for question in form.questions]
    if len(names) > MAX_QUESTIONS:
        raise InvalidForm(_("Ask at most {most} questions: each takes time for every item.").format(most=MAX_QUESTIONS))
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidForm(_("Two questions are called {name!r}. Remove or rename one.").format(name=twice.pop()))
    if len(form.strength) not in (0, *range(2, MAX_DEGREES + 1)):
        raise InvalidForm(
            _("A scale of strength has 2 to {most} degrees for each side, or none at all.").format(most=MAX_DEGREES)
        )
    if protocol:
        _check_sizes(form, protocol)
    if protocol == "ranking" and (form.strength or form.both_bad):
        raise InvalidForm(_("“Both bad” and degrees of strength are for two answers. Take them out, or compare pairs."))


def _check_sizes(form: Form, protocol: str) -> None:
    """Where the protocol takes several numbers of completions, any part of these can be wanted."""
    fewest, most = COMPLETIONS[protocol]
    low, high = form.sizes(protocol)
    if not fewest <= low <= high <= most:
        message = _("An item here has between {fewest} and {most} answers; the fewest are not more than the most.")
        raise InvalidForm(message.format(fewest=fewest, most=most))


def checked_reply(
    form: Form,
    tiers: Tiers,
    shown_order: Sequence[int],
    *,
    flags: Any = (),
    rationale: str = "",
    details: Any = None,
) -> Reply:
    """What was said besides the order `tiers` (none: cannot tell), as it is kept. Raises InvalidRanking.

    Required are answers about what is ranked: nobody has to judge what they cannot tell, or leave out.
    """
    given = {} if details is None else details
    if not isinstance(given, dict) or not isinstance(given.get("answers", {}), dict):
        raise InvalidRanking(_("Details are an object; its “answers” are one, too, by the names of questions."))
    if unknown := given.keys() - {"strength", "both_bad", "answers"}:
        raise InvalidRanking(_("There is nothing called {name!r} in details.").format(name=min(unknown)))
    _check_order(form, tiers, len(shown_order))
    comparison = _comparison(form, tiers, given)
    beside = {"flags": flags, "rationale": rationale}
    answers = given.get("answers", {}) | {name: value for name, value in beside.items() if value}
    if unasked := answers.keys() - {question.name for question in form.questions}:
        raise InvalidRanking(_("This campaign does not ask for {name!r}.").format(name=min(unasked)))
    kept = {
        question.name: _checked(question, answers.get(question.name), tiers, shown_order) for question in form.questions
    }
    reason, raised = kept.pop("rationale", ""), kept.get("flags") or []
    if (question := form.named("flags")) and question.of == ITEM:
        kept.pop("flags")
    else:
        raised = sorted({flag for of_one in raised for flag in of_one or ()})
    said = {name: value for name, value in kept.items() if not is_empty(value)}
    return Reply(raised, reason, comparison | ({"answers": said} if said else {}))


PORTABLE = (Edit(name=Edit.kind, label="Edits", of=COMPLETION), Ideal(name=Ideal.kind, label="Ideal answer"))


def portable_details(details: Any, tiers: Tiers, size: int) -> Details:
    """Of exported details what means the same without their form: what training takes. Raises InvalidRanking."""
    if not isinstance(details, dict) or not isinstance(said := details.get("answers", {}), dict):
        raise InvalidRanking(_("Details are an object, and their answers are one."))
    degrees = details.get("degrees") if size == 2 else None
    known = isinstance(degrees, int) and 2 <= degrees <= MAX_DEGREES
    form = Form(both_bad=True, strength=("",) * degrees if known else (), questions=PORTABLE)  # type: ignore[operator]
    given = {name: details[name] for name in ("strength", "both_bad") if name in details and size == 2}
    given["answers"] = {question.name: said[question.name] for question in PORTABLE if question.name in said}
    return checked_reply(form, tiers, range(size), details=given).details


def share_of_strength(details: Details) -> float | None:
    """How much better, from 0 for the weakest degree to 1 for the strongest; None where that was not asked or said."""
    return (details["strength"] - 1) / (details["degrees"] - 1) if "strength" in details else None


def edited_completions(details: Details, completions: Sequence[Sequence[Message]]) -> list[list[Message] | None]:
    """The completions that the person improved, in their order: the text is that of the last message."""
    texts = details.get("answers", {}).get("edit") or [None] * len(completions)
    return [
        [*messages[:-1], {"role": messages[-1]["role"], "content": text}] if text else None
        for messages, text in zip(completions, texts, strict=True)
    ]


def ideal_answer(details: Details) -> list[Message] | None:
    """The answer that the person would have given."""
    text = details.get("answers", {}).get("ideal")
    return [{"role": "assistant", "content": text}] if text else None


def spoken(form: Form, details: Details, letters: str) -> list[tuple[str, str]]:
    """What was said besides order, flags and reason, for people to read: what was asked, and the answer."""
    said = []
    if "strength" in details:
        degree = details["strength"]
        known = form.strength[degree - 1] if len(form.strength) == details["degrees"] else ""
        said.append(
            (
                _("How much"),
                _("{word} ({degree} of {degrees})").format(
                    word=_(known) if known else degree, degree=degree, degrees=details["degrees"]
                ),
            )
        )
    if details.get("both_bad"):
        said.append((_("Both"), _("bad")))
    answers = details.get("answers", {})
    for question in form.questions:
        value = answers.get(question.name)
        if isinstance(value, list):
            each = zip(letters, value, strict=False)
            text = "; ".join(f"{letter}: {question.in_words(one)}" for letter, one in each if one is not None)
            said.append((_(question.label), text))
        elif value is not None:
            said.append((_(question.label), question.in_words(value)))
    return said


def labels_to_indices(details: Any, shown_order: Sequence[int]) -> Any:
    """Details as a person gives them, with `{"A": 4, "B": 2}` for what is said of completions, in their own order."""
    if not isinstance(details, dict) or not isinstance(details.get("answers"), dict):
        return details
    index_of = dict(zip(LABELS, shown_order, strict=False))

    def listed(by_label: dict[str, Any]) -> list[Any]:
        if unknown := by_label.keys() - index_of.keys():
            raise InvalidRanking(_("There is no answer {label!r} here.").format(label=str(min(unknown))[:20]))
        by_index = {index_of[label]: value for label, value in by_label.items()}
        return [by_index.get(index) for index in range(len(shown_order))]

    answers = {n: listed(value) if isinstance(value, dict) else value for n, value in details["answers"].items()}
    return details | {"answers": answers}


def _check_order(form: Form, tiers: Tiers, size: int) -> None:
    if not tiers and not form.cannot_tell:
        raise InvalidRanking(_("This campaign wants a decision each time. If you cannot give one, skip the item."))
    if not form.unranked and 0 < sum(map(len, tiers)) < size:
        raise InvalidRanking(_("Please rank all {size} answers.").format(size=size))


def _comparison(form: Form, tiers: Tiers, given: Details) -> Details:
    """Strength and "both bad", which say more about the order."""
    both_bad, strength = given.get("both_bad", False), given.get("strength")
    if not isinstance(both_bad, bool) or (both_bad and not (form.both_bad and len(tiers) == 1)):
        raise InvalidRanking(_("“Both bad” is said of two answers that are level, where the campaign offers it."))
    if not form.ties and not both_bad and any(len(tier) > 1 for tier in tiers):
        raise InvalidRanking(_("This campaign takes no ties: say which one is better, even if by little."))
    if both_bad:
        return {"both_bad": True}
    degrees = len(form.strength)
    if not degrees or len(tiers) < 2:
        if strength is not None:
            raise InvalidRanking(_("A strength is said of a better answer, where the campaign asks for it."))
        return {}
    if not isinstance(strength, int) or isinstance(strength, bool) or not 1 <= strength <= degrees:
        raise InvalidRanking(_("Say how much better it is, too."))
    return {"strength": strength, "degrees": degrees}


def _checked(question: Question, value: Any, tiers: Tiers, shown_order: Sequence[int]) -> Any:
    if question.of == ITEM:
        said = question.checked(value)
        if question.required and tiers and is_empty(said):
            raise question.refused(_("please answer this, too."))
        return said
    if value is not None and not (isinstance(value, list) and len(value) == len(shown_order)):
        raise question.refused(_("say it for each answer, by its letter."))
    checked = [question.checked(one) for one in value or [None] * len(shown_order)]
    each = [None if is_empty(one) else one for one in checked]
    if question.required and (missing := question.missing(each, tiers)):
        letters = [label for label, index in zip(LABELS, shown_order, strict=False) if index in missing]
        raise question.refused(_("please answer this for {letters}, too.").format(letters=", ".join(letters)))
    return each if any(one is not None for one in each) else None

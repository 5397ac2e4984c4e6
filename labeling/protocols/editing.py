"""The editor of a campaign's form: its document as posted fields, the changes that its buttons make, and a preview.

While somebody edits, a document may be incomplete: it is shown as it is, with what `parse_form` says about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from labeling.display.screen import Screen, screen_of
from labeling.protocols.basics import LABELS, Message
from labeling.protocols.presets import PRESETS, Preset
from labeling.protocols.questionnaire import PLAIN, fits, parse_form
from labeling.protocols.questions import KINDS, MAX_LABEL, NAME
from labeling.queue.assignment import ShownCompletion, Task

Document = dict[str, Any]
TITLES = {
    "rating": gettext_noop("Rating"),
    "choice": gettext_noop("Choice"),
    "flags": gettext_noop("Flags"),
    "rationale": gettext_noop("Reason"),
    "ideal": gettext_noop("Ideal answer"),
    "edit": gettext_noop("Improve an answer"),
    "marks": gettext_noop("Marks on turns"),
}
STARTERS: dict[str, Document] = {
    "rating": {
        "label": gettext_noop("Overall quality"),
        "of": "completion",
        "low": 1,
        "high": 5,
        "words": [gettext_noop("Terrible"), gettext_noop("Perfect")],
    },
    "choice": {
        "label": gettext_noop("How sure are you?"),
        "options": [
            {"name": "low", "label": gettext_noop("Not sure")},
            {"name": "high", "label": gettext_noop("Sure")},
        ],
    },
    "flags": {"label": gettext_noop("Flags"), "options": [{"name": "unsafe", "label": gettext_noop("Unsafe")}]},
    "rationale": {"label": gettext_noop("Why?")},
    "ideal": {"label": gettext_noop("What would the ideal answer be?")},
    "edit": {"label": gettext_noop("Make the better answer better"), "of": "completion"},
    "marks": {"label": gettext_noop("Good and bad turns"), "of": "completion"},
}


def document_of(data: QueryDict) -> Document:
    """What the editor posted."""
    return {
        **{name: name in data for name in ("ties", "both_bad", "unranked", "cannot_tell")},
        "strength": _lines(data.get("strength", "")),
        "questions": [_question(data, f"{key}-") for key in data.getlist("question")],
        "skip_reasons": _options(data.get("skip_reasons", "")),
        **{end: _number(data.get(end) or "0") for end in ("fewest", "most")},
    }


def changed(document: Document, action: str) -> Document:
    """The document after a button: `preset:hh`, `add:rating`, and `up:1`, `down:1`, `remove:1` by place from 0."""
    verb, _colon, what = action.partition(":")
    questions = list(document["questions"])
    if verb == "preset" and what in PRESETS:
        return PRESETS[what].form.document()
    if verb == "add" and what in STARTERS:
        questions.append({"kind": what, **STARTERS[what]} | _named(what, STARTERS[what]["label"], questions))
    if what.isdecimal() and int(what) < len(questions):
        place = int(what)
        question = questions.pop(place)
        if verb in ("up", "down"):
            questions.insert(max(0, place - 1) if verb == "up" else place + 1, question)
    return document | {"questions": questions}


def addable(document: Document) -> dict[str, str]:
    """Kinds that may be asked (again), with their titles."""
    asked = {question["kind"] for question in document["questions"]}
    return {kind: _(title) for kind, title in TITLES.items() if not (KINDS[kind].single and kind in asked)}


def presets_for(protocol: str) -> list[Preset]:
    """Presets whose forms this protocol can ask; of the plain ones its own."""
    fitting = [preset for preset in PRESETS.values() if preset.form != PLAIN or preset.protocol == protocol]
    return [preset for preset in fitting if fits(preset.form, protocol)]


def rows(document: Document) -> list[dict[str, Any]]:
    """The questions as the editor's template shows them."""
    return [
        {
            **question,
            "title": _(TITLES[question["kind"]]),
            "abouts": KINDS[question["kind"]].about,
            "can_be_required": KINDS[question["kind"]].can_be_required,
            "named": not KINDS[question["kind"]].single,
            "words": "\n".join(question.get("words", ())),
            "options": option_lines(question.get("options", ())),
        }
        for question in document["questions"]
    ]


def option_lines(options: Sequence[Mapping[str, str]]) -> str:
    return "\n".join(f"{option['name']}: {option['label']}" for option in options)


def preview_of(document: Document, protocol: str) -> Screen:
    """The annotator's page with made-up answers. Raises InvalidForm."""
    texts = SAMPLES if protocol == "ranking" else SAMPLES[:2]
    answers: list[list[Message]] = [[{"role": "assistant", "content": _(text)}] for text in texts]
    if protocol == "conversation":
        answers = [[*answer, {"role": "user", "content": _("Thank you.")}, *answer] for answer in answers]
    task = Task(
        lease=UUID(int=0),
        expires_at=datetime.now(UTC),
        item="",
        protocol=protocol,
        form=parse_form(document, protocol),
        form_version=0,
        messages=[{"role": "user", "content": _("How do I return a lamp?")}],
        completions=[ShownCompletion(LABELS[index], index, answer) for index, answer in enumerate(answers)],
    )
    return screen_of(task)


SAMPLES = (
    gettext_noop("Pack it, print the label and bring it to a post office."),
    gettext_noop("You cannot."),
    gettext_noop("Please ask again tomorrow."),
)


def _question(data: QueryDict, prefix: str) -> Document:
    kind = data.get(f"{prefix}kind", "")
    label = data.get(f"{prefix}label", "").strip()
    question: Document = {
        "kind": kind if kind in KINDS else "rating",
        "label": label,
        "name": data.get(f"{prefix}name", "").strip() or slug(label),
        "help": data.get(f"{prefix}help", "").strip(),
        "required": f"{prefix}required" in data,
    }
    if of := data.get(f"{prefix}of"):
        question["of"] = of
    if kind == "rating":
        question |= {end: _number(data.get(f"{prefix}{end}", "")) for end in ("low", "high")}
        question["words"] = _lines(data.get(f"{prefix}words", ""))
    if kind in ("choice", "flags"):
        question["options"] = _options(data.get(f"{prefix}options", ""))
    return question


def _named(kind: str, label: str, others: list[Document]) -> Document:
    taken, name, count = {other.get("name") for other in others}, slug(label), 2
    while name in taken:
        name, count = f"{slug(label)[:37]}_{count}", count + 1
    return {"name": kind if KINDS[kind].single else name}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _options(text: str) -> list[Document]:
    """A line each, `name: label`, or a label that the name is made from."""
    found = []
    for line in _lines(text):
        name, colon, label = line.partition(":")
        known = bool(colon and NAME.fullmatch(name) and label.strip())
        found.append({"name": name, "label": label.strip()} if known else {"name": slug(line), "label": line})
    return found


def slug(label: str) -> str:
    """A name for a label: what an export calls its answers."""
    name = re.sub(r"[^a-z0-9]+", "_", label.lower()[:MAX_LABEL]).strip("_")
    return (name if name[:1].isalpha() else f"q_{name}")[:40].rstrip("_")


def _number(text: str) -> Any:
    """A whole number, or what was typed instead, which is refused with a reason."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else text

"""What the annotator's screen shows of a task, and what its form says back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, takewhile

from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from labeling.display.fields import (
    BOTH_BAD,
    CANNOT_TELL,
    TIE,
    Button,
    Field,
    buttons,
    completion_fields,
    item_fields,
    read_details,
    whole_number,
)
from labeling.protocols.basics import LABELS, InvalidRanking, Message
from labeling.protocols.questionnaire import Details, Form
from labeling.protocols.questions import Choice, Ideal, Marks, Rating, Rationale
from labeling.queue.assignment import ShownCompletion, Task

RECENT = 4  # last turns of the context that are shown unfolded
QUESTIONS = {
    "pair": gettext_noop("Which answer is better?"),
    "ranking": gettext_noop("Rank the {size} answers: 1 is the best, ties are fine"),
    "conversation": gettext_noop("Which conversation is better?"),
}
WITHOUT_TIES = gettext_noop("Rank the {size} answers: 1 is the best, no two are equal")
# What the parts of a task are called to the person who compares them.
NOUNS = {"pair": "answer", "ranking": "answer", "conversation": "conversation"}


@dataclass(frozen=True)
class Entered:
    """What a person put into the form, kept as they put it, so that a refused answer can be shown again."""

    ranks: Mapping[str, int] = field(default_factory=dict)
    flags: Sequence[str] = ()
    rationale: str = ""
    active_ms: int = 0
    partial: bool = False  # "I leave some unranked on purpose"
    cannot_tell: bool = False
    details: Details = field(default_factory=dict)

    @property
    def order(self) -> list[list[str]]:
        """The labels in tiers, best first."""
        ranked = sorted(self.ranks, key=lambda label: (self.ranks[label], label))
        return [list(tier) for _, tier in groupby(ranked, key=lambda label: self.ranks[label])]

    def missing(self, size: int) -> list[str]:
        return [label for label in LABELS[:size] if label not in self.ranks]


@dataclass(frozen=True)
class Turn:
    """A message of a completion, by its place in it, and what was made of it."""

    message: Message
    index: int
    differs: bool
    """From that of the others at the same place, or from there being none."""
    can_be_marked: bool
    mark: str = ""


@dataclass(frozen=True)
class Card:
    """One completion: its letter, the turns that only it has, the rank and the answers entered for it."""

    label: str
    turns: Sequence[Turn]
    rank: int | None
    fields: Sequence[Field]


@dataclass(frozen=True)
class Screen:
    task: Task
    question: str
    noun: str
    earlier: Sequence[Message]
    recent: Sequence[Message]
    cards: Sequence[Card]
    entered: Entered

    @property
    def ranks(self) -> range:
        return range(1, len(self.cards) + 1)

    @cached_property
    def single_turns(self) -> bool:
        return single_turns([[turn.message for turn in card.turns] for card in self.cards])

    @cached_property
    def buttons(self) -> Sequence[Button]:
        return buttons(self.task.form)

    @cached_property
    def fields(self) -> list[Field]:
        """About the item."""
        return item_fields(self.task.form, self.entered.details, self.entered.flags, self.entered.rationale)

    @cached_property
    def picks(self) -> list[Field]:
        """What is picked with one key, beside the order."""
        return [one for one in self.fields if isinstance(one.question, (Rating, Choice))]

    @cached_property
    def texts(self) -> list[Field]:
        """What is to be written: it needs room."""
        return [one for one in self.fields if one.question.kind == Ideal.kind or _is_demanded_reason(one)]

    @cached_property
    def notes(self) -> list[Field]:
        """What may be said of any item: flags, and a reason."""
        shown = [*self.picks, *self.texts]
        return [one for one in self.fields if one not in shown]


def screen_of(task: Task, entered: Entered | None = None) -> Screen:
    entered = entered or Entered()
    shared = shared_turns([completion.messages for completion in task.completions])
    context = [*task.messages, *task.completions[0].messages[:shared]]
    fold = len(context) - RECENT if len(context) > RECENT + 1 else 0
    question = QUESTIONS[task.protocol] if task.form.ties or task.protocol != "ranking" else WITHOUT_TIES
    return Screen(
        task=task,
        question=_(question).format(size=len(task.completions)),
        noun=NOUNS[task.protocol],
        earlier=context[:fold],
        recent=context[fold:],
        cards=[_card(task, completion, shared, entered) for completion in task.completions],
        entered=entered,
    )


def _card(task: Task, completion: ShownCompletion, shared: int, entered: Entered) -> Card:
    label, own = completion.label, list(enumerate(completion.messages))[shared:]
    markable = task.form.named(Marks.kind) is not None
    marks = entered.details.get("answers", {}).get(Marks.kind, {}).get(label, {})
    turns = [
        Turn(
            message,
            index,
            any(other.messages[index : index + 1] != [message] for other in task.completions),
            markable and message["role"] == "assistant",
            marks.get(str(index), ""),
        )
        for index, message in own
    ]
    fields = completion_fields(task.form, entered.details, label, task.protocol)
    return Card(label, turns, entered.ranks.get(label), fields)


def _is_demanded_reason(one: Field) -> bool:
    return one.question.kind == Rationale.kind and one.demanded


def shared_turns(conversations: Sequence[Sequence[Message]]) -> int:
    """How many turns all conversations begin with. Of each, the last turn at least stays its own."""
    openings = [turns[:-1] for turns in conversations]
    return sum(1 for _ in takewhile(_all_equal, zip(*openings, strict=False)))


def single_turns(conversations: Sequence[Sequence[Message]]) -> bool:
    """Every one is just an answer: then naming who speaks says nothing."""
    return all(len(turns) == 1 and turns[0]["role"] == "assistant" for turns in conversations)


def _all_equal(turns: Sequence[Message]) -> bool:
    return all(turn == turns[0] for turn in turns)


def read_form(data: QueryDict, size: int, form: Form) -> Entered:
    """The posted form. Raises InvalidRanking where it is not one of ours; whether it is an answer is asked later."""
    return Entered(
        ranks=_ranks(data, LABELS[:size]),
        flags=data.getlist("flags"),
        rationale=data.get("rationale") or "",
        active_ms=whole_number(data.get("active_ms") or "0"),
        partial=data.get("partial") == "yes",
        cannot_tell=data.get("choice") == CANNOT_TELL,
        details=read_details(data, form, LABELS[:size]),
    )


def _ranks(data: QueryDict, labels: str) -> dict[str, int]:
    choice = (data.get("choice") or "").partition(":")[0]
    if choice == CANNOT_TELL:  # whatever was ranked before
        return {}
    if choice in (TIE, BOTH_BAD):
        return dict.fromkeys(labels, 1)
    if choice:
        if choice not in labels:
            raise InvalidRanking(_("Choose one of the two, or say that they are equal."))
        return {label: 1 if label == choice else 2 for label in labels}
    given = {label: data.get(f"rank_{label}") for label in labels}
    return {label: whole_number(rank) for label, rank in given.items() if rank}

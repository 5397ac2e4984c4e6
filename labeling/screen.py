"""What the annotator's screen shows of a task, and what its form says back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, takewhile

from django.http import QueryDict

from labeling.assignment import Task
from labeling.protocols import LABELS, InvalidRanking, Message

CANNOT_TELL = "cannot_tell"  # value of its button
RECENT = 4  # last turns of the context that are shown unfolded
QUESTIONS = {
    "pair": "Which answer is better?",
    "ranking": "Rank the {size} answers: 1 is the best, ties are fine",
    "conversation": "Which conversation is better?",
}
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

    @property
    def order(self) -> list[list[str]]:
        """The labels in tiers, best first."""
        ranked = sorted(self.ranks, key=lambda label: (self.ranks[label], label))
        return [list(tier) for _, tier in groupby(ranked, key=lambda label: self.ranks[label])]

    def missing(self, size: int) -> list[str]:
        return [label for label in LABELS[:size] if label not in self.ranks]


@dataclass(frozen=True)
class Card:
    """One completion: its letter, the turns that only it has, and the rank entered for it."""

    label: str
    turns: Sequence[Message]
    rank: int | None


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

    @property
    def single_turns(self) -> bool:
        return single_turns([card.turns for card in self.cards])


def screen_of(task: Task, entered: Entered | None = None) -> Screen:
    entered = entered or Entered()
    shared = shared_turns([completion.messages for completion in task.completions])
    context = [*task.messages, *task.completions[0].messages[:shared]]
    fold = len(context) - RECENT if len(context) > RECENT + 1 else 0
    return Screen(
        task=task,
        question=QUESTIONS[task.protocol].format(size=len(task.completions)),
        noun=NOUNS[task.protocol],
        earlier=context[:fold],
        recent=context[fold:],
        cards=[Card(c.label, c.messages[shared:], entered.ranks.get(c.label)) for c in task.completions],
        entered=entered,
    )


def shared_turns(conversations: Sequence[Sequence[Message]]) -> int:
    """How many turns all conversations begin with. Of each, the last turn at least stays its own."""
    openings = [turns[:-1] for turns in conversations]
    return sum(1 for _ in takewhile(_all_equal, zip(*openings, strict=False)))


def single_turns(conversations: Sequence[Sequence[Message]]) -> bool:
    """Every one is just an answer: then naming who speaks says nothing."""
    return all(len(turns) == 1 and turns[0]["role"] == "assistant" for turns in conversations)


def _all_equal(turns: Sequence[Message]) -> bool:
    return all(turn == turns[0] for turn in turns)


def read_form(data: QueryDict, size: int) -> Entered:
    """The posted form. Raises InvalidRanking where it is not one of ours; whether it is an answer is asked later."""
    return Entered(
        ranks=_ranks(data, LABELS[:size]),
        flags=data.getlist("flags"),
        rationale=data.get("rationale") or "",
        active_ms=_whole_number(data.get("active_ms") or "0"),
        partial=data.get("partial") == "yes",
        cannot_tell=data.get("choice") == CANNOT_TELL,
    )


def _ranks(data: QueryDict, labels: str) -> dict[str, int]:
    choice = data.get("choice")
    if choice == CANNOT_TELL:  # whatever was ranked before
        return {}
    if choice == "tie":
        return dict.fromkeys(labels, 1)
    if choice:
        if choice not in labels:
            raise InvalidRanking("Choose one of the two, or say that they are equal.")
        return {label: 1 if label == choice else 2 for label in labels}
    given = {label: data.get(f"rank_{label}") for label in labels}
    return {label: _whole_number(rank) for label, rank in given.items() if rank}


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidRanking(f"{text[:20]!r} is not a whole number.")
    return int(text)

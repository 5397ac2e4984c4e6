"""What the server sends. Fields that this version does not know are left out, so newer servers do not break it."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from datetime import datetime
from types import UnionType
from typing import Any, TypeVar

T = TypeVar("T")
Tiers = list[list[int]]


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Progress:
    """Answers: given, wanted, given by you."""

    done: int
    total: int
    mine: int


@dataclass(frozen=True)
class Campaign:
    """`progress` is there where one campaign was asked for."""

    id: str
    name: str
    state: str
    protocol: str
    overlap: int
    order: str
    guidelines: str
    guidelines_version: int
    created_at: datetime
    form: dict[str, Any] = field(default_factory=dict)
    form_version: int = 1
    progress: Progress | None = None


@dataclass(frozen=True)
class Member:
    id: int
    username: str
    role: str


@dataclass(frozen=True)
class LineError:
    line: int
    reason: str


@dataclass(frozen=True)
class Import:
    """How far a file is: `position` counts its rows. It is over when `finished_at` or `failure` is there."""

    id: int
    name: str
    accepted: int
    duplicates: int
    rejected: int
    rankings: int
    position: int
    failure: str
    finished_at: datetime | None = None
    errors: list[LineError] = field(default_factory=list)


@dataclass(frozen=True)
class ExportFile:
    """How far a file of answers is: `position` of `answers`. Over when `finished_at` or `failure` is there."""

    id: int
    what: str
    container: str
    answers: int
    position: int
    size: int
    failure: str
    finished_at: datetime | None = None


@dataclass(frozen=True)
class ListedItem:
    id: str
    title: str
    completions: int
    answers: int


@dataclass(frozen=True)
class Completion:
    messages: list[Message]
    source: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What one person gave: indices of completions in tiers, best first. Those who cannot tell give none."""

    id: str
    labeler: str
    tiers: Tiers
    cannot_tell: bool
    flags: list[str]
    rationale: str
    created_at: datetime
    details: dict[str, Any] = field(default_factory=dict)
    form_version: int = 1
    username: str | None = None


@dataclass(frozen=True)
class Item:
    id: str
    messages: list[Message]
    completions: list[Completion]
    answers: list[Answer]
    meta: dict[str, Any]
    removed_at: datetime | None = None


@dataclass(frozen=True)
class ShownCompletion:
    label: str
    messages: list[Message]


@dataclass(frozen=True)
class Task:
    """An item that is yours until `expires_at`, with its completions in the order in which you see them."""

    lease: str
    expires_at: datetime
    item: str
    protocol: str
    messages: list[Message]
    completions: list[ShownCompletion]
    form: dict[str, Any] = field(default_factory=dict)
    form_version: int = 1


@dataclass(frozen=True)
class Next:
    """A task, or why there is none."""

    task: Task | None
    progress: Progress
    why: str = ""


@dataclass(frozen=True)
class Submitted:
    """The ranking that was kept; `late` where the lease had passed on. The rest is as in `Next`, with `next=True`."""

    ranking: str
    late: bool
    task: Task | None = None
    progress: Progress | None = None
    why: str = ""


@dataclass(frozen=True)
class ChatReply:
    """What the model on one side answered, as far as it is."""

    side: str
    state: str
    text: str
    is_cut: bool = False


@dataclass(frozen=True)
class ChatTurn:
    message: str
    replies: list[ChatReply]
    voted: bool


@dataclass(frozen=True)
class Chat:
    """`state` is what it waits for: `new`, `loading`, `writing`, `failed`, `answered` or `voted`."""

    id: str
    state: str
    turns: list[ChatTurn]


@dataclass(frozen=True)
class OwnChat:
    """Your open chat, if there is one; `why` says why none can be begun. Votes: given by all, and wanted."""

    chat: Chat | None
    why: str
    votes: int
    target: int


@dataclass(frozen=True)
class Run:
    id: str
    kind: str
    name: str
    state: str
    stage: str
    step: int
    total_steps: int
    error: str
    settings: dict[str, Any]
    metrics: dict[str, float]
    eta_seconds: float | None = None
    campaign: str | None = None
    artifact: str | None = None
    made_campaign: str | None = None

    @property
    def is_over(self) -> bool:
        return self.state in ("succeeded", "failed", "stopped")


@dataclass(frozen=True)
class Event:
    """One event of a run; what it says depends on its type and is in `data`."""

    seq: int
    type: str
    step: int
    time: datetime
    data: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A model that runs can start from, or what a run made."""

    id: str
    kind: str
    name: str
    base_model: str
    format: str
    metrics: dict[str, float]
    created_at: datetime
    parent: str | None = None
    reward: str | None = None
    run: str | None = None
    snapshot: str | None = None


def parse(cls: type[T], data: dict[str, Any]) -> T:
    """An object of the fields it knows."""
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls) if f.name in data]  # type: ignore[arg-type]
    return cls(**{name: _value(hints[name], data[name]) for name in names})


def _value(wanted: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if value is None:
        return None
    if origin is UnionType:
        return _value(next(kind for kind in arguments if kind is not type(None)), value)
    if origin is list:
        return [_value(arguments[0], entry) for entry in value]
    if dataclasses.is_dataclass(wanted):
        return parse(typing.cast(type[Any], wanted), value)
    return datetime.fromisoformat(value) if wanted is datetime else value

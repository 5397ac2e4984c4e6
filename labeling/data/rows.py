r"""Our own form of a row, which every other form is read into (`labeling.data.formats`). Pure: no files, no database.

`prompt` (text) or `messages`, with `completions`: texts, lists of messages, or objects with `text` or `messages`, and
`source`. In a conversation campaign the prompt may be missing or empty; then each completion is a whole conversation.
`ranking` (or `tiers`) are tiers of completion numbers, best first, or a flat list for a strict order; `labeler`. Or
`cannot_tell` true: somebody looked, and could not tell. Of `details`, as we export them, strength, "both bad", ideal
and improved answers are kept.

Whole conversations are split at the point where they part: what they share becomes the prompt, what differs the
completions, so nothing is read twice and prompt plus completion is the conversation again. A text that begins with
"\n\nHuman:" is a transcript of turns, as in hh-rlhf. Of a message, `role` and `content` are kept. Every other key of a
row or a completion goes into its `meta`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_noop, override

from labeling.data.files import BadLine
from labeling.protocols.basics import COMPLETIONS, ROLES, InvalidRanking, Message, Tiers, ranking_tiers
from labeling.protocols.questionnaire import Details, portable_details

MAX_DEPTH = 50
MAX_SOURCE, MAX_LABELER = 200, 120  # characters, as in the database
TURN = re.compile(r"\n\n(Human|Assistant):")
TURN_ROLES = {"Human": "user", "Assistant": "assistant"}
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ParsedCompletion:
    messages: list[Message]
    source: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParsedRow:
    messages: list[Message]
    completions: list[ParsedCompletion]
    tiers: Tiers | None
    """None when the line has no answer; empty when its labeler could not tell."""
    labeler: str
    meta: dict[str, Any]
    content_hash: str
    details: Details = field(default_factory=dict)


def parse_row(row: dict[str, Any], protocol: str, sizes: tuple[int, int] | None = None) -> ParsedRow:
    """Raises BadLine with the reason. The row has passed `check_storable`; `sizes`: fewest and most completions."""
    rest = dict(row)
    messages, completions = _listed(rest, protocol)
    tiers = rest.pop("ranking", None) or rest.pop("tiers", None)
    cannot_tell = rest.pop("cannot_tell", False)
    if not isinstance(cannot_tell, bool):
        raise BadLine(gettext_noop('"cannot_tell" must be true or false.'))
    if cannot_tell and tiers is None:
        tiers = []
    labeler = rest.pop("labeler", "")
    if not isinstance(labeler, str) or len(labeler) > MAX_LABELER:
        raise BadLine(gettext_noop('"labeler" must be a text of at most {} characters.').format(MAX_LABELER))
    _check_shape(messages, completions, protocol, sizes or COMPLETIONS[protocol])
    ranked = None if tiers is None else _tiers(tiers, protocol, len(completions), cannot_tell)
    return ParsedRow(
        messages=messages,
        completions=completions,
        tiers=ranked,
        labeler=labeler,
        details=_details(rest.pop("details", {}), ranked, len(completions)),
        meta=meta_of(rest),
        content_hash=digest([messages, [completion.messages for completion in completions]]),
    )


# --- Forms --------------------------------------------------------------------------------------------------------


def _listed(row: dict[str, Any], protocol: str) -> tuple[list[Message], list[ParsedCompletion]]:
    given = row.pop("completions")
    if not isinstance(given, list):
        raise BadLine(gettext_noop('"completions" must be a list.'))
    completions = [_completion(value, f"Completion {n}") for n, value in enumerate(given, 1)]
    if "messages" in row or "prompt" in row:
        messages = prompt_of(row)
    elif protocol == "conversation":
        messages = []
    else:
        raise BadLine(gettext_noop('A line with "completions" needs a "prompt" or "messages".'))
    if not messages and completions:
        shared, tails = parted([completion.messages for completion in completions])
        pairs = zip(tails, completions, strict=True)
        return shared, [ParsedCompletion(tail, old.source, old.meta) for tail, old in pairs]
    return messages, completions


def prompt_of(row: dict[str, Any]) -> list[Message]:
    """Takes `messages` or `prompt` out of the row. An empty list stands for whole conversations."""
    key = "messages" if "messages" in row else "prompt"
    value = row.pop(key)
    if value == []:
        return []
    if not isinstance(value, str):
        return messages_of(value, f'"{key}"')
    if not value.startswith("\n\nHuman:"):
        return [{"role": "user", "content": value}]
    messages = _turns(value)
    if messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        messages.pop()  # the cue for the answer, not an answer
    return messages


def _completion(value: Any, where: str) -> ParsedCompletion:
    if not isinstance(value, dict):
        return ParsedCompletion(conversation_of(value, where))
    rest = dict(value)
    if "text" in rest:
        messages = conversation_of(rest.pop("text"), where)
    elif "messages" in rest:
        messages = messages_of(rest.pop("messages"), where)
    else:
        raise BadLine(f'{where} needs a "text" or "messages".')
    source = rest.pop("source", "")
    if not isinstance(source, str) or len(source) > MAX_SOURCE:
        raise BadLine(f"{where} has a source that is not a text of at most {MAX_SOURCE} characters.")
    return ParsedCompletion(messages, source, meta_of(rest))


def conversation_of(value: Any, where: str) -> list[Message]:
    """Messages, hh-rlhf text, or the text of one answer."""
    if not isinstance(value, str):
        return messages_of(value, where)
    return _turns(value) if value.startswith("\n\nHuman:") else [{"role": "assistant", "content": value}]


def messages_of(value: Any, where: str) -> list[Message]:
    """The messages of a list that is not empty, with nothing but role and content."""
    if not isinstance(value, list) or not value:
        raise BadLine(f"{where} must be a text or a list of messages.")
    messages: list[Message] = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise BadLine(f'{where}: message {number} needs a "role" and a text "content".')
        if message.get("role") not in ROLES:
            raise BadLine(
                f"{where}: message {number} has the role {str(message.get('role'))[:40]!r}; "
                f"roles are {', '.join(ROLES)}."
            )
        messages.append({"role": message["role"], "content": message["content"]})
    return messages


def _turns(text: str) -> list[Message]:
    r"""hh-rlhf text. The one space behind the colon belongs to the form, everything else to the content."""
    _, *parts = TURN.split(text)
    return [
        {"role": TURN_ROLES[name], "content": content.removeprefix(" ")}
        for name, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def parted(conversations: list[list[Message]]) -> tuple[list[Message], list[list[Message]]]:
    """What the conversations share from their beginning, and how each goes on (by one message at least)."""
    shared = 0
    while all(len(c) > shared + 1 and c[shared] == conversations[0][shared] for c in conversations):
        shared += 1
    return conversations[0][:shared], [conversation[shared:] for conversation in conversations]


# --- Checks -------------------------------------------------------------------------------------------------------


def _check_shape(
    messages: list[Message], completions: list[ParsedCompletion], protocol: str, sizes: tuple[int, int]
) -> None:
    fewest, most = sizes
    if not fewest <= len(completions) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        kind = f"A {protocol} item" if sizes == COMPLETIONS[protocol] else "An item of this campaign"
        raise BadLine(f"{kind} has {wanted} completions, this line has {len(completions)}.")
    if len({digest(completion.messages) for completion in completions}) == 1:
        raise BadLine(gettext_noop("The completions are identical: there is nothing to compare."))
    if protocol == "conversation":
        return
    if not any(message["content"].strip() for message in messages):
        raise BadLine(gettext_noop("The prompt is empty."))
    if any(completion.messages[0]["role"] != "assistant" for completion in completions):
        raise BadLine(
            gettext_noop("The answers part at a message of the user; a conversation campaign can compare them.")
        )


def _tiers(value: Any, protocol: str, size: int, cannot_tell: bool) -> Tiers:
    if isinstance(value, list) and all(isinstance(index, int) for index in value):
        value = [[index] for index in value]
    try:
        with override("en"):  # the reason is kept, whoever imports
            return ranking_tiers(value, protocol, size, cannot_tell=cannot_tell)
    except InvalidRanking as error:
        raise BadLine(f"The ranking does not fit: {error}") from None


def _details(value: Any, tiers: Tiers | None, size: int) -> Details:
    try:
        with override("en"):
            return {} if tiers is None else portable_details(value, tiers, size)
    except InvalidRanking as error:
        raise BadLine(f"The details do not fit: {error}") from None


def check_storable(row: dict[str, Any]) -> None:
    """PostgreSQL keeps no NUL characters and no broken Unicode, JSON no infinite numbers."""
    level: list[Any] = [row]
    for _ in range(MAX_DEPTH):
        for value in level:
            if isinstance(value, str):
                if "\x00" in value:
                    raise BadLine(gettext_noop("The line contains a NUL character."))
                if SURROGATE.search(value):
                    raise BadLine(gettext_noop("The line contains half of a surrogate pair (broken Unicode)."))
            elif isinstance(value, float) and not math.isfinite(value):
                raise BadLine(gettext_noop("The line contains a number that is too large."))
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise BadLine(gettext_noop("The line is nested more than {} levels deep.").format(MAX_DEPTH))


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def meta_of(rest: dict[str, Any]) -> dict[str, Any]:
    """The keys nobody asked for. A `meta` object, as our own export writes it, is taken up rather than nested."""
    meta = rest.pop("meta", None)
    if isinstance(meta, dict):
        return rest | meta
    return rest if meta is None else rest | {"meta": meta}


def digest(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()

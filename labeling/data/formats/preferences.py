"""Formats that say which of two answers is better, or how good one is: hh-rlhf, TRL and arena battles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext_noop

from labeling.data.files import BadLine
from labeling.data.formats.base import GRADE, Format, Row, labeler_of
from labeling.data.rows import conversation_of, digest, messages_of, meta_of, parted, prompt_of
from labeling.protocols.basics import Message

TRANSCRIPT = "\n\nHuman:"
WINNERS = {
    "model_a": [[0], [1]],
    "model_b": [[1], [0]],
    "tie": [[0, 1]],
    "tie (bothbad)": [[0, 1]],
    "both_bad": [[0, 1]],
}


def _chosen_first(row: Row) -> Iterator[Row]:
    """The order of `chosen` and `rejected` becomes the order of their hashes: places must not tell which is better."""
    rest = dict(row)
    answers = [conversation_of(rest.pop(key), f'"{key}"') for key in ("chosen", "rejected")]
    sources = [rest.pop(f"{key}_source", "") for key in ("chosen", "rejected")]
    if all(told[0]["role"] == "assistant" for told in answers) and ("messages" in row or "prompt" in row):
        messages = prompt_of(rest)
    else:
        messages, answers = parted(answers)
    tie = _number(rest.pop("mu", 1)) == 0.5
    completions = [{"messages": told, "source": source} for told, source in zip(answers, sources, strict=True)]
    swapped = digest(answers[0]) > digest(answers[1])
    yield {
        "messages": messages,
        "completions": completions[::-1] if swapped else completions,
        "tiers": [[0, 1]] if tie else [[1], [0]] if swapped else [[0], [1]],
        "labeler": rest.pop("labeler", ""),
        "meta": meta_of(rest),
    }


def _number(value: Any) -> Any:
    """Of a CSV file, numbers are texts."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _unpaired(row: Row) -> Iterator[Row]:
    rest = dict(row)
    label = rest.pop("label")
    if isinstance(label, str):
        label = {"true": True, "false": False, "1": True, "0": False}.get(label.lower())
    if label not in (True, False):
        raise BadLine(gettext_noop('"label" must be true or false.'))
    completion = conversation_of(rest.pop("completion"), '"completion"')
    yield {
        "messages": prompt_of(rest),
        "completions": [{"messages": completion, "source": rest.pop("source", "")}],
        "labeler": labeler_of(rest, "labeler"),
        GRADE: float(label),
        "meta": meta_of(rest),
    }


def _battle(row: Row) -> Iterator[Row]:
    rest = dict(row)
    winner = rest.pop("winner")
    if not isinstance(winner, str) or winner not in WINNERS:
        raise BadLine(f'"winner" is {str(winner)[:40]!r}; it must be one of {", ".join(WINNERS)}.')
    told = [_battle_messages(rest.pop(f"conversation_{side}"), f'"conversation_{side}"') for side in "ab"]
    messages, answers = parted(told)
    sources = [rest.pop(f"model_{side}", "") for side in "ab"]
    if winner not in ("model_a", "model_b", "tie"):
        rest["winner"] = winner  # both are bad: a tie, and more than that
    yield {
        "messages": messages,
        "completions": [{"messages": m, "source": source} for m, source in zip(answers, sources, strict=True)],
        "tiers": WINNERS[winner],
        "labeler": labeler_of(rest, "judge"),
        "meta": rest,
    }


def _battle_messages(value: Any, where: str) -> list[Message]:
    """Newer battles have a list of parts where older ones have a text."""
    if not isinstance(value, list):
        raise BadLine(f"{where} must be a list of messages.")
    return messages_of([_with_text(message) for message in value], where)


def _with_text(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return message | {"content": "".join(part["text"] for part in content)}
    return message


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(TRANSCRIPT)


USER, GOOD, BAD = (
    {"role": "user", "content": "How hot is the sun?"},
    {"role": "assistant", "content": "About 5,500 °C at its surface."},
    {"role": "assistant", "content": "Very."},
)

HH = Format(
    name="hh-rlhf",
    title=gettext_noop("hh-rlhf: two transcripts, chosen and rejected"),
    example={
        "chosen": "\n\nHuman: How hot is the sun?\n\nAssistant: About 5,500 °C at its surface.",
        "rejected": "\n\nHuman: How hot is the sun?\n\nAssistant: Very.",
    },
    has=lambda row: _is_transcript(row.get("chosen")) and _is_transcript(row.get("rejected")),
    read=_chosen_first,
)
TRL = Format(
    name="trl",
    title=gettext_noop("TRL preference: prompt, chosen and rejected, as texts or messages"),
    example={"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    has=lambda row: "chosen" in row and "rejected" in row and "conversations" not in row,
    read=_chosen_first,
)
UNPAIRED = Format(
    name="trl-unpaired",
    title=gettext_noop("TRL unpaired: prompt, completion and whether it is good"),
    example={"prompt": [USER], "completion": [GOOD], "label": True},
    has=lambda row: {"prompt", "completion", "label"} <= row.keys(),
    read=_unpaired,
    joins=True,
)
ARENA = Format(
    name="arena",
    title=gettext_noop("Arena battles: conversation_a, conversation_b and the winner"),
    example={
        "model_a": "model-1",
        "model_b": "model-2",
        "winner": "model_a",
        "judge": "arena_user_7",
        "conversation_a": [USER, GOOD],
        "conversation_b": [USER, BAD],
    },
    has=lambda row: {"conversation_a", "conversation_b", "winner"} <= row.keys(),
    read=_battle,
)

"""Formats with several judged answers to one prompt: UltraFeedback's ratings and Open-Assistant's ranked trees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext_noop

from labeling.data.files import BadLine
from labeling.data.formats.base import Format, Row, answer, said, text_of, tiers_by
from labeling.protocols.basics import Message

OASST_ROLES = {"prompter": "user", "assistant": "assistant", "system": "system"}
ASSISTANT = "assistant"


# --- UltraFeedback ------------------------------------------------------------------------------------------------


def _rated(row: Row) -> Iterator[Row]:
    rest = dict(row)
    completions, ratings = [], []
    prompt = text_of(rest, "instruction")
    for number, given in enumerate(rest.pop("completions"), 1):
        if not isinstance(given, dict):
            raise BadLine(gettext_noop("Completion {} is not an object.").format(number))
        inner = dict(given)
        ratings.append(_rating(inner))
        source = inner.pop("model", "")
        completions.append(answer(text_of(inner, "response"), source) | {"meta": inner})
    known = [rating for rating in ratings if rating is not None]
    yield {
        "messages": [said("user", prompt)],
        "completions": completions,
        "tiers": tiers_by(known) if len(known) == len(ratings) else None,
        "labeler": "ultrafeedback",
        "meta": rest,
    }


def _rating(completion: Row) -> float | None:
    """The mean of the aspects' ratings. `overall_score` is the fallback only: some 10s in it were meant to be 1s."""
    aspects = completion.get("annotations")
    if isinstance(aspects, dict) and aspects:
        given = [_number(aspect.get("Rating")) if isinstance(aspect, dict) else None for aspect in aspects.values()]
        known = [rating for rating in given if rating is not None]
        if known:
            return sum(known) / len(known)
    fine = _number(completion.get("fine-grained_score"))
    return _number(completion.get("overall_score")) if fine is None else fine


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# --- Open-Assistant -----------------------------------------------------------------------------------------------


def _tree(row: Row) -> Iterator[Row]:
    """One row for each message of a tree that got several answers; those that have a rank are ranked."""
    rest = dict(row)
    found = False
    waiting: list[tuple[Any, list[Message]]] = [(rest.pop("prompt"), [])]
    while waiting:
        node, before = waiting.pop()
        path = [*before, _message(node)]
        replies = node.get("replies") or []
        if not isinstance(replies, list):
            raise BadLine(gettext_noop('"replies" must be a list.'))
        answers = [reply for reply in replies if isinstance(reply, dict) and reply.get("role") == ASSISTANT]
        if len(answers) > 1:
            found = True
            yield _ranked(path, answers) | {"meta": {"message_tree_id": rest.get("message_tree_id")}}
        waiting += [(reply, path) for reply in reversed(replies)]
    if not found:
        raise BadLine(gettext_noop("No message of this tree has two answers to compare."))


def _ranked(path: list[Message], replies: list[Row]) -> Row:
    ranks = [_number(reply.get("rank")) for reply in replies]
    known = {n: -rank for n, rank in enumerate(ranks) if rank is not None}
    tiers = [[list(known)[n] for n in tier] for tier in tiers_by(list(known.values()))]
    return {
        "messages": path,
        "completions": [{"messages": [_message(reply)], "source": reply.get("source") or ""} for reply in replies],
        "tiers": tiers if len(known) > 1 else None,
        "labeler": "oasst",
    }


def _message(node: Any) -> Message:
    if not isinstance(node, dict) or not isinstance(node.get("text"), str):
        raise BadLine(gettext_noop('Each message of a tree needs a "text".'))
    role = OASST_ROLES.get(str(node.get("role")))
    if role is None:
        raise BadLine(f"A message has the role {str(node.get('role'))[:40]!r}; roles are {', '.join(OASST_ROLES)}.")
    return said(role, node["text"])


ULTRAFEEDBACK = Format(
    name="ultrafeedback",
    title=gettext_noop("UltraFeedback: an instruction and rated completions"),
    example={
        "instruction": "How hot is the sun?",
        "completions": [
            {
                "model": "model-1",
                "response": "About 5,500 °C at its surface.",
                "annotations": {"honesty": {"Rating": "5"}, "helpfulness": {"Rating": "4"}},
            },
            {
                "model": "model-2",
                "response": "Very.",
                "annotations": {"honesty": {"Rating": "3"}, "helpfulness": {"Rating": "2"}},
            },
        ],
    },
    has=lambda row: "instruction" in row and isinstance(row.get("completions"), list),
    read=_rated,
)
OASST = Format(
    name="oasst",
    title=gettext_noop("Open-Assistant: trees of messages with ranked replies"),
    example={
        "message_tree_id": "tree-1",
        "prompt": {
            "role": "prompter",
            "text": "How hot is the sun?",
            "replies": [
                {"role": "assistant", "text": "About 5,500 °C at its surface.", "rank": 0, "replies": []},
                {"role": "assistant", "text": "Very.", "rank": 1, "replies": []},
            ],
        },
    },
    has=lambda row: isinstance(row.get("prompt"), dict) and "text" in row["prompt"],
    read=_tree,
)

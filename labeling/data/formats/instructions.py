"""Formats with one answer a row, written for supervised fine-tuning: ShareGPT, Alpaca, Dolly, Natural Instructions.

Rows that follow one another and have the same prompt are one item, so the outputs of several models for the same
instructions can be compared. Alpaca's and ShareGPT's forms for preferences are read, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext_noop

from labeling.data.files import BadLine
from labeling.data.formats.base import GRADE, Format, Row, answer, labeler_of, said, text_of
from labeling.protocols.basics import Message

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
ALPACA_PREFERENCES = {1: [[0], [1]], 2: [[1], [0]], 1.5: [[0, 1]]}
MOST_OUTPUTS = 9  # of a Natural Instructions instance


def _sharegpt(row: Row) -> Iterator[Row]:
    rest = dict(row)
    told = rest.pop("conversations")
    if not isinstance(told, list) or not told:
        raise BadLine(gettext_noop('"conversations" must be a list of messages.'))
    messages = [_turn(turn) for turn in told]
    if "chosen" in rest and "rejected" in rest:
        answers = [_turn(rest.pop(key)) for key in ("chosen", "rejected")]
        swapped = answers[0]["content"] > answers[1]["content"]
        completions = [{"messages": [told]} for told in (answers[::-1] if swapped else answers)]
        yield {
            "messages": messages,
            "completions": completions,
            "tiers": [[1], [0]] if swapped else [[0], [1]],
            "meta": rest,
        }
        return
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()  # a question that nobody answered
    if len(messages) < 2:
        raise BadLine(gettext_noop("The conversation has no answer."))
    completion = {"messages": messages[-1:], "source": _source(rest)}
    yield {"messages": messages[:-1], "completions": [completion]} | _rest(rest)


def _turn(turn: Any) -> Message:
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        raise BadLine(gettext_noop('Each message needs a "from" and a text "value".'))
    role = SHAREGPT_ROLES.get(str(turn.get("from")))
    if role is None:
        raise BadLine(f"A message is from {str(turn.get('from'))[:40]!r}; it must be {', '.join(SHAREGPT_ROLES)}.")
    return said(role, turn["value"])


def _alpaca(row: Row) -> Iterator[Row]:
    rest = dict(row)
    messages = [said("user", _joined(text_of(rest, "instruction"), text_of(rest, "input", default="")))]
    if "output" in rest:
        yield {"messages": messages, "completions": [answer(text_of(rest, "output"), _source(rest))]} | _rest(rest)
        return
    preference = rest.pop("preference", None)
    if preference is not None and not (isinstance(preference, int | float) and preference in ALPACA_PREFERENCES):
        raise BadLine(gettext_noop('"preference" must be 1, 2, or 1.5 for a tie.'))
    yield {
        "messages": messages,
        "completions": [answer(text_of(rest, f"output_{n}"), rest.pop(f"generator_{n}", "")) for n in (1, 2)],
        "tiers": None if preference is None else ALPACA_PREFERENCES[preference],
        "labeler": labeler_of(rest, "annotator"),
        "meta": rest,
    }


def _dolly(row: Row) -> Iterator[Row]:
    rest = dict(row)
    prompt = _joined(text_of(rest, "instruction"), text_of(rest, "context", default=""))
    yield {"messages": [said("user", prompt)], "completions": [answer(text_of(rest, "response"))]} | _rest(rest)


def _natural(row: Row) -> Iterator[Row]:
    """A task file with all of its instances, or one instance a row with `definition`, `inputs` and `targets`."""
    rest = dict(row)
    if "Instances" not in rest:
        given = {key: text_of(rest, key) for key in ("definition", "inputs", "targets")}
        task = _task(given["definition"], given["inputs"])
        yield {"messages": task, "completions": [answer(given["targets"])]} | _rest(rest)
        return
    definition, instances = rest.get("Definition"), rest["Instances"]
    if isinstance(definition, list) and all(isinstance(line, str) for line in definition):
        definition = "\n".join(definition)
    if not isinstance(definition, str) or not isinstance(instances, list):
        raise BadLine(gettext_noop('A task needs a "Definition" and a list of "Instances".'))
    for instance in instances:
        outputs = instance.get("output") if isinstance(instance, dict) else None
        if isinstance(outputs, str):
            outputs = [outputs]
        if not isinstance(outputs, list) or not isinstance(instance.get("input"), str):
            raise BadLine(gettext_noop('Each instance needs an "input" and an "output".'))
        for output in list(dict.fromkeys(map(str, outputs)))[:MOST_OUTPUTS]:
            task, meta = _task(definition, instance["input"]), {"id": instance.get("id")}
            yield {"messages": task, "completions": [answer(output)], GRADE: None, "meta": meta}


def _task(definition: str, given: str) -> list[Message]:
    return [said("user", _joined(definition, given))]


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text.strip())


def _source(rest: Row) -> str:
    """Who wrote the answer, under the names that people use for it."""
    for key in ("generator", "model", "source"):
        if isinstance(rest.get(key), str):
            return str(rest.pop(key))
    return ""


def _rest(rest: Row) -> Row:
    return {GRADE: None, "meta": rest}


HUMAN, GPT = (
    {"from": "human", "value": "How hot is the sun?"},
    {"from": "gpt", "value": "About 5,500 °C at its surface."},
)
SHAREGPT = Format(
    name="sharegpt",
    title=gettext_noop("ShareGPT: conversations of from and value"),
    example={"id": "conversation-1", "model": "model-1", "conversations": [HUMAN, GPT]},
    has=lambda row: "conversations" in row,
    read=_sharegpt,
    joins=True,
)
ALPACA = Format(
    name="alpaca",
    title=gettext_noop("Alpaca: instruction, input and output"),
    example={"instruction": "How hot is this?", "input": "The sun", "output": "5,500 °C.", "generator": "model-1"},
    has=lambda row: "instruction" in row and ("output" in row or {"output_1", "output_2"} <= row.keys()),
    read=_alpaca,
    joins=True,
)
DOLLY = Format(
    name="dolly",
    title=gettext_noop("Dolly: instruction, context and response"),
    example={"instruction": "How hot is it?", "context": "The sun …", "response": "5,500 °C.", "category": "closed_qa"},
    has=lambda row: "instruction" in row and "response" in row,
    read=_dolly,
    joins=True,
)
NATURAL = Format(
    name="natural-instructions",
    title=gettext_noop("Natural Instructions: a task with its instances, or one instance a row"),
    example={
        "Definition": ["Say how hot it is."],
        "Instances": [{"id": "task-1", "input": "The sun", "output": ["5,500 °C.", "Very hot."]}],
    },
    has=lambda row: "Instances" in row or {"definition", "inputs", "targets"} <= row.keys(),
    read=_natural,
    joins=True,
)

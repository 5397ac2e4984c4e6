"""In which words two answers differ, for answers that are nearly equal: elsewhere everything would be marked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher

from labeling.queue.assignment import Task

ALIKE = 0.8  # share of common words from which on showing the difference helps
SHORTEST = 15  # words and spaces; of shorter ones everything is seen at a glance
LONGEST = 3000  # words; comparing takes time by their product

Words = list[tuple[str, bool]]
"""Pieces of a text in order; True: only this answer has them."""


def single_texts(task: Task) -> tuple[str, str] | None:
    """The two texts of a comparison of two single answers."""
    first, *others = [[message["content"] for message in completion.messages] for completion in task.completions]
    return (first[0], others[0][0]) if len(others) == 1 and len(first) == len(others[0]) == 1 else None


def are_alike(one: str, other: str) -> bool:
    """Whether they have most words in common, wherever. Equal texts differ in nothing."""
    first, second = Counter(_tokens(one)), Counter(_tokens(other))
    size = first.total() + second.total()
    return one != other and 2 * SHORTEST <= size <= 2 * LONGEST and 2 * (first & second).total() >= ALIKE * size


def word_diff(one: str, other: str) -> tuple[Words, Words]:
    first, second = _tokens(one), _tokens(other)
    left: Words = []
    right: Words = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        left += _piece(first[i1:i2], kind != "equal")
        right += _piece(second[j1:j2], kind != "equal")
    return left, right


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", text)


def _piece(tokens: Iterable[str], own: bool) -> Words:
    text = "".join(tokens)
    return [(text, own)] if text else []

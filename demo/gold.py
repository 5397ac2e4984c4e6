"""Gold: the hidden utility of a reply. It judges, it never trains.

Simulated labelers feel it (with noise) when they compare, and the report at the end uses it to say what really changed.
Nothing that trains may import this module; `tests/demo/test_gold.py` walks every import to make sure.
Everything is read off the visible text, as a person would: the prompt is matched to the phrases of the world, the reply
is cut into sentences and each sentence is recognised or counts as junk.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from functools import cache

import numpy as np

from demo import world


class NotUnderstood(ValueError):
    """The prompt is not one of this world's, so there is nothing to judge a reply by."""


@dataclass(frozen=True)
class Criteria:
    """What is seen in one reply, or (as weights) what each of these sights is worth."""

    right_item: float
    wrong_item: float
    right_action: float
    wrong_action: float
    courteous: float
    extra_courtesies: float
    rude: float
    filler: float
    junk: float
    words_too_many: float
    cut_off: float


WEIGHTS = Criteria(
    right_item=2.0,
    wrong_item=-2.0,
    right_action=3.0,
    wrong_action=-2.0,
    courteous=1.5,
    extra_courtesies=-1.0,
    rude=-2.5,
    filler=-1.2,
    junk=-1.5,
    words_too_many=-0.1,
    cut_off=-1.5,
)
ENOUGH_WORDS = 22


def understand(prompt: str) -> world.Question:
    """What a prompt asks. Raises NotUnderstood for text from outside this world."""
    lowered = prompt.lower()
    items = set(re.findall(r"[a-z]+", lowered)) & set(world.ITEMS)
    for item in items:
        for complaint, problem in _complaints():
            if complaint.format(item=item).lower() in lowered:
                return world.Question(prompt, item, problem)
    raise NotUnderstood(f"Not a question of the support desk: {prompt!r}")


def criteria(prompt: str, reply: str) -> Criteria:
    """What a judge sees in `reply`."""
    question = understand(prompt)
    kinds = [_kind(sentence) for sentence in re.findall(r"[^.!?]+[.!?]?", reply) if sentence.strip()]
    items = _items(reply)
    actions = {kind.removeprefix("action ") for kind in kinds if kind.startswith("action ")}
    courtesies = kinds.count("courtesy")
    return Criteria(
        right_item=items == {question.item},
        wrong_item=bool(items - {question.item}),
        right_action=actions == {question.problem},
        wrong_action=bool(actions - {question.problem}),
        courteous=courtesies > 0,
        extra_courtesies=max(courtesies - 1, 0),
        rude=kinds.count("rude"),
        filler=kinds.count("filler"),
        junk=kinds.count("junk") + (not kinds),
        words_too_many=max(len(reply.split()) - ENOUGH_WORDS, 0),
        cut_off=not reply.rstrip().endswith((".", "!", "?")),
    )


def is_correct(prompt: str, reply: str) -> bool:
    """Whether the reply names this item and no other, and promises the fitting action and no other."""
    seen = criteria(prompt, reply)
    return bool(seen.right_item and seen.right_action)


def utility(prompt: str, reply: str) -> float:
    """The gold utility."""
    return float(np.dot(astuple(criteria(prompt, reply)), astuple(WEIGHTS)))


def _kind(sentence: str) -> str:
    """The kind of a sentence: courtesy, rude, refusal, filler, "action <problem>" or junk."""
    sentence = sentence.strip()
    pattern = sentence
    for item in _items(sentence):
        pattern = re.sub(rf"\b{item}\b", "{item}", pattern)
    return _kinds().get(pattern, "junk")


def _items(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower())) & set(world.ITEMS)


@cache
def _kinds() -> dict[str, str]:
    kinds = {action: f"action {problem.name}" for problem in world.PROBLEMS for action in problem.actions}
    for kind, sentences in (
        ("courtesy", world.COURTESIES),
        ("rude", world.RUDENESS),
        ("refusal", world.REFUSALS),
        ("filler", world.FILLERS),
    ):
        kinds.update(dict.fromkeys(sentences, kind))
    return kinds


@cache
def _complaints() -> tuple[tuple[str, str], ...]:
    """Longest first, so that a phrase inside another phrase is never taken for it."""
    pairs = [(complaint, problem.name) for problem in world.PROBLEMS for complaint in problem.complaints]
    return tuple(sorted(pairs, key=lambda pair: -len(pair[0])))

"""A small world with a planted preference: the answer with more z in it is better, equally many are a tie."""

from __future__ import annotations

import random
from typing import Any


def planted_rows(prompts: int, k: int, seed: int, *, shuffled: bool = False, people: int = 1) -> list[dict[str, Any]]:
    """Rankings of `k` random answers to each of `prompts` questions; `shuffled` gives the ranks to random answers."""
    generator = random.Random(seed)
    rows = []
    for number in range(prompts):
        answers = ["".join(generator.choice("abcdefz") for _ in range(generator.randint(4, 8))) for _ in range(k)]
        names = list(range(k))
        if shuffled:
            generator.shuffle(names)
        tiers: dict[int, list[int]] = {}
        for index, text in enumerate(answers):
            tiers.setdefault(-text.count("z"), []).append(names[index])
        rows += [
            {
                "item": str(number),
                "messages": [{"role": "user", "content": f"q{number}"}],
                "completions": [[{"role": "assistant", "content": text}] for text in answers],
                "tiers": [tiers[key] for key in sorted(tiers)],
                "labeler": f"person {person}",
                "weight": 1.0,
            }
            for person in range(people)
        ]
    return rows


def planted_talks(pairs: int, seed: int) -> list[dict[str, Any]]:
    """Pairs of whole conversations of two to four answers; the one with more z in its answers is better."""
    generator = random.Random(seed)
    rows: list[dict[str, Any]] = []
    while len(rows) < pairs:
        talks = [
            [
                {"role": role, "content": _letters(generator, among)}
                for _ in range(generator.randint(2, 4))
                for role, among in (("user", "1234"), ("assistant", "abcz"))
            ]
            for _ in range(2)
        ]
        points = [sum(message["content"].count("z") for message in talk) for talk in talks]
        if points[0] != points[1]:
            better = int(points[1] > points[0])
            about = {"item": str(len(rows)), "messages": [], "labeler": "ann", "weight": 1.0}
            rows.append(about | {"completions": talks, "tiers": [[better], [1 - better]]})
    return rows


def _letters(generator: random.Random, among: str) -> str:
    return "".join(generator.choice(among) for _ in range(4))

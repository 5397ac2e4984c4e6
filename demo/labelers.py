"""Simulated labelers: people with taste, noise and faults, as pure functions of a seed.

Every labeler has a temperature, a rate of random answers, a tie threshold, a position bias, a reliability sign, a love
of style, own offsets from the common taste, fatigue, a speed and a skip rate. Pairs follow
    z = sign (u1 - u2) / T + bias + Logistic(0, 1);  first if z > tau, second if z < -tau, else a tie
and k completions the same law through the Gumbel trick: sort u / T + Gumbel, which is exactly Plackett-Luce (and the
law of pairs at k = 2, as the difference of two Gumbels is logistic), then tie neighbours closer than tau.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from demo import gold

Tiers = list[list[int]]


@dataclass(frozen=True)
class Labeler:
    """One simulated person."""

    name: str
    kind: str = "good"
    temperature: float = 0.75
    random_rate: float = 0.03
    tie_threshold: float = 0.1
    position_bias: float = 0.0
    """Logits towards the completion shown first."""
    sign: int = 1
    """+1 honest, -1 adversarial."""
    style: float = 0.0
    """Extra utility per courtesy, and a twentieth of it per word."""
    offsets: tuple[float, ...] = ()
    """Own deviation from each gold weight; empty for none."""
    fatigue: float = 0.05
    """Growth of the random answer rate per hour at work."""
    seconds: float = 12.0
    """Median seconds per answer; the spread is log-normal with sigma 0.5."""
    skip_rate: float = 0.01


def population(seed: int, prefix: str = "annotator") -> tuple[Labeler, ...]:
    """Twenty people, named by `prefix` and a number.

    10 good, 3 vague, 2 position-biased, 2 spammers, 1 adversary, 2 style-lovers.
    """
    rng = np.random.default_rng([seed, 19])
    kinds = (
        [{"kind": "good"}] * 10
        + [{"kind": "vague", "tie_threshold": 1.0}] * 3
        + [{"kind": "position-biased", "position_bias": 0.8}] * 2
        + [{"kind": "spammer", "random_rate": 1.0, "seconds": 3.0}] * 2
        + [{"kind": "adversary", "sign": -1}]
        + [{"kind": "style-lover", "style": 0.5}] * 2
    )
    return tuple(_person(rng, f"{prefix}{number:02d}", traits) for number, traits in enumerate(kinds, start=1))


def _person(rng: np.random.Generator, name: str, traits: dict) -> Labeler:
    person = Labeler(
        name=name,
        temperature=float(rng.uniform(0.5, 1.0)),
        offsets=tuple(float(offset) for offset in rng.normal(0.0, 0.1, len(astuple(gold.WEIGHTS)))),
        seconds=float(rng.uniform(8.0, 16.0)),
    )
    return replace(person, **traits)


def utilities(labeler: Labeler, prompt: str, replies: Sequence[str]) -> np.ndarray:
    """What each reply is worth to this person, shape (replies,)."""
    seen = [gold.criteria(prompt, reply) for reply in replies]
    weights = np.array(astuple(gold.WEIGHTS)) + (np.array(labeler.offsets) if labeler.offsets else 0.0)
    courtesies = np.array([one.courteous + one.extra_courtesies for one in seen])
    words = np.array([len(reply.split()) for reply in replies])
    return np.array([astuple(one) for one in seen]) @ weights + labeler.style * (courtesies + words / 20)


def rank(labeler: Labeler, worth: np.ndarray, rng: np.random.Generator, *, hours: float = 0.0) -> Tiers:
    """Tiers of indices into `worth` (utilities in the order shown), best first; ties share a tier."""
    count = len(worth)
    if rng.random() < labeler.random_rate + labeler.fatigue * hours:
        order, tied = rng.permutation(count), rng.random(count - 1) < 1 / 3
    else:
        towards_first = labeler.position_bias * np.linspace(1.0, 0.0, count)
        felt = labeler.sign * worth / labeler.temperature + towards_first + rng.gumbel(size=count)
        order = np.argsort(-felt)
        tied = -np.diff(felt[order]) <= labeler.tie_threshold
    tiers: Tiers = [[int(order[0])]]
    for index, same in zip(order[1:], tied, strict=True):
        if same:
            tiers[-1].append(int(index))
        else:
            tiers.append([int(index)])
    return tiers


def skips(labeler: Labeler, rng: np.random.Generator) -> bool:
    """Whether this person skips the task in front of them."""
    return bool(rng.random() < labeler.skip_rate)


def active_seconds(labeler: Labeler, rng: np.random.Generator) -> float:
    """How long the answer takes."""
    return float(labeler.seconds * rng.lognormal(0.0, 0.5))


def shuffled(tiers: Tiers, rng: np.random.Generator) -> Tiers:
    """The same tier sizes with the completions dealt at random: the control that carries no preference."""
    dealt = iter(rng.permutation([index for tier in tiers for index in tier]))
    return [[int(next(dealt)) for _ in tier] for tier in tiers]

"""Signs that a policy games its reward model instead of getting better (Gao et al. 2022, Lehman et al. 2018).

The score cannot tell: it is what rises. What can be known is how much the reward model has been shown to know, and
how far the policy has gone from the answers it was shown. With a the lower bound of its held-out accuracy and n the
prompts it learned from, a policy may go

    KL budget = min(60 (1 - H(a)), n / 40)   nats, H the entropy of a coin that shows heads with probability a

before it is said. The two numbers come from runs whose true reward was known (`benchmarks/over_optimisation.py`):
learned from 36 and 95 prompts, without a KL penalty, it had fallen by 1.0 beyond 2 to 3 nats; from 400 prompts and with
the penalty it rose all the way, at up to 7 nats. They fit that an accuracy of 0.63 did not cover 50 nats (Huang 2024).
Other signs need no reward model: answers that became three times as long or short, or repeat themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from .artifacts import read_card
from .episodes import Episodes

BITS, PROMPTS_PER_NAT = 60.0, 40.0
LENGTHS, REPEATS = 3.0, 0.5


def kl_budget(metrics: Mapping[str, float]) -> float:
    """In nats, for a reward model with these final metrics; infinite where they say nothing."""
    accuracy, prompts = metrics.get("eval/accuracy_low"), metrics.get("train_prompts")
    if accuracy is None or prompts is None:
        return math.inf
    a = min(max(accuracy, 0.5), 1 - 1e-9)
    entropy = -(a * math.log2(a) + (1 - a) * math.log2(1 - a))
    return min(BITS * (1 - entropy), prompts / PROMPTS_PER_NAT)


def budget_of(reward_folder: str) -> float:
    """The budget of a saved reward model; infinite for one made elsewhere, and where there is none."""
    return kl_budget(read_card(Path(reward_folder)).get("metrics", {})) if reward_folder else math.inf


def distinct_pairs(episodes: Episodes) -> float:
    """Mean share of different pairs of neighbouring tokens in an answer; 1 where nothing is repeated."""
    shares = []
    for completion in episodes.completions:
        pairs = list(zip(completion.ids, completion.ids[1:], strict=False))
        shares.append(len(set(pairs)) / len(pairs) if pairs else 1.0)
    return float(torch.tensor(shares).mean())


class Watch:
    """Compares each iteration with the first; every sign is said once."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.first: dict[str, float] = {}
        self.said: list[str] = []

    def look(self, metrics: Mapping[str, float]) -> list[str]:
        """Sentences about signs that are new. Needs objective/kl, objective/length and objective/distinct."""
        names = ("objective/length", "objective/distinct")
        self.first = self.first or {name: metrics[name] for name in names}
        kl, length, distinct = metrics["objective/kl"], *(metrics[name] for name in names)
        signs = {
            "kl": (
                kl > self.budget,
                f"The KL is {kl:.1f} nats, and what the reward model has shown to know covers {self.budget:.1f}: from "
                "here on scores may rise while answers get worse. Look at the samples, have people compare them, and "
                "use more rankings or a larger KL coefficient.",
            ),
            "length": (
                not 1 / LENGTHS <= length / max(self.first["objective/length"], 1e-9) <= LENGTHS,
                f"Answers went from {self.first['objective/length']:.0f} to {length:.0f} tokens: the reward model may "
                "be paying for length.",
            ),
            "repeats": (
                distinct < REPEATS * self.first["objective/distinct"],
                "Answers repeat themselves much more than at the start: the reward model may be paying for phrases.",
            ),
        }
        new = [name for name, (there, _) in signs.items() if there and name not in self.said]
        self.said += new
        return [signs[name][1] for name in new]

    def state(self) -> dict[str, object]:
        return {"first": dict(self.first), "said": list(self.said)}

    def load_state(self, state: dict[str, object]) -> None:
        self.first, self.said = dict(state["first"]), list(state["said"])  # type: ignore[call-overload]

"""What a reward model does on held-out comparisons, for people to read: calibration, slices, ceiling, surprises.

Everything is counted in pairs of completions that one person ranked apart. Accuracies weigh each prompt the same, as
everywhere (see `evaluate.pair_accuracy`), and their intervals are clustered by prompt. No torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rewardmodel.data import Item
from rewardmodel.stats.calibration import calibration
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import clustered_share
from rewardmodel.stats.pairs import preferences_of

SURPRISES = 8
LABELERS = 100  # people who are listed, those with the most pairs
SOURCES = 8  # pairs of sources with a row of their own; the others share one
EQUAL_LENGTH = 1.1  # lengths at most this far apart count as equal
SHOWN_CHARACTERS = 1200


@dataclass(frozen=True)
class Pair:
    """One person preferred completion `chosen` of `item` to `rejected`; the model's scores differ by `gap`."""

    item: Item
    labeler: str
    chosen: int
    rejected: int
    gap: float
    """Raw score of the chosen one less that of the rejected one: the logit of what the person said."""
    weight: float

    @property
    def probability(self) -> float:
        """That the model gave to what the person said."""
        return 1 / (1 + math.exp(-max(self.gap, -700.0)))

    @property
    def right(self) -> float:
        return float(self.gap > 0) + float(self.gap == 0) / 2


def held_out_report(
    items: Sequence[Item], scores: Sequence[Sequence[float]], reliability: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """The whole report as plain values. `scores[i]` are the raw scores of the completions of `items[i]`.

    {"pairs", "accuracy", "calibration", "slices": [{"title", "name", "pairs", "accuracy"}], "people", "length",
    "surprises"}; empty when nobody ranked anything apart. An accuracy is {"value", "low", "high", "count", "reason"}.
    `reliability` is what training learned of people.
    """
    pairs = list(pairs_of(items, scores))
    if not pairs:
        return {}
    fitted = calibration([p.gap for p in pairs], np.ones(len(pairs)), [p.weight for p in pairs])
    return {
        "pairs": len(pairs),
        "accuracy": dataclasses.asdict(accuracy(pairs)),
        "calibration": dataclasses.asdict(fitted),
        "slices": slices(pairs),
        "people": people(pairs, reliability or {}),
        "length": length_bias(pairs),
        "surprises": [surprise(pair) for pair in sorted(pairs, key=lambda p: p.gap)[:SURPRISES] if pair.gap < 0],
    }


def pairs_of(items: Sequence[Item], scores: Sequence[Sequence[float]]) -> Iterable[Pair]:
    """Every pair that somebody ranked apart. A ranking weighs 1 (times its own weight) whatever its K."""
    for item, values in zip(items, scores, strict=True):
        for label in item.labels:
            for chosen, rejected, mu, weight in preferences_of(label.tiers):
                if mu != 0.5:
                    gap = values[chosen] - values[rejected]
                    yield Pair(item, label.labeler, chosen, rejected, gap, weight * label.weight)


def accuracy(pairs: Sequence[Pair]) -> Estimate:
    """Share of pairs that the scores order as the person did."""
    of_prompt = defaultdict(list)
    for pair in pairs:
        of_prompt[pair.item.prompt].append(pair)
    shares = [np.average([p.right for p in some], weights=[p.weight for p in some]) for some in of_prompt.values()]
    return clustered_share([float(share) for share in shares], [len(some) for some in of_prompt.values()])


def slices(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Accuracy where the model is more or less sure, where people agree or do not, and where lengths cannot help."""
    quarters = np.quantile([abs(p.gap) for p in pairs], [0.25, 0.5, 0.75])
    names = ("least sure quarter", "second quarter", "third quarter", "surest quarter")
    agreement = _votes(pairs)

    def quarter(pair: Pair) -> str:
        return names[int(np.searchsorted(quarters, abs(pair.gap)))]

    def opinion(pair: Pair) -> str | None:
        votes = agreement[_compared(pair)]
        if sum(votes) < 2:
            return None
        return "people agree" if min(votes) == 0 else "people differ"

    def length(pair: Pair) -> str:
        chosen, rejected = _lengths(pair)
        if max(chosen, rejected) <= EQUAL_LENGTH * min(chosen, rejected):
            return "about equal"
        return "longer one preferred" if chosen > rejected else "shorter one preferred"

    return [
        *_sliced("How far apart the scores are", pairs, quarter, names),
        *_sliced("Answers that several people compared", pairs, opinion, ("people agree", "people differ")),
        *_sliced("Length", pairs, length, ("about equal", "longer one preferred", "shorter one preferred")),
        *_of_sources(pairs),
    ]


def _of_sources(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Accuracy where answers of two sources were compared, for the most frequent ones; those unknown are left out."""

    def compared(pair: Pair) -> str | None:
        chosen, rejected = (pair.item.sources[k] if pair.item.sources else "" for k in (pair.chosen, pair.rejected))
        return " · ".join(sorted({chosen, rejected})) if chosen and rejected else None

    counts = Counter(name for pair in pairs if (name := compared(pair)))
    frequent = [name for name, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:SOURCES]]

    def row(pair: Pair) -> str | None:
        name = compared(pair)
        return name if name is None or name in frequent else "others"

    return _sliced("Sources compared", pairs, row, [*frequent, "others"])


def people(pairs: Sequence[Pair], reliability: Mapping[str, float]) -> dict[str, Any]:
    """How far people agree on the held-out pairs, the accuracy that this leaves room for, and what there is by person.

    Where two people agree with probability a, and each gives the common answer with the same probability q, then
    a = q^2 + (1 - q)^2: a model that always knows the common answer agrees with a person in q of all pairs.
    """
    agree = both = 0
    for first, second in _votes(pairs).values():
        agree += math.comb(first, 2) + math.comb(second, 2)
        both += math.comb(first + second, 2)
    share = agree / both if both else None
    answered = Counter(pair.labeler for pair in pairs)
    answered.update(dict.fromkeys(reliability, 0))  # who answered nothing that was held out
    labelers = sorted(name for name, _ in answered.most_common(LABELERS))
    found = {one["name"]: one for one in _sliced("", pairs, lambda pair: pair.labeler, labelers)}
    nothing = {"pairs": 0, "accuracy": dataclasses.asdict(Estimate.undefined("no pair was held out"))}
    return {
        "comparisons": both,
        "agreement": share,
        "ceiling": None if share is None else (1 + math.sqrt(max(2 * share - 1, 0.0))) / 2,
        "labelers": [
            {"name": name, **nothing, **found.get(name, {}), "reliability": reliability.get(name)} for name in labelers
        ],
        "labelers_left_out": len(answered) - len(labelers),
    }


def length_bias(pairs: Sequence[Pair]) -> dict[str, float | None]:
    """How often people, and how often the model, prefer the longer of two answers of different length."""
    uneven = [
        (pair, chosen > rejected) for pair in pairs for chosen, rejected in [_lengths(pair)] if chosen != rejected
    ]
    if not uneven:
        return {"people": None, "model": None}
    total = sum(pair.weight for pair, _ in uneven)
    model = sum(pair.weight * (pair.right if longer else 1 - pair.right) for pair, longer in uneven)
    return {"people": sum(pair.weight for pair, longer in uneven if longer) / total, "model": model / total}


def surprise(pair: Pair) -> dict[str, Any]:
    """A pair with its texts, cut to what one reads at a glance."""
    item = pair.item
    return {
        "item": item.id,
        "labeler": pair.labeler,
        "probability": pair.probability,
        "prompt": shown_text(item.messages[-1:]),
        "chosen": shown_text(item.completions[pair.chosen]),
        "rejected": shown_text(item.completions[pair.rejected]),
    }


def _sliced(
    title: str, pairs: Sequence[Pair], name_of: Callable[[Pair], str | None], names: Sequence[str]
) -> list[dict[str, Any]]:
    members = defaultdict(list)
    for pair in pairs:
        members[name_of(pair)].append(pair)
    return [
        {
            "title": title,
            "name": name,
            "pairs": len(members[name]),
            "accuracy": dataclasses.asdict(accuracy(members[name])),
        }
        for name in names
        if members[name]
    ]


def _votes(pairs: Sequence[Pair]) -> dict[tuple[str, int, int], tuple[int, int]]:
    """(item, i, j) with i < j: how many people preferred i, and how many j."""
    votes: dict[tuple[str, int, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for pair in pairs:
        key = _compared(pair)
        first, second = votes[key]
        votes[key] = (first + (pair.chosen == key[1]), second + (pair.chosen == key[2]))
    return votes


def _compared(pair: Pair) -> tuple[str, int, int]:
    return pair.item.id, min(pair.chosen, pair.rejected), max(pair.chosen, pair.rejected)


def _lengths(pair: Pair) -> tuple[int, int]:
    chosen, rejected = (pair.item.completions[k] for k in (pair.chosen, pair.rejected))
    return sum(len(m["content"]) for m in chosen), sum(len(m["content"]) for m in rejected)


def shown_text(messages: Sequence[Any], most: int = SHOWN_CHARACTERS) -> str:
    """What the messages say, cut to so many characters."""
    text = "\n\n".join(message["content"] for message in messages)
    return text if len(text) <= most else text[:most] + " …"

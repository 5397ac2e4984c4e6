"""What each item is expected to teach about whose completions are better. Pure: no database.

An item shows completions of some sources; the strengths that `duels` ranks sources by say how little is known about
each two of them. The gain of an item is the mean information gain over its pairs: a ranking of K weighs as much as
K - 1 answers and takes as long as K - 1 answers, so its mean is what an answer's worth of work brings. (The sum would
prefer long rankings for being long.)

Many items show the same sources, and after the first of them the second teaches less. With v the variance of a
difference of strengths and p the expected share, each further answer leaves v / (1 + v p (1 - p)) of it (Laplace), and
its information is log(1 + v p (1 - p)) / 2. So the gain of the j-th item with the same sources is discounted, or a
whole batch would ask one question.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from labeling.quality.answers import Answers
from labeling.quality.duels import Sources, outcomes
from rewardmodel.stats import active, bradley_terry
from rewardmodel.stats.strengths import FALLBACK_PENALTY

MOST = 200  # sources that are told apart, the commonest; nothing is expected of the others

Gains = NDArray[np.float64]


def gains_by_sources(answers: Answers, sources: Sources, candidates: Sequence[Sequence[str]]) -> Gains:
    """The gain of each candidate, given as the sources of its completions, "" where unknown.

    All zero while nobody has compared two sources. Of candidates that show the same sources, earlier ones gain more.
    """
    gains = np.zeros(len(candidates))
    shows = chain(candidates, (of_item.values() for of_item in sources.values()))
    commonest = Counter(source for shown in shows for source in set(shown) if source).most_common(MOST)
    number = {source: place for place, (source, _) in enumerate(commonest)}
    rows = [
        (number[first], number[second], score, 2 / max(sum(map(len, tiers)), 2))
        for item, tiers in zip(answers.items, answers.tiers, strict=True)
        for (first, second), score in outcomes(tiers, sources.get(item, {}))
        if first in number and second in number
    ]
    if not rows:
        return gains
    table = np.array(rows)
    # The prior is there however much is known: a source that was never compared must have a finite variance.
    fit = bradley_terry.fit(table[:, :3], items=len(number), weights=table[:, 3], penalty=FALLBACK_PENALTY)
    pairs = np.array(list(combinations(range(len(number)), 2)))
    gap = fit.strengths[pairs[:, 0]] - fit.strengths[pairs[:, 1]]
    taught = active.posterior_variance(fit, pairs) * expit(gap) * expit(-gap)
    known = dict(zip(map(tuple, pairs), np.stack([active.information_gain(fit, pairs), taught], axis=1), strict=True))

    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, shown in enumerate(candidates):
        alike[tuple(sorted(shown))].append(place)
    for shown, places in alike.items():
        numbers = sorted(number[source] for source in shown if source in number)
        different = [known[pair] for pair in combinations(numbers, 2) if pair[0] != pair[1]]
        if different:
            first, taught = np.array(different).T
            gains[places] = discount(2 / len(shown) * taught, len(places)) @ first / comb(len(shown), 2)
    return gains


def discount(taught: Gains, count: int) -> Gains:
    """Which share of its first gain a pair has the first, second, ... time it is asked about: (count, pairs).

    `taught` is v p (1 - p) of each pair.
    """
    taught = np.maximum(taught, 1e-12)  # of a pair whose answer is as good as certain it vanishes
    before = np.log1p(np.arange(count + 1)[:, None] * taught)
    return np.diff(before, axis=0) / np.log1p(taught)

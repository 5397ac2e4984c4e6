"""What an item is expected to teach, by the sources of its completions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.special import expit

from labeling.quality.answers import Answers
from labeling.queue import gains
from labeling.queue.gains import discount, gains_by_sources
from rewardmodel.stats import active, bradley_terry


def answers_between(*duels: tuple[str, str, int]) -> tuple[Answers, dict[int, dict[int, str]]]:
    """So many answers in which the first source won; every item is answered once."""
    rows = [(first, second) for first, second, times in duels for _ in range(times)]
    items = list(range(len(rows)))
    columns = ([1] * len(rows), [[[0], [1]]] * len(rows), [[0, 1]] * len(rows))
    return Answers(items, *columns, Counter(), partial=False), {n: {0: a, 1: b} for n, (a, b) in enumerate(rows)}


def test_what_is_open_gains_more_than_what_is_settled() -> None:
    """a and b are close, c is far behind both, d was never compared."""
    settled = [("a", "c", 38), ("c", "a", 2), ("b", "c", 38), ("c", "b", 2)]
    known = answers_between(("a", "b", 10), ("b", "a", 10), *settled)
    close, far, new = gains_by_sources(*known, [["a", "b"], ["c", "a"], ["d", "a"]])
    assert new > close > far > 0


def test_nothing_is_gained_from_one_source_or_unknown_ones() -> None:
    known = answers_between(("a", "b", 3), ("b", "a", 3))
    same, unknown, both = gains_by_sources(*known, [["a", "a"], ["a", ""], ["a", "b"]])
    assert (same, unknown) == (0, 0) and both > 0
    assert not gains_by_sources(*answers_between(("a", "a", 5)), [["a", "b"]]).any()
    assert not gains_by_sources(*answers_between(), [["a", "b"]]).any()
    assert len(gains_by_sources(*known, [])) == 0


def test_a_long_ranking_gains_the_mean_of_its_pairs() -> None:
    known = answers_between(("a", "b", 5), ("b", "a", 5), ("a", "c", 9), ("c", "b", 1), ("b", "c", 4))
    *pairs, three = gains_by_sources(*known, [["a", "b"], ["a", "c"], ["b", "c"], ["c", "a", "b"]])
    assert three == pytest.approx(np.mean(pairs))
    # Pairs of the same source, or of unknown ones, are looked at as well, and teach nothing.
    [doubled] = gains_by_sources(*known, [["a", "a", "b"]])
    assert doubled == pytest.approx(2 / 3 * pairs[0])
    # Of a ranking of three, each pair weighs 2/3 of an answer, so it takes that much less from the next.
    known_pairs = [["a", "b"], ["a", "c"], ["b", "c"]]
    seconds = gains_by_sources(*known, [*known_pairs, *known_pairs])[3:]
    assert np.mean(seconds) < gains_by_sources(*known, [["a", "b", "c"]] * 2)[1] < three


def test_the_same_question_gains_less_each_time_and_much_less_where_little_is_known() -> None:
    little = gains_by_sources(*answers_between(("a", "b", 1), ("b", "a", 1)), [["a", "b"], ["b", "a"]] * 5)
    much = gains_by_sources(*answers_between(("a", "b", 500), ("b", "a", 500)), [["a", "b"]] * 10)
    assert (np.diff(little) < 0).all() and (np.diff(much) < 0).all()
    assert little[-1] / little[0] < 0.5 < 0.98 < much[-1] / much[0]


def test_the_discount_is_what_further_answers_leave_of_the_variance() -> None:
    variance, share = 0.8, 0.3 * 0.7
    left = variance / (1 + np.arange(4) * variance * share)
    information = np.log1p(left * share)
    assert discount(np.array([variance * share]), 4)[:, 0] == pytest.approx(information / information[0])
    assert discount(np.array([0.0]), 3)[:, 0] == pytest.approx([1, 1, 1], rel=1e-3)


def test_a_batch_asks_more_than_one_question() -> None:
    """Ten sources, little known: the best fifty of a thousand items are about many pairs, not all about one."""
    known = answers_between(*((f"s{n}", f"s{n + 1}", 1) for n in range(9)))
    random = np.random.default_rng(0)
    candidates = [[f"s{n}" for n in random.choice(10, 2, replace=False)] for _ in range(1000)]
    best = np.argsort(-gains_by_sources(*known, candidates))[:50]
    assert len({tuple(sorted(candidates[place])) for place in best}) > 20


def ask(seed: int, *, steered: bool, sources: int = 8, total: int = 240) -> list[float]:
    """After each ten answers, the share of pairs of sources in the right order; three items for each that is asked."""
    truth = np.random.default_rng(seed).normal(size=sources)
    random = np.random.default_rng(1000 + seed)
    pairs = np.stack(np.triu_indices(sources, 1), axis=1)
    left, curve = list(pairs[random.integers(len(pairs), size=3 * total)]), []
    rows: list[tuple[int, int, float]] = []
    tiers: list[list[list[int]]] = []
    shown: dict[int, dict[int, str]] = {}
    while len(tiers) < total:
        chosen = list(range(10))
        if steered and tiers:
            count = len(tiers)
            answers = Answers(list(range(count)), [1] * count, tiers, [[0, 1]] * count, Counter(), partial=False)
            expected = gains_by_sources(answers, shown, [[f"s{a}", f"s{b}"] for a, b in left])
            chosen = active.choose(expected, 10, explore=0.1, random=random).index.tolist()
        for place in sorted(chosen, reverse=True):
            first, second = left.pop(place)
            won = random.random() < expit(truth[first] - truth[second])
            shown[len(tiers)] = {0: f"s{first}", 1: f"s{second}"}
            tiers.append([[0], [1]] if won else [[1], [0]])
            rows.append((first, second, float(won)))
        found = bradley_terry.fit(np.array(rows), items=sources, penalty=1.0).strengths
        gap, true_gap = (values[pairs[:, 0]] - values[pairs[:, 1]] for values in (found, truth))
        curve.append(float(np.mean(gap * true_gap > 0)))
    return curve


def test_asking_what_teaches_most_orders_sources_with_fewer_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty seeds. Measured: 1.8 points more right than in random order; without the discount 0.4 points less."""
    at_random = np.mean([ask(seed, steered=False) for seed in range(20)], axis=0)
    steered = np.mean([ask(seed, steered=True) for seed in range(20)], axis=0)
    assert (steered - at_random).mean() > 0.008
    assert steered[-1] > at_random[-1]
    monkeypatch.setattr(gains, "discount", lambda taught, count: np.ones((count, len(taught))))
    undiscounted = np.mean([ask(seed, steered=True) for seed in range(20)], axis=0)
    assert (steered - undiscounted).mean() > 0.008

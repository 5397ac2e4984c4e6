"""Reliabilities where few people judge the same thing, against people whose faults are known."""

from __future__ import annotations

import numpy as np
import pytest

from rewardmodel.stats import annotators, reliability
from rewardmodel.stats.comparisons import Comparisons
from rewardmodel.stats.errors import InvalidComparison, OneAnnotator
from rewardmodel.stats.pairs import judgements_of


def world(
    *,
    items: int,
    overlap: int,
    reliable: list[float],
    size: int = 2,
    tie: float = 0.0,
    bias: float = 0.0,
    seed: int = 0,
) -> tuple[list[int], list[list[list[int]]], list[list[int]]]:
    """Who ranked what, as tiers, and what was shown. Ties and biases are for pairs."""
    random = np.random.default_rng(seed)
    people, rankings, shown = [], [], []
    for item in range(items):
        strengths = random.normal(scale=1.5, size=size)
        for person in random.choice(len(reliable), overlap, replace=False):
            order = random.permutation(size)
            sign = 1 if random.random() < reliable[person] else -1
            if size == 2:
                gap = sign * (strengths[order[0]] - strengths[order[1]]) + bias + random.logistic()
                tiers = [list(order)] if abs(gap) < tie else [[order[0]], [order[1]]][:: 1 if gap > 0 else -1]
            else:
                tiers = [[place] for place in np.argsort(-(sign * strengths + random.gumbel(size=size)))]
            people.append(int(person))
            rankings.append([[int(item * size + place) for place in tier] for tier in tiers])
            shown.append([int(item * size + place) for place in order])
    return people, rankings, shown


def fitted(**planted: object) -> reliability.Reliabilities:
    people, rankings, shown = world(**planted)  # type: ignore[arg-type]
    rows = judgements_of(rankings, shown)
    return reliability.fit(np.array(people)[rows.ranking], rows.table, weights=2 / rows.size)


def test_the_gradient_is_that_of_the_loss() -> None:
    people, rankings, shown = world(items=30, overlap=3, reliable=[0.5, 0.8, 1, 1], tie=0.4)
    rows = judgements_of(rankings, shown)
    problem = reliability._Problem.of(np.array(people)[rows.ranking], Comparisons.of(rows.table), True)
    point = problem.start() + np.random.default_rng(0).normal(scale=0.3, size=13)
    _, gradient = problem.loss(point)
    steps = 1e-5 * np.eye(len(point))
    numeric = [(problem.loss(point + step)[0] - problem.loss(point - step)[0]) / 2e-5 for step in steps]
    assert gradient == pytest.approx(np.array(numeric), abs=1e-8)
    assert np.abs(gradient).min() > 1e-5


def test_who_guesses_is_found_with_two_answers_per_pair_where_fitted_strengths_hide_it() -> None:
    planted = {"items": 3000, "overlap": 2, "reliable": [0.5, 0.05, *[0.95] * 10]}
    fit = fitted(**planted)
    guess, adversary = fit.reliability_of(0), fit.reliability_of(1)
    assert guess.low is not None and guess.high is not None and guess.low < 0.5 < guess.high < 0.7
    assert adversary.high is not None and adversary.high < 0.35
    assert all(fit.reliability_of(person).low > 0.7 for person in range(2, 12))
    people, rankings, shown = world(**planted)  # type: ignore[arg-type]
    fooled = annotators.fit_rankings(people, rankings, shown=shown)
    assert fooled.reliability[0] > 0.9


def test_rankings_of_four_tell_the_same() -> None:
    fit = fitted(items=400, overlap=3, reliable=[0.5, *[0.97] * 7], size=4)
    assert fit.reliability[0] < 0.7 < fit.reliability[1:].min()
    assert fit.answers.sum() == pytest.approx(400 * 3 * 3)  # K - 1 answers each


def test_pulls_and_thresholds_are_recovered_and_intervals_cover() -> None:
    covered = {"reliability": 0, "bias": 0, "threshold": 0}
    reliable = [0.5, 0.6, *[0.9] * 6]
    for seed in range(20):
        fit = fitted(items=500, overlap=3, reliable=reliable, tie=0.5, bias=0.4, seed=seed)
        for person, share in enumerate(reliable):
            of = {
                "reliability": (fit.reliability_of(person), share),
                "bias": (fit.bias_of(person), 0.4),
                "threshold": (fit.threshold_of(person), 0.5),
            }
            for name, (estimate, truth) in of.items():
                assert estimate.low is not None and estimate.high is not None
                covered[name] += estimate.low <= truth <= estimate.high
    answers = 20 * len(reliable)
    assert all(0.85 <= count / answers <= 0.995 for count in covered.values()), covered


def test_intervals_tell_something_where_nearly_all_answers_are_meant() -> None:
    """The normal interval of the logit would be .75 wide for 60 answers, none of them reversed."""
    found = [
        fitted(items=300, overlap=2, reliable=[1.0, *[0.95] * 9], seed=seed).reliability_of(0) for seed in range(10)
    ]
    widths = [one.high - one.low for one in found if one.high is not None and one.low is not None]
    assert len(widths) == 10
    assert np.mean(widths) < 0.45
    assert sum(one.high is not None and one.high > 0.99 for one in found) >= 8


def test_without_ties_positions_or_overlap_nothing_breaks() -> None:
    rows = [(0, 1, 1), (2, 3, 0), (4, 5, 1)]
    fit = reliability.fit([0, 1, 1], rows, position_bias=False)
    assert np.isfinite(fit.covariance).all()
    assert fit.reliability == pytest.approx(reliability.UNKNOWN, abs=0.02)  # nothing was judged twice
    assert fit.bias.tolist() == [0, 0] and fit.threshold_of(0).value == pytest.approx(0, abs=1e-9)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(OneAnnotator):
        reliability.fit([0, 0], [(0, 1, 1), (0, 1, 0)])
    with pytest.raises(InvalidComparison, match=r"1 \(the first is better\)"):
        reliability.fit([0, 1], [(0, 1, 1), (0, 1, 0.7)])
    with pytest.raises(InvalidComparison, match="as many annotators"):
        reliability.fit([0], [(0, 1, 1), (0, 1, 0)])

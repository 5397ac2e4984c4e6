"""How far each annotator can be relied on, learned together with what is good (Crowd-BT, Chen et al. 2013).

An answer is meant as Bradley and Terry (with Rao and Kupper's ties) say with probability `reliability`, and the wrong
way round otherwise: 1 is somebody who always answers to the point, 0.5 is chance, below are adversaries. Each
annotator also has a pull towards what is shown first and a threshold below which differences go unnoticed.

Fitted by expectation-maximisation: how likely was each answer meant; then the best strengths, pulls and thresholds
given that. Weak priors keep those finite who answered little. Not modelled: that people mean different things by
better (see `pooling`), and that they tire.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from rewardmodel.stats import newton
from rewardmodel.stats.comparisons import Comparisons, Floats, Ints, totals
from rewardmodel.stats.errors import InvalidComparison, NotConverged
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import Z95
from rewardmodel.stats.pairs import judgements_of
from rewardmodel.stats.strengths import FALLBACK_PENALTY, Strengths, penalty_for, strongly_connected, with_interval
from rewardmodel.stats.tie_models import TIE_MODELS, Answers, Slopes, threshold_of

UNRELIABLE = 0.7  # below it, an annotator is worth a look
MEANT, REVERSED = 4.0, 0.25  # answers that everybody is taken to have given already: the prior of the reliability
BIAS_PRECISION = 1.0  # pulls of people have a prior deviation of 1 logit
TIE_PRECISION = 1.0  # their logits of tying deviate by 1 from everybody's mean
ALONE = "Reliability is judged against other people, and there is only one annotator."
NEVER = -40.0  # logit of tying when nobody ever did
MOST_SWEEPS = 2_000
CLOSE = 1e-8  # relative to the number of answers: the gain of a sweep that ends the search

_RAO_KUPPER = TIE_MODELS["rao-kupper"]


@dataclass(frozen=True, eq=False)
class AnnotatorFit:
    """Strengths of items, and per annotator the reliability, the pull of the first place and the tie threshold.

    Intervals of annotators take the strengths as known, and the other way round.
    """

    strengths: Strengths
    reliability: Floats
    bias: Floats
    threshold: Floats
    covariance: Floats
    """(annotators, 3, 3), of logit of reliability, bias, logit of tying."""
    answers: Floats
    """How much each annotator answered, by weight."""
    objective: Floats
    """Penalised log-likelihood after each sweep; it never falls."""

    def reliability_of(self, annotator: int) -> Estimate:
        """With its 95 % interval, which stays between 0 and 1."""
        value = float(self.reliability[annotator])
        error = float(np.sqrt(self.covariance[annotator, 0, 0]))
        centre = float(logit(value))
        low, high = expit([centre - Z95 * error, centre + Z95 * error])
        return Estimate(value, float(low), float(high), float(self.answers[annotator]))

    def bias_of(self, annotator: int) -> Estimate:
        """Pull towards what is shown first, in logits, with its 95 % interval."""
        return with_interval(float(self.bias[annotator]), float(np.sqrt(self.covariance[annotator, 1, 1])))

    def threshold_of(self, annotator: int) -> Estimate:
        """The smallest difference that is noticed, in logits, with its 95 % interval."""
        value = float(self.threshold[annotator])
        rate = -np.expm1(-2 * value) / 2  # of the threshold by the logit of tying
        return with_interval(value, float(rate * np.sqrt(self.covariance[annotator, 2, 2])))

    def unreliable(self) -> Ints:
        """Annotators whose reliability is below `UNRELIABLE`."""
        return np.flatnonzero(self.reliability < UNRELIABLE)


def fit(
    annotators: ArrayLike,
    comparisons: ArrayLike,
    *,
    items: int | None = None,
    weights: ArrayLike | None = None,
    position_bias: bool = True,
    penalty: float = FALLBACK_PENALTY,
) -> AnnotatorFit:
    """Annotator `annotators[r]` (numbered from 0) gave row r: (first, second, mu), `first` being shown first.

    `mu` is 1 if the first was better, 0 if the second, 0.5 for a tie. Without `position_bias`, which is written first
    means nothing. `penalty` is the precision of a normal prior on the strengths.
    """
    rows = _Rows.of(np.asarray(annotators), Comparisons.of(comparisons, items, weights), position_bias)
    connected = rows.strongly_connected()
    penalty = penalty_for(connected, penalty)
    state, objective = _start(rows), []
    for _ in range(MOST_SWEEPS):
        step = _expect(rows, state)
        objective.append(float(rows.weight @ step.log_share) + _log_prior(state, penalty, rows))
        if len(objective) > 1 and objective[-1] - objective[-2] < CLOSE * rows.weight.sum():
            break
        state = _improve_annotators(rows, state, step)
        state = _improve_strengths(rows, state, _expect(rows, state).meant, penalty)
    else:
        raise NotConverged("The reliabilities did not settle.")
    return _result(rows, state, step, connected, penalty, objective)


def fit_rankings(
    annotators: ArrayLike,
    rankings: Iterable[Sequence[Sequence[int]]],
    *,
    shown: Iterable[Sequence[int]] | None = None,
    items: int | None = None,
    penalty: float = FALLBACK_PENALTY,
) -> AnnotatorFit:
    """The same from rankings (tiers, best first), of which `shown` has the order on the screen, if it is known.

    A ranking of K items is taken as its C(K, 2) pairs of weight 2 / K each: K - 1 answers in all, as many as it takes
    to make it. For K = 2 this is `fit`.
    """
    rows = judgements_of(list(rankings), None if shown is None else list(shown))
    people = np.asarray(annotators)
    if len(people) != rows.rankings:
        raise InvalidComparison(f"{rows.rankings} rankings need {rows.rankings} annotators, not {len(people)}.")
    return fit(
        people[rows.ranking],
        rows.table,
        items=items,
        weights=2 / rows.size,
        position_bias=shown is not None,
        penalty=penalty,
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    annotator: Ints
    annotators: int
    first: Ints
    second: Ints
    items: int
    answers: Answers
    weight: Floats
    position_bias: bool

    @classmethod
    def of(cls, annotator: Ints, rows: Comparisons, position_bias: bool) -> _Rows:
        number = rows.people(annotator, ALONE)
        mu, weight = rows.shares(), rows.weights()
        if not np.isin(mu, (0.0, 0.5, 1.0)).all():
            raise InvalidComparison("Annotators' mu is 1 (the first is better), 0 (the second) or 0.5 (a tie).")
        answers = Answers(*(weight * (mu == answer) for answer in (1.0, 0.0, 0.5)))
        return cls(annotator, number, rows.first, rows.second, rows.items, answers, weight, position_bias)

    @property
    def tied(self) -> bool:
        return bool(self.answers.tie.any())

    def per_annotator(self, values: Floats) -> Floats:
        return totals(self.annotator, values, self.annotators)

    def per_item(self, values: Floats) -> Floats:
        return totals(self.first, values, self.items) - totals(self.second, values, self.items)

    def information(self, values: Floats, penalty: float) -> newton.Laplacian:
        return newton.Laplacian(self.first, self.second, values, self.items, penalty)

    def strongly_connected(self) -> bool:
        """Whether the answers, taken at their word, connect all items; a tie does so both ways."""
        forth, back = self.answers.first + self.answers.tie > 0, self.answers.second + self.answers.tie > 0
        winners = np.concatenate([self.first[forth], self.second[back]])
        losers = np.concatenate([self.second[forth], self.first[back]])
        return strongly_connected(winners, losers, self.items)


class _State(NamedTuple):
    strengths: Floats
    reliability: Floats
    bias: Floats
    tie: Floats
    """Logits of tying."""


class _Expectation(NamedTuple):
    """Per row: how likely it was meant, its log-probability, and the slopes if it was meant and if it was reversed."""

    meant: Floats
    log_share: Floats
    forth: Slopes
    back: Slopes


def _start(rows: _Rows) -> _State:
    people = np.ones(rows.annotators)
    share = float(rows.answers.tie.sum() / rows.weight.sum())
    tie = np.log(4 * share) - np.log1p(-min(share, 0.9)) if rows.tied else NEVER  # right for equal strengths, roughly
    return _State(np.zeros(rows.items), people * MEANT / (MEANT + REVERSED), 0 * people, tie * people)


def _expect(rows: _Rows, state: _State) -> _Expectation:
    gap = state.strengths[rows.first] - state.strengths[rows.second]
    bias, tie = state.bias[rows.annotator], state.tie[rows.annotator]
    reliable = logit(state.reliability)[rows.annotator]
    log_shares, slopes = [], []
    for seen in (gap + bias, bias - gap):
        shares = _RAO_KUPPER.log_shares(seen, tie)
        log_shares.append(np.choose(_answer(rows), shares))
        slopes.append(_RAO_KUPPER.slopes(seen, tie, rows.answers))
    meant = expit(reliable + log_shares[0] - log_shares[1])
    both = np.logaddexp(reliable + log_shares[0], log_shares[1]) - np.logaddexp(reliable, 0)
    return _Expectation(meant, both, *slopes)


def _answer(rows: _Rows) -> Ints:
    return np.where(rows.answers.tie > 0, 2, np.where(rows.answers.second > 0, 1, 0))


def _log_prior(state: _State, penalty: float, rows: _Rows) -> float:
    value = float((MEANT * np.log(state.reliability) + REVERSED * np.log1p(-state.reliability)).sum())
    value -= penalty / 2 * float(state.strengths @ state.strengths)
    value -= BIAS_PRECISION / 2 * float(state.bias @ state.bias)
    if rows.tied:
        value -= TIE_PRECISION / 2 * float(((state.tie - state.tie.mean()) ** 2).sum())
    return value


def _improve_annotators(rows: _Rows, state: _State, step: _Expectation) -> _State:
    """The best reliabilities, and a Newton step of pulls and thresholds, given how likely each answer was meant."""
    total = rows.per_annotator(rows.weight)
    reliability = (rows.per_annotator(rows.weight * step.meant) + MEANT) / (total + MEANT + REVERSED)
    mixed = Slopes(*(rows.per_annotator(part) for part in _mixed(step)))
    bias, tie = state.bias, state.tie
    if rows.position_bias:
        move = (mixed.gap - BIAS_PRECISION * bias) / (mixed.gap_gap + BIAS_PRECISION)
        bias = bias + np.clip(move, -1, 1)
    if rows.tied:
        move = (mixed.tie - TIE_PRECISION * (tie - tie.mean())) / (mixed.tie_tie + TIE_PRECISION)
        tie = tie + np.clip(move, -1, 1)
    return state._replace(reliability=reliability, bias=bias, tie=tie)


def _mixed(step: _Expectation) -> Slopes:
    """Slopes by pull and threshold, averaged over the two readings of each answer."""
    readings = zip(step.forth, step.back, strict=True)
    return Slopes(*(step.meant * forth + (1 - step.meant) * back for forth, back in readings))


def _improve_strengths(rows: _Rows, state: _State, meant: Floats, penalty: float) -> _State:
    """The best strengths, given how likely each answer was meant."""
    bias, tie = state.bias[rows.annotator], state.tie[rows.annotator]

    def slope(strengths: Floats) -> tuple[Floats, newton.Matrix]:
        gap = strengths[rows.first] - strengths[rows.second]
        forth = _RAO_KUPPER.slopes(gap + bias, tie, Answers(*(meant * answer for answer in rows.answers)))
        back = _RAO_KUPPER.slopes(bias - gap, tie, Answers(*((1 - meant) * answer for answer in rows.answers)))
        gradient = rows.per_item(forth.gap - back.gap) - penalty * strengths
        return gradient, rows.information(forth.gap_gap + back.gap_gap, penalty)

    return state._replace(strengths=newton.maximise(slope, state.strengths, rows.items)[0])


def _result(
    rows: _Rows, state: _State, step: _Expectation, connected: bool, penalty: float, objective: list[float]
) -> AnnotatorFit:
    """Observed information: what a complete answer would tell, less what is lost by not knowing if it was meant.

    (Louis 1982.) Lost is the variance of the slopes between the two readings of an answer.
    """
    meant, doubt = step.meant, step.meant * (1 - step.meant)
    forth, back, weight = step.forth, step.back, np.where(rows.weight > 0, rows.weight, 1.0)
    # Slopes carry the weight of their row, so their products carry its square.
    lost = doubt * (forth.gap + back.gap) ** 2 / weight
    information = rows.information(meant * forth.gap_gap + (1 - meant) * back.gap_gap - lost, penalty)
    strengths = Strengths(state.strengths, float(rows.weight @ step.log_share), connected, penalty, information)

    mixed = _mixed(step)
    gap, tie = forth.gap - back.gap, forth.tie - back.tie
    doubted = (doubt * rows.weight, doubt * gap, doubt * tie, doubt * gap**2 / weight, doubt * gap * tie / weight)
    chance = rows.per_annotator(rows.weight) * state.reliability * (1 - state.reliability)
    prior = (MEANT + REVERSED) * state.reliability * (1 - state.reliability)
    rr = chance - rows.per_annotator(doubted[0]) + prior
    rb, rt = (-rows.per_annotator(part) for part in doubted[1:3])
    bb = rows.per_annotator(mixed.gap_gap - doubted[3]) + BIAS_PRECISION
    bt = rows.per_annotator(mixed.gap_tie - doubted[4])
    tt = rows.per_annotator(mixed.tie_tie - doubt * tie**2 / weight) + TIE_PRECISION
    of_annotators = np.stack([rr, rb, rt, rb, bb, bt, rt, bt, tt], axis=1).reshape(-1, 3, 3)
    return AnnotatorFit(
        strengths,
        state.reliability,
        state.bias,
        threshold_of(state.tie),
        np.asarray(np.linalg.inv(of_annotators)),
        rows.per_annotator(rows.weight),
        np.array(objective),
    )

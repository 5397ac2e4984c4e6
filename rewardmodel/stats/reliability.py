"""How far each annotator can be relied on when few people judge the same thing.

The model is that of `annotators`: an answer is meant with probability `reliability` and the wrong way round otherwise,
and everybody has a pull towards what is shown first and a threshold below which differences go unnoticed. But how far
two items lie apart is not estimated: it is averaged over, as a normal of unknown deviation. With two or three answers
per pair, estimated strengths bend to whatever was answered, and who guesses comes out as reliable as anybody else, the
more certainly the more pairs there are (Neyman and Scott 1948). In exchange nothing is learned about the items, and
the pairs of a longer ranking are taken one by one.

The marginal likelihood is maximised by L-BFGS. Per step it takes two products with a sparse matrix that has one entry
per answer: which answer each annotator gave, for which pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit, logsumexp

from rewardmodel.stats.annotators import ALONE, BIAS_PRECISION, MEANT, NEVER, REVERSED, TIE_PRECISION
from rewardmodel.stats.comparisons import Comparisons, Floats, Ints, totals
from rewardmodel.stats.errors import InvalidComparison
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import Z95
from rewardmodel.stats.strengths import with_interval
from rewardmodel.stats.tie_models import threshold_of

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
LOG_WEIGHTS = np.log(WEIGHTS / WEIGHTS.sum())
# The deviation of the gaps, in logits: what is expected of it (log-normal), and the bounds of the search. With two
# answers per pair, large gaps and unreliable people look much like small gaps and reliable people.
SPREAD, SPREAD_PRECISION, SPREADS = 2.0, 4.0, (0.3, 10.0)
UNKNOWN = MEANT / (MEANT + REVERSED)  # the reliability of somebody of whom nothing is known
SIDES, ANSWERS = 2, 3
BISECTIONS = 14  # of an interval's ends: to less than a ten-thousandth


@dataclass(frozen=True, eq=False)
class Reliabilities:
    """Per annotator the logit of the reliability, the pull of the first place and the logit of tying.

    Intervals take the other annotators as known.
    """

    logits: Floats
    interval: tuple[Floats, Floats]
    """Lower and upper bounds of the reliabilities, 95 %."""
    bias: Floats
    tie: Floats
    covariance: Floats
    """(annotators, 3, 3), of the three above."""
    answers: Floats
    """How much each annotator answered, by weight."""
    spread: float
    """Deviation of the gaps between two items, in logits."""

    @property
    def tied(self) -> bool:
        """Whether anybody tied anything; else there are no thresholds to speak of."""
        return bool((self.tie > NEVER).any())

    @property
    def reliability(self) -> Floats:
        """The share of answers that are meant."""
        return np.asarray(expit(self.logits))

    def reliability_of(self, annotator: int) -> Estimate:
        """With its 95 % interval."""
        low, high = (float(bound[annotator]) for bound in self.interval)
        return Estimate(float(self.reliability[annotator]), low, high, float(self.answers[annotator]))

    def bias_of(self, annotator: int) -> Estimate:
        """Pull towards what is shown first, in logits, with its 95 % interval."""
        return with_interval(float(self.bias[annotator]), self._error(annotator, 1))

    def threshold_of(self, annotator: int) -> Estimate:
        """The smallest difference that is noticed, in logits, with its 95 % interval."""
        rate = float(expit(self.tie[annotator])) / 2
        return with_interval(float(threshold_of(self.tie[annotator])), rate * self._error(annotator, 2))

    def _error(self, annotator: int, parameter: int) -> float:
        return float(np.sqrt(self.covariance[annotator, parameter, parameter]))


def fit(
    annotators: ArrayLike, comparisons: ArrayLike, *, weights: ArrayLike | None = None, position_bias: bool = True
) -> Reliabilities:
    """Annotator `annotators[r]` (numbered from 0) gave row r: (first, second, mu), `first` being shown first.

    Weights are those of pairs: 2 / K for the pairs of rankings of K items, which are K - 1 answers in all. Where rows
    of one pair have different ones, their mean counts.

    `mu` is 1 if the first was better, 0 if the second, 0.5 for a tie. Without `position_bias`, which is written first
    means nothing.
    """
    problem = _Problem.of(np.asarray(annotators), Comparisons.of(comparisons, weights=weights), position_bias)
    found = minimize(problem.loss, problem.start(), jac=True, method="L-BFGS-B", bounds=problem.bounds(), tol=1e-9)
    return problem.result(found.x)


class _Table(NamedTuple):
    """Per annotator, side, answer and node: log-probability, and its slopes by the parameters."""

    log_share: Floats
    reliable: Floats
    bias: Floats
    tie: Floats
    spread: Floats


@dataclass(frozen=True, eq=False)
class _Problem:
    given: sparse.csr_array
    """(pairs, annotators * sides * answers): how often."""
    weight: Floats
    """Of each pair."""
    answers: Floats
    """How much each annotator answered, by weight."""
    annotators: int
    position_bias: bool
    tied: bool

    @classmethod
    def of(cls, annotator: Ints, rows: Comparisons, position_bias: bool) -> _Problem:
        mu, people = rows.shares(), rows.people(annotator, ALONE)
        if not np.isin(mu, (0.0, 0.5, 1.0)).all():
            raise InvalidComparison("Annotators' mu is 1 (the first is better), 0 (the second) or 0.5 (a tie).")
        # Of each pair, the item with the smaller number is called the first; the side says which was shown first.
        side = (rows.first > rows.second).astype(np.int64)
        answer = np.where(mu == 0.5, 2, np.where((mu == 0) != (side == 1), 1, 0))
        low, high = np.minimum(rows.first, rows.second), np.maximum(rows.first, rows.second)
        pairs, pair = np.unique(low * rows.items + high, return_inverse=True)
        cell = (annotator * SIDES + side) * ANSWERS + answer
        shape = (len(pairs), people * SIDES * ANSWERS)
        given = sparse.csr_array((np.ones(len(cell)), (pair, cell)), shape=shape)
        weight = rows.weights()
        of_pairs = totals(pair, weight, len(pairs)) / totals(pair, None, len(pairs))
        return cls(given, of_pairs, totals(annotator, weight, people), people, position_bias, bool((answer == 2).any()))

    def start(self) -> Floats:
        counts = self.given.sum(axis=0).reshape(-1, ANSWERS).sum(axis=0)
        share = float(counts[2] / counts.sum())
        tie = np.log(4 * share) - np.log1p(-min(share, 0.9)) if self.tied else NEVER
        ones = np.ones(self.annotators)
        return np.concatenate([ones * logit(UNKNOWN), 0 * ones, tie * ones, [np.log(SPREAD)]])

    def bounds(self) -> list[tuple[float, float]]:
        """What was not seen stays where it starts."""
        tie = (-10.0, 10.0) if self.tied else (NEVER, NEVER)
        bias = (-10.0, 10.0) if self.position_bias else (0.0, 0.0)
        people = [pair for pair in ((-10.0, 10.0), bias, tie) for _ in range(self.annotators)]
        return [*people, (float(np.log(SPREADS[0])), float(np.log(SPREADS[1])))]

    def loss(self, point: Floats) -> tuple[float, Floats]:
        """Minus the penalised log-likelihood per answer, and its gradient."""
        table = self._table(point)
        posterior, log_likelihood = self._posterior(table)
        expected = (self.given.T @ (self.weight[:, None] * posterior)).reshape(table.log_share.shape)
        slopes = [(expected * part).sum(axis=(1, 2, 3)) for part in (table.reliable, table.bias, table.tie)]
        reliable, bias, tie = self._parts(point)
        share, ties = expit(reliable), tie - tie.mean()
        prior = float((MEANT * log_expit(reliable) + REVERSED * log_expit(-reliable)).sum())
        wide = point[-1] - np.log(SPREAD)
        prior -= (BIAS_PRECISION * float(bias @ bias) + TIE_PRECISION * float(ties @ ties)) / 2
        prior -= SPREAD_PRECISION * wide**2 / 2
        slopes[0] = slopes[0] + MEANT * (1 - share) - REVERSED * share
        slopes[1] = slopes[1] - BIAS_PRECISION * bias
        slopes[2] = slopes[2] - TIE_PRECISION * ties
        spread = float((expected * table.spread).sum()) - SPREAD_PRECISION * wide
        scale = -1 / self.answers.sum()  # steps of a useful length
        return scale * (log_likelihood + prior), scale * np.concatenate([*slopes, [spread]])

    def result(self, point: Floats) -> Reliabilities:
        """With covariances from the squared slopes of single answers, whose pairs' gaps are averaged over."""
        table = self._table(point)
        posterior, _ = self._posterior(table)
        entries = self.given.tocoo()
        person, weight = entries.col // (SIDES * ANSWERS), self.weight[entries.row] * entries.data
        scores = [
            np.einsum("rk,rk->r", posterior[entries.row], part.reshape(-1, len(NODES))[entries.col])
            for part in (table.reliable, table.bias, table.tie)
        ]
        reliable, bias, tie = self._parts(point)
        share = expit(reliable)
        information = np.empty((self.annotators, 3, 3))
        for i in range(3):
            for j in range(3):
                information[:, i, j] = totals(person, weight * scores[i] * scores[j], self.annotators)
        priors = ((MEANT + REVERSED) * share * (1 - share), BIAS_PRECISION, TIE_PRECISION)
        for i, precision in enumerate(priors):
            information[:, i, i] += precision
        spread = float(np.exp(point[-1]))
        covariance = np.asarray(np.linalg.inv(information))
        return Reliabilities(reliable, self._interval(point), bias, tie, covariance, self.answers, spread)

    def _interval(self, point: Floats) -> tuple[Floats, Floats]:
        """Between which reliabilities the log-likelihood lies at most Z95^2 / 2 below its maximum, without the prior.

        Where answers are nearly always meant, a normal interval of the logit would reach from one end to the other,
        and the prior thinks too well of those who gave few.
        """
        entries, log_share = self.given.tocoo(), self._table(point).log_share.reshape(-1, len(NODES))
        both = entries.row * np.int64(self.annotators) + entries.col // (SIDES * ANSWERS)
        both, group = np.unique(both, return_inverse=True)  # what one person said of one pair
        pair, person = both // self.annotators, both % self.annotators
        said = sparse.csr_array((entries.data, (group, entries.col)), shape=(len(both), self.given.shape[1]))
        others = (self.given @ log_share + LOG_WEIGHTS)[pair] - said @ log_share

        def likelihood(share: Floats) -> Floats:
            moved = np.concatenate([logit(share), point[self.annotators :]])
            own = said @ self._table(moved).log_share.reshape(-1, len(NODES))
            return totals(person, self.weight[pair] * logsumexp(others + own, axis=1), self.annotators)

        best = _maximum(likelihood, self.annotators)
        enough = likelihood(best) - Z95**2 / 2
        bounds = []
        for end in (0.0, 1.0):
            inside, outside = best, np.full(self.annotators, end)
            for _ in range(BISECTIONS):
                middle = (inside + outside) / 2
                is_likely = likelihood(middle) >= enough
                inside, outside = np.where(is_likely, middle, inside), np.where(is_likely, outside, middle)
            bounds.append(outside)
        estimates = expit(point[: self.annotators])
        return np.minimum(bounds[0], estimates), np.maximum(bounds[1], estimates)

    def _parts(self, point: Floats) -> tuple[Floats, Floats, Floats]:
        reliable, bias, tie = point[:-1].reshape(3, self.annotators)
        return reliable, bias, tie

    def _posterior(self, table: _Table) -> tuple[Floats, float]:
        """P(node) of each pair's gap given its answers, and the log-likelihood of all."""
        joint = self.given @ table.log_share.reshape(-1, len(NODES)) + LOG_WEIGHTS
        total = logsumexp(joint, axis=1)
        return np.exp(joint - total[:, None]), float(self.weight @ total)

    def _table(self, point: Floats) -> _Table:
        reliable, bias, tie = (part[:, None, None] for part in self._parts(point))
        gap = np.exp(point[-1]) * NODES
        pull = bias * np.array([1.0, -1.0])[:, None]
        forth, back = _reading(gap + pull, tie), _reading(pull - gap, tie)
        odds = reliable[:, None]
        meant = expit(odds + forth[0] - back[0])
        by_gap = meant * forth[1], (1 - meant) * back[1]
        return _Table(
            np.logaddexp(log_expit(odds) + forth[0], log_expit(-odds) + back[0]),
            meant - expit(odds),
            (by_gap[0] + by_gap[1]) * np.array([1.0, -1.0])[:, None, None],
            meant * forth[2] + (1 - meant) * back[2],
            (by_gap[0] - by_gap[1]) * gap,
        )


def _reading(seen: Floats, tie: Floats) -> tuple[NDArray, NDArray, NDArray]:
    """Rao and Kupper's log-probabilities of (first, second, tie), stacked before the nodes; slopes by gap and tie."""
    threshold, rate = threshold_of(tie), expit(tie) / 2
    first, second = log_expit(seen - threshold), log_expit(-seen - threshold)
    up, down = -np.expm1(first), -np.expm1(second)
    shares = np.stack([first, second, tie + first + second], axis=2)
    by_gap = np.stack([up, -down, up - down], axis=2)
    by_tie = np.stack([-rate * up, -rate * down, 1 - rate * (up + down)], axis=2)
    return shares, by_gap, by_tie


def _maximum(function: Callable[[Floats], Floats], count: int) -> Floats:
    """Where so many concave functions on (0, 1) are largest: each answer is linear in the share that is meant."""
    low, high = np.zeros(count), np.ones(count)
    for _ in range(BISECTIONS):
        third = (high - low) / 3
        rises = function(low + third) < function(high - third)
        low, high = np.where(rises, low + third, low), np.where(rises, high, high - third)
    return (low + high) / 2

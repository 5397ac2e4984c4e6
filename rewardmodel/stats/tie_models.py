"""Comparisons with three answers: the first is better, the second is better, a tie.

Both models see a gap (strength of the first less the second, plus the pull of being shown first) and a logit of tying.

* Rao and Kupper (1967): people add logistic noise to the gap and prefer only what exceeds a threshold; P(first) =
  sigmoid(gap - threshold), P(second) = sigmoid(-gap - threshold), and a tie is the rest. With logit u of tying,
  threshold = softplus(u) / 2, because then P(tie) = e^u P(first) P(second) and the log-likelihood is concave.
* Davidson (1970): P(tie) is proportional to e^u sqrt(e^gap), P(first) to e^gap, P(second) to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import expit, log_expit, log_softmax

from rewardmodel.stats.comparisons import Floats

Name = Literal["rao-kupper", "davidson"]


class Answers(NamedTuple):
    """How often each was answered, or how likely."""

    first: Floats
    second: Floats
    tie: Floats


class Slopes(NamedTuple):
    """Derivatives of the log-likelihood by gap and logit of tying: the first ones, then minus the second ones."""

    gap: Floats
    tie: Floats
    gap_gap: Floats
    gap_tie: Floats
    tie_tie: Floats


class TieModel(NamedTuple):
    """`threshold` is what people read: Rao and Kupper's in logits, or Davidson's factor."""

    log_shares: Callable[[Floats, Floats], Answers]
    slopes: Callable[[Floats, Floats, Answers], Slopes]
    threshold: Callable[[Floats], Floats]
    threshold_slope: Callable[[Floats], Floats]


def threshold_of(logit: Floats) -> Floats:
    """Rao and Kupper's threshold: softplus(logit) / 2."""
    return np.asarray(np.logaddexp(0, logit) / 2)


def _rao_kupper_shares(gap: Floats, logit: Floats) -> Answers:
    threshold = threshold_of(logit)
    first, second = log_expit(gap - threshold), log_expit(-gap - threshold)
    return Answers(first, second, logit + first + second)


def _rao_kupper_slopes(gap: Floats, logit: Floats, counts: Answers) -> Slopes:
    # A tie counts as a win of both against the threshold: the likelihood is that of two logistic regressions.
    threshold = threshold_of(logit)
    first, second = expit(gap - threshold), expit(-gap - threshold)
    up, down = (counts.first + counts.tie) * (1 - first), (counts.second + counts.tie) * (1 - second)
    up_up, down_down = up * first, down * second
    share = expit(logit)
    rate = share / 2  # of the threshold
    return Slopes(
        gap=up - down,
        tie=counts.tie - rate * (up + down),
        gap_gap=up_up + down_down,
        gap_tie=rate * (down_down - up_up),
        tie_tie=rate * (1 - share) * (up + down) + rate**2 * (up_up + down_down),
    )


def _davidson_shares(gap: Floats, logit: Floats) -> Answers:
    logits = np.stack(np.broadcast_arrays(gap / 2, -gap / 2, logit))
    return Answers(*log_softmax(logits, axis=0))


def _davidson_slopes(gap: Floats, logit: Floats, counts: Answers) -> Slopes:
    first, second, tie = (np.exp(share) for share in _davidson_shares(gap, logit))
    total = counts.first + counts.second + counts.tie
    lead = first - second
    return Slopes(
        gap=(counts.first - counts.second - total * lead) / 2,
        tie=counts.tie - total * tie,
        gap_gap=total * (first + second - lead**2) / 4,
        gap_tie=-total * lead * tie / 2,
        tie_tie=total * tie * (1 - tie),
    )


TIE_MODELS: dict[Name, TieModel] = {
    "rao-kupper": TieModel(_rao_kupper_shares, _rao_kupper_slopes, threshold_of, lambda logit: expit(logit) / 2),
    "davidson": TieModel(_davidson_shares, _davidson_slopes, np.exp, np.exp),
}

"""Which curves a run page draws, and their points, thinned for long runs without losing rare metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from training.models import TrainingRun

POINTS = 600
"""Most points per curve: about what a wide screen can tell apart."""

# Averages per bucket of steps and per metric, so a metric that is reported every tenth step keeps its own points.
SERIES = """
SELECT metric.key, max(event.step), avg(metric.value::float8)
FROM training_runevent event, jsonb_each_text(event.payload -> 'metrics') metric
WHERE event.run_id = %(run)s AND event.type = 'metrics' AND event.seq <= %(last)s AND metric.value IS NOT NULL
GROUP BY metric.key, event.step / %(width)s
ORDER BY metric.key, 2
"""


@dataclass(frozen=True)
class Chart:
    """One chart: its metrics share an axis. `band` is the pair of metrics between which the area is shaded.

    `when` looks at a run's settings: a chart that would stay empty, or flat, is left out.
    """

    slug: str
    title: str
    about: str
    metrics: tuple[str, ...]
    band: tuple[str, str] | None = None
    when: Callable[[dict[str, Any]], bool] = lambda settings: True


SCORE = Chart(
    "score",
    _("Score"),
    _("What the reward model gives the answers; its training data have mean 0 and standard deviation 1."),
    ("objective/scores", "eval/scores", "eval/reference_scores"),
)
KL = Chart("kl", "KL", _("How far the policy has moved from the reference, in nats per answer."), ("objective/kl",))
REWARD = Chart(
    "reward",
    _("Reward"),
    _(
        "What answers are paid: the score, clipped and less for what the run asks. Minus the KL penalty, PPO maximises "
        "it."
    ),
    ("objective/rlhf_reward", "objective/paid_scores"),
)
POLICY_LOSS = Chart("policy-loss", _("Policy loss"), _("Clipped PPO loss per token."), ("loss/policy",))
VALUE_LOSS = Chart(
    "value-loss",
    _("Value loss"),
    _("Error of the predicted returns."),
    ("loss/value",),
    when=lambda settings: settings.get("advantage", "gae") == "gae",
)
ENTROPY = Chart("entropy", _("Entropy"), _("Uncertainty of the policy per token, in nats."), ("policy/entropy",))
LENGTH = Chart("length", _("Length"), _("Tokens per answer."), ("objective/length",))
ENDED = Chart("ended", _("Ended by itself"), _("Share of the answers that end before the limit."), ("objective/ended",))
CLIPPED = Chart("clipped", _("Clipped"), _("Share of the tokens whose ratio is clipped."), ("policy/clipfrac",))
MOVED = Chart(
    "moved", _("KL of one update"), _("From the policy that sampled to the one updated."), ("policy/approxkl",)
)
COEFFICIENT = Chart(
    "kl-coef",
    _("KL coefficient"),
    _("Weight of the KL penalty."),
    ("objective/kl_coef",),
    when=lambda settings: settings.get("kl_controller") == "adaptive",
)
SPEED = Chart(
    "speed", _("Tokens per second"), _("Read in a step, or generated and learned from."), ("perf/tokens_per_second",)
)
REPEATS = Chart(
    "distinct", _("Variety"), _("Share of an answer's pairs of tokens that are different."), ("objective/distinct",)
)
PTX = Chart(
    "ptx",
    _("Loss on demonstrations"),
    _("Of the answers that people put first (PPO-ptx)."),
    ("loss/ptx",),
    when=lambda settings: bool(settings.get("ptx_coef")),
)
PHASES = Chart(
    "phases",
    _("Seconds per iteration"),
    _("Where the time goes."),
    ("perf/seconds_generate", "perf/seconds_score", "perf/seconds_train"),
)
MEMORY = Chart("memory", _("Peak memory"), _("Of the GPU, or of the process, in MB."), ("perf/memory_mb",))
LOSS = Chart("loss", _("Loss"), _("On the training batches and on the held-out prompts."), ("loss/train", "eval/loss"))
ACCURACY = Chart(
    "accuracy",
    _("Held-out accuracy"),
    _("Share of held-out preferences the model agrees with; the band is the 95 % interval."),
    ("eval/accuracy",),
    ("eval/accuracy_low", "eval/accuracy_high"),
)
RATE = Chart("learning-rate", _("Learning rate"), _("As scheduled."), ("learning_rate",))

CHARTS: dict[str, tuple[Chart, ...]] = {
    "ppo": (
        *(SCORE, KL, REWARD, LENGTH, ENTROPY, POLICY_LOSS, VALUE_LOSS, ENDED, REPEATS, CLIPPED, MOVED, COEFFICIENT),
        *(PTX, SPEED, PHASES, MEMORY),
    ),
    "reward": (LOSS, ACCURACY, RATE, SPEED, MEMORY),
    "sft": (LOSS, RATE, SPEED, MEMORY),
    "sampling": (ENDED,),
}


def series(run: TrainingRun) -> dict[str, Any]:
    """Points of every metric up to event `last`: {"last": seq, "series": {metric: [[steps], [values]]}}."""
    width = max(1, -(-max(run.step, run.total_steps) // POINTS))
    found: dict[str, tuple[list[int], list[float]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(SERIES, {"run": run.pk, "last": run.last_seq, "width": width})
        for metric, step, value in cursor.fetchall():
            steps, values = found.setdefault(metric, ([], []))
            steps.append(step)
            values.append(value)
    return {"last": run.last_seq, "series": found}


def charts_of(run: TrainingRun) -> list[dict[str, Any]]:
    """The charts of a run page, as its script reads them."""
    return [
        {
            "slug": c.slug,
            "title": gettext(c.title),
            "about": gettext(c.about),
            "metrics": c.metrics,
            "band": c.band or (),
        }
        for c in CHARTS[run.kind]
        if c.when(run.config)
    ]

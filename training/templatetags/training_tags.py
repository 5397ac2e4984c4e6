"""Numbers and texts of the run pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import template

from training.events import progress_line
from training.models import TrainingRun

register = template.Library()
register.filter("progress_line", progress_line)


@register.filter
def number(value: Any) -> str:
    """A metric: four digits that matter; what is no number as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:.4g}"


@register.filter
def signed(value: float) -> str:
    """A reward: what lies below 0 has a minus sign of full width."""
    return f"{value:+.2f}".replace("-", "\u2212")


@register.filter
def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


@register.filter
def inverse(value: float) -> float:
    """How many times larger the scores could be where the temperature is below 1."""
    return 1 / value


@register.filter
def last_message(messages: list[dict[str, str]]) -> str:
    """The text that a sample answers."""
    return messages[-1]["content"] if messages else ""


@register.filter
def setting(value: Any) -> str:
    """A setting's value, as one would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value == "":
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


@register.filter
def outcome(run: TrainingRun) -> list[tuple[str, str]]:
    """The few final numbers by which runs of one kind are told apart, as name and text."""
    metrics = run.artifact.metrics if hasattr(run, "artifact") else {}
    wanted = OUTCOMES.get(run.kind, {})
    return [(label, text(metrics[name])) for name, (label, text) in wanted.items() if metrics.get(name) is not None]


@register.filter
def metric_name(name: str) -> str:
    """`objective/kl_k3` in words."""
    return NAMES.get(name) or name.rpartition("/")[2].replace("_", " ")


OUTCOMES: dict[str, dict[str, tuple[str, Callable[[Any], str]]]] = {
    "reward": {"eval/accuracy": ("Held-out accuracy", percent)},
    "ppo": {"objective/scores": ("Score", number), "objective/kl": ("KL", number)},
    "sft": {"eval/loss": ("Held-out loss", number)},
}
NAMES = {
    "objective/kl": "KL",
    "objective/scores": "score",
    "eval/scores": "held-out score",
    "eval/reference_scores": "reference's held-out score",
    "loss/train": "training",
    "eval/loss": "held-out",
    "eval/accuracy": "accuracy",
    "policy/approxkl": "KL",
    "policy/clipfrac": "share",
    "objective/rlhf_reward": "minus KL",
    "objective/paid_scores": "paid",
    "objective/ended": "share",
    "objective/kl_coef": "beta",
    "objective/distinct": "share",
    "loss/ptx": "demonstrations",
    "perf/tokens_per_second": "tokens per second",
    "perf/seconds_generate": "answering",
    "perf/seconds_score": "scoring",
    "perf/seconds_train": "learning",
    "perf/memory_mb": "MB",
}

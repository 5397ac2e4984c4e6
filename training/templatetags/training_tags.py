"""Numbers and texts of the run pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.language import figures
from training.events import progress_line
from training.models import TrainingRun

register = template.Library()
register.filter("progress_line", progress_line)


@register.filter
def number(value: Any) -> str:
    """A metric: four digits that matter; what is no number as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return figures(f"{value:.4g}")


@register.filter
def signed(value: float) -> str:
    """A reward: what lies below 0 has a minus sign of full width."""
    return figures(f"{value:+.2f}").replace("-", "\u2212")


@register.filter
def percent(share: float) -> str:
    return figures(f"{100 * share:.3g} %")


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
        return _("yes") if value else _("no")
    if value == "":
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


@register.filter
def outcome(run: TrainingRun) -> list[tuple[str, str]]:
    """The few final numbers by which runs of one kind are told apart, as name and text."""
    metrics = run.artifact.metrics if hasattr(run, "artifact") else {}
    wanted = OUTCOMES.get(run.kind, {})
    return [(_(label), text(metrics[name])) for name, (label, text) in wanted.items() if metrics.get(name) is not None]


@register.filter
def metric_name(name: str) -> str:
    """`objective/kl_k3` in words."""
    return _(NAMES[name]) if name in NAMES else name.rpartition("/")[2].replace("_", " ")


OUTCOMES: dict[str, dict[str, tuple[str, Callable[[Any], str]]]] = {
    "reward": {"eval/accuracy": (gettext_noop("Held-out accuracy"), percent)},
    "ppo": {"objective/scores": (gettext_noop("Score"), number), "objective/kl": ("KL", number)},
    "sft": {"eval/loss": (gettext_noop("Held-out loss"), number)},
}
NAMES = {
    "learning_rate": gettext_noop("learning rate"),
    "objective/kl": "KL",
    "objective/scores": gettext_noop("score"),
    "eval/scores": gettext_noop("held-out score"),
    "eval/reference_scores": gettext_noop("reference's held-out score"),
    "loss/train": gettext_noop("training"),
    "eval/loss": gettext_noop("held-out"),
    "eval/accuracy": gettext_noop("accuracy"),
    "policy/approxkl": "KL",
    "policy/clipfrac": gettext_noop("share"),
    "objective/rlhf_reward": gettext_noop("minus KL"),
    "objective/paid_scores": gettext_noop("paid"),
    "objective/ended": gettext_noop("share"),
    "objective/kl_coef": "beta",
    "objective/distinct": gettext_noop("share"),
    "loss/ptx": gettext_noop("demonstrations"),
    "perf/tokens_per_second": gettext_noop("tokens per second"),
    "perf/seconds_generate": gettext_noop("answering"),
    "perf/seconds_score": gettext_noop("scoring"),
    "perf/seconds_train": gettext_noop("learning"),
    "perf/memory_mb": "MB",
}

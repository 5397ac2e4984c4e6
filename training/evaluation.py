"""What a reward run found out about its model on held-out comparisons, as its page shows it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from rewardmodel.stats.annotators import UNRELIABLE
from training.engine.rundir import EVALUATION
from training.models import ModelArtifact

MOST_BYTES = 4_000_000
WIDTH, HEIGHT, MARGIN = 320, 240, 44
# What `rewardmodel.report`, which knows no languages, calls its slices.
SLICES = (
    gettext_noop("How far apart the scores are"),
    *(
        gettext_noop("least sure quarter"),
        gettext_noop("second quarter"),
        gettext_noop("third quarter"),
        gettext_noop("surest quarter"),
    ),
    gettext_noop("Answers that several people compared"),
    *(gettext_noop("people agree"), gettext_noop("people differ")),
    gettext_noop("Length"),
    *(gettext_noop("about equal"), gettext_noop("longer one preferred"), gettext_noop("shorter one preferred")),
    gettext_noop("Sources compared"),
    gettext_noop("others"),
)
BAR = 50  # half the width of a turn's bar, with 0 in the middle


def evaluation_of(model: ModelArtifact | None) -> dict[str, Any]:
    """The report of `rewardmodel.report`, with what its drawings and advice need; empty where there is none."""
    if model is None or model.kind != ModelArtifact.Kind.REWARD:
        return {}
    path = Path(model.path) / EVALUATION
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a model made elsewhere, or before there were reports
        return {}
    if not report:
        return {}
    filters = (model.run.data if model.run else {}).get("filters", {})
    learned = [one for one in report["people"]["labelers"] if one.get("reliability") is not None]
    doubtful = [one["name"] for one in learned if one["reliability"] < UNRELIABLE]
    return report | {
        "diagram": diagram(report["calibration"]["bins"]),
        "reliability_learned": bool(learned),
        "doubtful": doubtful,
        # The form takes names separated by spaces or commas, so it cannot name those that hold one.
        "without": " ".join(
            [*filters.get("without", []), *(name for name in doubtful if re.fullmatch(r"[^\s,]+", name))]
        ),
        "disagreement_auc": model.metrics.get("eval/disagreement_auc"),
        "turns": [example | {"sides": sides(example)} for example in report.get("turns", [])],
    }


def sides(example: dict[str, Any]) -> list[dict[str, Any]]:
    """Both conversations of a comparison; bars of their turns on one scale, with `x` and `width` of `BAR` each way."""
    both = [(_("Preferred"), example["chosen"]), (_("Not preferred"), example["rejected"])]
    most = max((abs(turn["reward"]) for _, side in both for turn in side["turns"]), default=0.0) or 1.0

    def drawn(turn: dict[str, Any]) -> dict[str, Any]:
        width = BAR * abs(turn["reward"]) / most
        return turn | {"x": round(BAR - width if turn["reward"] < 0 else BAR, 1), "width": round(width, 1)}

    return [side | {"title": title, "turns": [drawn(turn) for turn in side["turns"]]} for title, side in both]


def diagram(bins: list[dict[str, float]]) -> dict[str, Any]:
    """Reliability diagram: foreseen from 50 to 100 % across, observed from 0 to 100 % up, in pixels."""
    most = max(one["weight"] for one in bins)
    points = [
        {
            "x": round(_across(one["predicted"]), 1),
            "y": round(_up(one["observed"]), 1),
            "radius": round(2 + 8 * math.sqrt(one["weight"] / most), 1),
        }
        for one in bins
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": _across(0.5),
        "right": _across(1),
        "bottom": _up(0),
        "top": _up(1),
        "middle": _up(0.5),
        "points": points,
    }


def _across(share: float) -> float:
    return MARGIN + (share - 0.5) * 2 * (WIDTH - MARGIN - 12)


def _up(share: float) -> float:
    return HEIGHT - MARGIN - share * (HEIGHT - MARGIN - 12)

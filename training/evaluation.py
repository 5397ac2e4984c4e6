"""What a reward run found out about its model on held-out comparisons, as its page shows it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from training.models import ModelArtifact

FILE = "evaluation.json"  # written by training.engine.reward
MOST_BYTES = 4_000_000
WIDTH, HEIGHT, MARGIN = 320, 240, 44


def evaluation_of(model: ModelArtifact | None) -> dict[str, Any]:
    """The report of `rewardmodel.report`, with the places of the diagram's points; empty where there is none."""
    if model is None or model.kind != ModelArtifact.Kind.REWARD:
        return {}
    path = Path(model.path) / FILE
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a model made elsewhere, or before there were reports
        return {}
    return report | {"diagram": diagram(report["calibration"]["bins"])} if report else {}


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

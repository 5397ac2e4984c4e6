"""Charts that the server draws: bars and a line as SVG, with a table of the same numbers.

Pure: numbers in, places in a box of 600 by 160 out; `_chart.html` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accounts.language import figures

WIDTH, HEIGHT = 600, 160


@dataclass(frozen=True)
class Bar:
    """One bar, with its words."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: str


@dataclass(frozen=True)
class Chart:
    """`line` are the points of a line over the bars, on the same scale; `top` is the value at the upper edge."""

    title: str
    unit: str
    bars: list[Bar]
    top: str
    line: str


def bar_chart(
    title: str,
    unit: str,
    labels: Sequence[str],
    values: Sequence[float],
    *,
    form: str = "{:,.0f}",
    line: Sequence[float] = (),
    top: float = 0,
) -> Chart:
    """A bar for each value, from 0 to `top` or the largest value."""
    top = top or max([*values, *line], default=0) or 1
    step = WIDTH / max(len(values), 1)
    drawn = []
    for place, (label, value) in enumerate(zip(labels, values, strict=True)):
        height = HEIGHT * min(value / top, 1)
        drawn.append(
            Bar(
                round(place * step + step * 0.1, 2),
                round(HEIGHT - height, 2),
                round(step * 0.8, 2),
                round(height, 2),
                label,
                figures(form.format(value)),
            )
        )
    points = (((place + 0.5) * step, HEIGHT * (1 - min(value / top, 1))) for place, value in enumerate(line))
    return Chart(title, unit, drawn, figures(form.format(top)), " ".join(f"{x:.1f},{y:.1f}" for x, y in points))

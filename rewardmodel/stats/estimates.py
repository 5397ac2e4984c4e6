"""A number with its interval, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """`value` is None exactly when `reason` says why; `low` and `high` bound a 95 % interval where one was made."""

    value: float | None
    low: float | None = None
    high: float | None = None
    count: float = 0
    reason: str = ""

    @classmethod
    def undefined(cls, because: str, count: float = 0) -> Estimate:
        return cls(None, count=count, reason=f"undefined because {because}")

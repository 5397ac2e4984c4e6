"""One setting of a run: a documented field of a config, and whether a value fits it. Standard library only."""

from __future__ import annotations

import dataclasses
import math
import re
import types
from typing import Any

MOST = 2**31 - 1  # of whole numbers without a bound of their own: what columns and kernels can hold


class ConfigError(ValueError):
    """The config cannot be used; the message names the setting and what to change."""


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    basic: bool = False,
) -> Any:
    """A config field. `doc` is the help text of the form; `basic` settings are shown without unfolding "advanced"."""
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices, "basic": basic}
    return dataclasses.field(default=default, metadata=metadata)


def checked(field: dataclasses.Field[Any], wanted: Any, value: Any) -> Any:
    """The value of a setting of type `wanted`. Raises ConfigError."""
    name = field.name
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 1000 else math.inf
    if not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)):
        raise ConfigError(f"{name} must be {_article(wanted)}, not {value!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, not {value!r}.")
    if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
        raise ConfigError(f"{name} has characters that cannot be stored.")
    low, high, choices = (field.metadata.get(k) for k in ("low", "high", "choices"))
    high = MOST if high is None and wanted is int else high
    if low is not None and value < low:
        raise ConfigError(f"{name} must be at least {low}, not {value!r}.")
    if high is not None and value > high:
        raise ConfigError(f"{name} must be at most {high}, not {value!r}.")
    if choices and value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def _article(wanted: Any) -> str:
    if isinstance(wanted, types.UnionType):
        return str(wanted)
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(wanted, str(wanted))

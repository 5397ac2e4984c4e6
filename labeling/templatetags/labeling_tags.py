"""What templates need to show other people's texts and numbers."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from labeling import rendering

register = template.Library()
ROLE_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


@register.filter
def markdown(text: str) -> SafeString:
    """Untrusted markdown as safe HTML. Put it into an element with `class="md" dir="auto" hx-disable`."""
    return rendering.render_markdown(text)


@register.filter
def visible(text: str) -> str:
    """Untrusted plain text with hidden and misleading characters shown."""
    return rendering.visible(text)


@register.filter
def summary(text: str, length: int = 140) -> str:
    return rendering.summary(text, length)


@register.filter
def role_name(role: str) -> str:
    return ROLE_NAMES.get(role, role)


@register.filter
def percent(part: int, whole: int) -> int:
    """How many percent `part` is of `whole`, rounded down, so that 100 means all."""
    return part * 100 // whole if whole else 0


@register.filter
def as_percent(share: float) -> str:
    return f"{100 * share:.1f}"


@register.filter
def seconds(value: float | None) -> str:
    """A short time in words: 4.2 s, 3 min 5 s, 2 h 10 min."""
    if value is None:
        return "–"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@register.filter
def duration(milliseconds: int) -> str:
    return seconds(milliseconds / 1000)

"""What templates need to show other people's texts and numbers."""

from __future__ import annotations

from django import template
from django.template import Context
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.language import figures, translated
from labeling.display import rendering
from rewardmodel.stats.estimates import Estimate

register = template.Library()
register.filter("translated", translated)
# What `rewardmodel.stats`, which knows no languages, says of numbers that there are none of.
REASONS = (
    gettext_noop("nothing was judged by two people"),
    gettext_noop("all ratings are equal, so chance would agree as well"),
    gettext_noop("nothing was counted"),
)
ROLE_NAMES = {"system": gettext_noop("System"), "user": gettext_noop("User"), "assistant": gettext_noop("Assistant")}


@register.filter
def markdown(text: str) -> SafeString:
    """Untrusted markdown as safe HTML. Put it into an element with `class="md" dir="auto" hx-disable`."""
    return rendering.render_markdown(text)


@register.simple_tag(takes_context=True)
def text_of(context: Context, content: str, label: str = "") -> SafeString:
    """Untrusted text of a message in its element, as the person wants to see it: rendered, raw, or with differences."""
    if label and (words := (context.get("differences") or {}).get(label)):
        marked = ((format_html("<mark>{}</mark>", text) if own else text,) for text, own in words)
        return format_html('<div class="raw" dir="auto" hx-disable>{}</div>', format_html_join("", "{}", marked))
    if getattr(context.get("view"), "raw", False):
        return format_html('<div class="raw" dir="auto" hx-disable>{}</div>', rendering.visible(content))
    return format_html('<div class="md" dir="auto" hx-disable>{}</div>', rendering.render_markdown(content))


@register.filter
def visible(text: str) -> str:
    """Untrusted plain text with hidden and misleading characters shown."""
    return rendering.visible(text)


@register.filter
def summary(text: str, length: int = 140) -> str:
    return rendering.summary(text, length)


@register.filter
def role_name(role: str) -> str:
    return _(ROLE_NAMES.get(role, role))


@register.filter
def percent(part: int, whole: int) -> int:
    """How many percent `part` is of `whole`, rounded down, so that 100 means all."""
    return part * 100 // whole if whole else 0


@register.filter
def as_percent(share: float) -> float:
    return round(100 * share, 1)


@register.filter
def because(reason: str) -> str:
    """Why there is no number, as a sentence of its own in the reader's language."""
    return translated(reason.removeprefix("undefined because "))


@register.filter
def signed(value: float) -> str:
    """A logit: +0.31, −1.20."""
    return figures(f"{value:+.2f}").replace("-", "−")


@register.inclusion_tag("labeling/_interval.html")
def interval(estimate: Estimate, low: float, high: float, mark: float) -> dict[str, str]:
    """A dot with its 95 % bar on a scale from `low` to `high`, beside a line at `mark`; in percent of the width."""

    def place(value: float | None) -> str:
        share = ((value or 0) - low) / (high - low) if high > low else 0.5
        return f"{3 + 94 * min(max(share, 0), 1):.2f}"

    bounds = estimate.low if estimate.low is not None else estimate.value
    upper = estimate.high if estimate.high is not None else estimate.value
    return {"low": place(bounds), "at": place(estimate.value), "high": place(upper), "mark": place(mark)}


@register.filter
def seconds(value: float | None) -> str:
    """A short time in words: 4.2 s, 3 min 5 s, 2 h 10 min."""
    if value is None:
        return "–"
    if value < 59.95:
        return figures(f"{value:.1f} s")
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@register.filter
def duration(milliseconds: int) -> str:
    return seconds(milliseconds / 1000)

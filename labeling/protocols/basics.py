"""What is asked at least: how many completions a task shows, which rankings it takes, usual flags and reasons to skip.

What a campaign asks beside the order stands in its form (`questionnaire`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from rewardmodel.stats.pairs import InvalidTiers, check_tiers

ROLES = ("system", "user", "assistant")
LABELS = "ABCDEFGHI"
COMPLETIONS = {"pair": (2, 2), "ranking": (2, len(LABELS)), "conversation": (2, 2)}  # fewest and most

SKIP_REASONS = {
    "unclear": gettext_noop("The task is not clear to me"),
    "expertise": gettext_noop("I do not know enough about the topic"),
    "language": gettext_noop("I do not read this language well enough"),
    "broken": gettext_noop("The texts are cut off or broken"),
    "distressing": gettext_noop("I do not want to read this"),
    "other": gettext_noop("Another reason"),
}
FLAGS = {
    "fails_task": gettext_noop("None of them does what was asked"),
    "inappropriate": gettext_noop("Inappropriate for a support or assistant setting"),
    "hallucination": gettext_noop("States something made up"),
    "sexual": gettext_noop("Sexual content"),
    "violent": gettext_noop("Violent content"),
    "encourages_harm": gettext_noop("Encourages violence, abuse or self-harm"),
    "denigrates": gettext_noop("Denigrates a group of people"),
    "harmful_advice": gettext_noop("Gives harmful advice"),
    "opinion": gettext_noop("Expresses an opinion or moral judgment"),
    "personal_data": gettext_noop("Contains personal data"),
}
MAX_RATIONALE = 10_000  # characters


class Message(TypedDict):
    role: str
    content: str


Tiers = list[list[int]]


class InvalidRanking(Exception):
    """This cannot be an answer to the task; the message says why, for the person who gave it."""


def ranking_tiers(tiers: Any, protocol: str, size: int, *, cannot_tell: bool = False) -> Tiers:
    """The tiers, checked: pair and conversation rank both completions (a tie is an answer), ranking at least two.

    Who looked and cannot tell ranks nothing; who cannot even look skips, with a reason.
    """
    if cannot_tell and tiers:
        raise InvalidRanking(_("Either rank the answers, or say that you cannot tell."))
    if cannot_tell:
        return []
    try:
        checked = [list(tier) for tier in check_tiers(tiers, size)]
    except InvalidTiers as error:
        raise InvalidRanking(str(error)) from None
    ranked = sum(map(len, checked))
    if protocol != "ranking" and ranked != size:
        raise InvalidRanking(_("Say which of the two is better, or that they are equal."))
    if ranked < 2:
        raise InvalidRanking(_("Rank at least two answers, or say that you cannot tell."))
    return checked


def tiers_of_labels(labels: Any, shown_order: Sequence[int]) -> Tiers:
    """`[["B"], ["A", "C"]]` as the person saw it, in completion indices."""
    index_of = dict(zip(LABELS, shown_order, strict=False))
    if not isinstance(labels, list) or not all(isinstance(tier, list) for tier in labels):
        raise InvalidRanking(_('A ranking is a list of tiers, such as [["B"], ["A", "C"]].'))
    for label in (label for tier in labels for label in tier):
        if not isinstance(label, str) or label not in index_of:
            raise InvalidRanking(_("There is no answer {label!r} here.").format(label=str(label)[:20]))
    return [[index_of[label] for label in tier] for tier in labels]


def labels_of_tiers(tiers: Tiers, shown_order: Sequence[int]) -> list[list[str]]:
    """The other way round, to show an answer again."""
    label_of = dict(zip(shown_order, LABELS, strict=False))
    return [[label_of[index] for index in tier] for tier in tiers]


def in_words(order: Sequence[Sequence[str]]) -> str:
    """`B > A = C`"""
    return " > ".join(" = ".join(tier) for tier in order)


def order_of_words(text: str) -> list[list[str]]:
    """`B > A = C` as tiers of letters, whichever they are."""
    return [[label.strip().upper() for label in tier.split("=")] for tier in text.split(">")]


def checked_note(text: str, limit: int = MAX_RATIONALE) -> str:
    """A person's own words, as the database can keep them."""
    if len(text) > limit:
        raise InvalidRanking(_("Please use at most {limit} characters.").format(limit=limit))
    return plain_lines(text)


def plain_lines(text: str) -> str:
    """Without what no database keeps, and with the line ends of everything else: browsers send others."""
    return text.replace("\x00", "").replace("\r\n", "\n")

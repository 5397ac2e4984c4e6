"""A person's own answers, newest first, and how long they may still be changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from accounts.models import User
from labeling.display.screen import Entered
from labeling.models import Campaign, Ranking
from labeling.protocols.basics import LABELS
from labeling.protocols.questionnaire import parse_form
from labeling.queue.assignment import ShownCompletion, Task

PAGE = 20


@dataclass(frozen=True)
class OwnAnswer:
    """An answer as its person saw the item, in the letters of their screen."""

    ranking: Ranking
    order: list[list[str]]
    editable: bool

    @property
    def prompt(self) -> str:
        messages = self.ranking.item.messages
        return messages[-1]["content"] if messages else ""


def own_answers(user: User, campaign: Campaign, *, now: datetime, before: int | None = None) -> list[OwnAnswer]:
    """One page and one more, which tells that there is another page."""
    answers = (
        Ranking.objects.given().filter(campaign=campaign, user=user).select_related("item", "campaign").order_by("-pk")
    )
    if before is not None:
        answers = answers.filter(pk__lt=before)
    return [OwnAnswer(ranking, in_labels(ranking), is_editable(ranking, now)) for ranking in answers[: PAGE + 1]]


def is_editable(ranking: Ranking, now: datetime) -> bool:
    """Within the campaign's time for it, and while the campaign is open."""
    campaign = ranking.campaign
    until = ranking.created_at + timedelta(minutes=campaign.edit_minutes)
    return campaign.state == Campaign.State.OPEN and now <= until


def in_labels(ranking: Ranking) -> list[list[str]]:
    label = {index: LABELS[place] for place, index in enumerate(ranking.shown_order)}
    return [sorted(label[index] for index in tier) for tier in ranking.tiers]


def task_again(ranking: Ranking) -> Task:
    """The item as it was shown, to answer it anew. No slot is held: the answer has one."""
    texts = [completion.messages for completion in ranking.item.completions.order_by("index")]
    shown = zip(LABELS, ranking.shown_order, strict=False)
    campaign = ranking.campaign
    return Task(
        lease=ranking.lease or uuid4(),
        expires_at=ranking.created_at + timedelta(minutes=campaign.edit_minutes),
        item=ranking.item.public_id,
        protocol=campaign.protocol,
        form=parse_form(campaign.form),
        form_version=campaign.form_version,
        messages=ranking.item.messages,
        completions=[ShownCompletion(label, index, texts[index]) for label, index in shown],
    )


def entered_before(ranking: Ranking) -> Entered:
    ranks = {label: rank for rank, tier in enumerate(in_labels(ranking), start=1) for label in tier}
    details = ranking.details | {"answers": _by_label(ranking)}
    return Entered(ranks=ranks, flags=ranking.flags, rationale=ranking.rationale, details=details)


def _by_label(ranking: Ranking) -> dict[str, Any]:
    """Answers to further questions, those about completions by letter."""
    shown = list(zip(LABELS, ranking.shown_order, strict=False))
    return {
        name: {label: value[index] for label, index in shown if value[index] is not None}
        if isinstance(value, list)
        else value
        for name, value in ranking.details.get("answers", {}).items()
    }

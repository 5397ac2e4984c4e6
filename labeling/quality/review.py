"""Reviewers look at answers: accept one, return it to who gave it with a comment, or decide themselves.

Looked at are answers with flags, answers that most others contradict, and a share drawn at random; the newest first
among the latest 5,000. Nothing is overwritten: a verdict is a row, the answer changes its status, and what a reviewer
decides instead is an answer of its own kind. A returned item goes to its person before anything else, and to others if
they do not come back within a week.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from django.utils.translation import gettext as _

from accounts.models import User
from labeling.audit import record
from labeling.events import campaign_changed
from labeling.models import Campaign, Kind, QualityRules, Ranking, Review, Slot
from labeling.protocols.basics import checked_note, ranking_tiers
from labeling.queue.assignment import lock_contribution, remember
from labeling.queue.overlap import is_out

RETURNED_FOR = timedelta(days=7)
NEWEST = 5_000


class CannotReview(Exception):
    """Not this answer, or not like this; the message says why."""


@dataclass(frozen=True)
class ToReview:
    """An answer to look at, and why: flagged, contradicted, or drawn at random."""

    ranking: Ranking
    because: str


# Contradicted is an answer where more of the others put something else first than put the same first.
NEXT = """
SELECT id, because FROM (
    SELECT given.id, CASE
        WHEN flags <> '[]' THEN 'flagged'
        WHEN NOT cannot_tell AND (
            SELECT count(*) FILTER (WHERE other.tiers->0 <> given.tiers->0)
                 > count(*) FILTER (WHERE other.tiers->0 = given.tiers->0)
            FROM labeling_ranking other
            WHERE other.item_id = given.item_id AND other.status = 'accepted' AND other.kind = 'normal'
              AND other.id <> given.id AND NOT other.cannot_tell) THEN 'contradicted'
        WHEN abs(hashint8(given.id)::bigint) %% 100 < %(share)s THEN 'random' END AS because
    FROM (SELECT * FROM labeling_ranking
          WHERE campaign_id = %(campaign)s AND status = 'accepted' AND kind = 'normal' AND origin = 'person'
          ORDER BY id DESC LIMIT %(newest)s) given
    WHERE given.user_id <> %(reviewer)s
      AND NOT EXISTS (SELECT FROM labeling_review review WHERE review.ranking_id = given.id)
      AND NOT EXISTS (SELECT FROM labeling_ranking decided
                      WHERE decided.item_id = given.item_id AND decided.status = 'accepted'
                        AND decided.kind = 'adjudicated')
) chosen
WHERE because IS NOT NULL
"""


def next_to_review(campaign: Campaign, reviewer: User) -> ToReview | None:
    """The newest answer that waits for a reviewer, not their own."""
    with connection.cursor() as cursor:
        row = cursor.execute(f"{NEXT} ORDER BY id DESC LIMIT 1", _parameters(campaign, reviewer)).fetchone()
    if row is None:
        return None
    return ToReview(Ranking.objects.select_related("item", "user").get(pk=row[0]), row[1])


def waiting(campaign: Campaign, reviewer: User) -> int:
    """How many there are."""
    with connection.cursor() as cursor:
        count: int = cursor.execute(f"SELECT count(*) FROM ({NEXT}) w", _parameters(campaign, reviewer)).fetchone()[0]
    return count


@transaction.atomic
def accept(ranking: Ranking, *, by: User, comment: str = "") -> Review:
    """The answer stands. Raises CannotReview."""
    ranking = _locked(ranking, by)
    return _verdict(ranking, Review.Verdict.ACCEPT, by, comment)


@transaction.atomic
def send_back(ranking: Ranking, *, by: User, comment: str, now: datetime) -> Review:
    """Ask the same person again, with a comment; their item comes back to them first. Raises CannotReview."""
    if not comment.strip():
        raise CannotReview(_("Say what they should look at: a returned answer needs a comment."))
    ranking = _locked(ranking, by)
    ranking.status = Ranking.Status.RETURNED
    ranking.save(update_fields=["status"])
    user, slot = ranking.user, ranking.slot
    if user is not None:
        contribution = lock_contribution(user, ranking.campaign)
        count = "extra" if slot is None else "done"
        setattr(contribution, count, getattr(contribution, count) - 1)
        contribution.save(update_fields=[count])
        if slot is not None:
            if slot.lease:
                remember(user, slot.lease, slot)
            slot.state, slot.lease, slot.leased_at, slot.expires_at = (
                Slot.State.LEASED,
                uuid4(),
                now,
                now + RETURNED_FOR,
            )
            slot.save(update_fields=["state", "lease", "leased_at", "expires_at"])
    return _verdict(ranking, Review.Verdict.RETURN, by, comment)


@transaction.atomic
def replace(ranking: Ranking, *, by: User, tiers: Any, comment: str = "") -> Review:
    """Decide: this order counts instead of the answer. Raises CannotReview, InvalidRanking."""
    ranking = _locked(ranking, by)
    campaign, size = ranking.campaign, ranking.item.completions.count()
    decided = Ranking(
        item=ranking.item,
        campaign=campaign,
        slot=ranking.slot,
        user=by,
        labeler=lock_contribution(by, campaign).labeler,
        kind=Kind.ADJUDICATED,
        late=ranking.late,
        tiers=ranking_tiers(tiers, campaign.protocol, size),
        shown_order=list(range(size)),
        rationale=checked_note(comment),
        protocol=campaign.protocol,
        guidelines_version=campaign.guidelines_version,
        form_version=campaign.form_version,
        previous=ranking,
    )
    decided.save()
    ranking.status = Ranking.Status.REPLACED
    ranking.save(update_fields=["status"])
    return _verdict(ranking, Review.Verdict.REPLACE, by, comment, replacement=decided)


def _locked(ranking: Ranking, by: User) -> Ranking:
    """The answer as it is, and stays until the transaction ends. Its person's row is locked first, as ever."""
    if ranking.user_id == by.pk:
        raise CannotReview(_("Somebody else reviews your own answers."))
    if ranking.user is not None:
        lock_contribution(ranking.user, ranking.campaign)
    out = is_out(ranking.item_id, ranking.user_id)
    rows = Ranking.objects.select_for_update(of=("self",), no_key=True).select_related("campaign", "item", "slot")
    found = rows.get(pk=ranking.pk)
    if out or found.status != Ranking.Status.ACCEPTED or found.kind != Kind.NORMAL:
        raise CannotReview(_("This answer has changed since: look at the next one."))
    if Review.objects.filter(ranking=found).exists():
        raise CannotReview(_("Somebody has reviewed this answer already."))
    return found


def _verdict(
    ranking: Ranking, verdict: Review.Verdict, by: User, comment: str, replacement: Ranking | None = None
) -> Review:
    review = Review.objects.create(
        campaign=ranking.campaign,
        item=ranking.item,
        ranking=ranking,
        reviewer=by,
        verdict=verdict,
        comment=checked_note(comment),
        replacement=replacement,
    )
    facts = {"of": ranking.labeler, "comment": comment[:200]}
    record(by, f"review.{verdict.value}", ranking.item.public_id, campaign=ranking.campaign, **facts)
    campaign_changed(ranking.campaign)
    return review


def _parameters(campaign: Campaign, reviewer: User) -> dict[str, Any]:
    share = QualityRules.objects.filter(campaign=campaign).values_list("review_share", flat=True).first() or 0
    return {"campaign": campaign.pk, "reviewer": reviewer.pk, "share": share, "newest": NEWEST}

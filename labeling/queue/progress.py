"""How far a campaign is, and why somebody is given nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.models import User
from config.postgres.rows import fetch_all
from labeling.models import Campaign
from labeling.queue.assignment import UNTOUCHED


@dataclass(frozen=True)
class Progress:
    """`mine` are all answers of the person, `checks` of them hidden ones; `done` and `total` are what is counted."""

    done: int
    total: int
    mine: int
    checks: int = 0

    @property
    def shown(self) -> int:
        """What the person sees as done: would it stand still after a check, it would tell which items are checks."""
        return min(self.done + self.checks, self.total)


PROGRESS = """
SELECT COALESCE(sum(done), 0), COALESCE(sum(done + extra + checks) FILTER (WHERE user_id = %(user)s), 0),
       COALESCE(sum(checks) FILTER (WHERE user_id = %(user)s), 0)
FROM labeling_contribution WHERE campaign_id = %(campaign)s
"""
WHY_EMPTY = f"""
SELECT count(*) FILTER (WHERE free), count(*) FILTER (WHERE NOT free), min(expires_at) FILTER (WHERE NOT free),
       EXISTS (SELECT FROM labeling_slot
               WHERE campaign_id = %(campaign)s AND state IN ('open', 'leased') AND kind = 'normal')
FROM (SELECT expires_at, state = 'open' OR expires_at <= %(now)s AS free FROM labeling_slot slot
      WHERE campaign_id = %(campaign)s AND state IN ('open', 'leased') AND kind = 'normal' AND {UNTOUCHED}) untouched
"""
PAUSED = gettext_noop(
    "Your work here is paused for the moment: a manager would like to go through some answers with you. "
    "What you answered is kept."
)
NOTHING = gettext_noop("Nothing has been imported into this campaign yet.")
NOT_OPEN = {
    "draft": gettext_noop("This campaign has not been opened yet."),
    "paused": gettext_noop("This campaign is paused by its managers."),
    "closed": gettext_noop("This campaign is closed."),
}


def progress(user: User, campaign: Campaign) -> Progress:
    """How far the campaign is, and the person in it: one query over its people."""
    [(done, mine, checks)] = fetch_all(PROGRESS, {"user": user.pk, "campaign": campaign.pk})
    return Progress(done=done, total=campaign.slot_count, mine=mine, checks=checks)


def why_empty(user: User, campaign: Campaign, *, now: datetime) -> str:
    """One sentence for a person who was given nothing."""
    if campaign.state != Campaign.State.OPEN:
        return _(NOT_OPEN[campaign.state])
    if campaign.contributions.filter(user=user, practised=False).exists():
        return _("First comes a short training. Start it, and you will be told after each answer.")
    if campaign.contributions.filter(user=user, paused_at__isnull=False).exists():
        return _(PAUSED)
    if campaign.slot_count == 0:  # what is there may be gold only
        is_there = campaign.items.exists()
        return _("There is nothing to answer here for now.") if is_there else _(NOTHING)
    with connection.cursor() as cursor:
        free, held, first, missing = cursor.execute(
            WHY_EMPTY, {"user": user.pk, "campaign": campaign.pk, "now": now}
        ).fetchone()
    if free:
        return _("Somebody took the last free item a moment ago. Try again.")
    if held:
        until = f"{timezone.localtime(first):%H:%M}"
        return _(
            "Others are working on all that is left for you. The first of these items may come back at {time}."
        ).format(time=until)
    if missing:
        return _("You have answered or skipped every item. The answers still missing are for others to give.")
    return _("Every item has all the answers it needs. Thank you.")

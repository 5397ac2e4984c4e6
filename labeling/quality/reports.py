"""How the work goes: who gave how much, how fast and how well, how far people agree, whose completions they prefer.

Counts are kept up to date by `annotation.py`, times are those of a person's latest answers, and what reads many answers
is kept by `statistics.py`: no page grows slower with the campaign.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from accounts.models import User
from labeling.models import Campaign, Contribution
from labeling.quality.reliability import Quality
from labeling.quality.statistics import Statistics, kept_statistics, refresh

LATEST = 100  # answers of a person that their times are taken from


@dataclass(frozen=True)
class ContributionRow:
    """One person's work in a campaign. `median_seconds` is None when no time was measured."""

    person: int
    username: str
    labeler: str
    done: int
    extra: int
    skipped: int
    median_seconds: float | None
    last_at: datetime | None


@dataclass(frozen=True)
class PersonReport:
    """How well one person answers; `work` is None for somebody whose answers came from elsewhere."""

    username: str
    quality: Quality
    work: ContributionRow | None

    @property
    def labeler(self) -> str:
        return self.work.labeler if self.work else ""


@dataclass(frozen=True)
class CampaignReport:
    """`statistics` are those of `made_at`: `current`, or older than the newest answers. None are there at first."""

    people: list[ContributionRow]
    statistics: Statistics | None
    qualities: list[PersonReport]
    made_at: datetime | None
    current: bool


PEOPLE = """
SELECT person.id, person.username, given.labeler, given.done, given.extra, COALESCE(skips.count, 0), latest.median,
       latest.last_at
FROM labeling_contribution given JOIN accounts_user person ON person.id = given.user_id
LEFT JOIN (SELECT skip.user_id, count(*) FROM labeling_skip skip JOIN labeling_item item ON item.id = skip.item_id
           WHERE item.campaign_id = %(campaign)s GROUP BY skip.user_id) skips ON skips.user_id = given.user_id
CROSS JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY active_ms) FILTER (WHERE active_ms > 0) / 1000 AS median,
           max(created_at) AS last_at
    FROM (SELECT active_ms, created_at FROM labeling_ranking
          WHERE campaign_id = given.campaign_id AND user_id = given.user_id AND status = 'accepted'
          ORDER BY id DESC LIMIT %(latest)s) answers
) latest
WHERE given.campaign_id = %(campaign)s AND (given.done > 0 OR given.extra > 0 OR skips.count > 0)
ORDER BY given.done DESC, given.id
"""


def contribution_rows(campaign: Campaign) -> list[ContributionRow]:
    """Everybody who answered or skipped anything, most answers first. One query."""
    with connection.cursor() as cursor:
        rows = cursor.execute(PEOPLE, {"campaign": campaign.pk, "latest": LATEST}).fetchall()
    return [ContributionRow(*row) for row in rows]


def labeler_weights(campaign: Campaign) -> dict[str, float]:
    """What an answer is worth by its labeler's reliability, as of now. Those of whom nothing is known are not in it."""
    kept = kept_statistics(campaign)
    statistics = kept.statistics if kept.current else refresh(campaign).statistics
    judged = [one for one in statistics.qualities if one.reliability.value is not None] if statistics else []
    labelers = dict(Contribution.objects.filter(campaign=campaign).values_list("user_id", "labeler"))
    return {labelers[one.person]: one.weight for one in judged if one.person in labelers}


def campaign_report(campaign: Campaign) -> CampaignReport:
    """People's work as of now, and the statistics of their answers that are kept."""
    kept, work = kept_statistics(campaign), {row.person: row for row in contribution_rows(campaign)}
    qualities = kept.statistics.qualities if kept.statistics else []
    names = dict(User.objects.filter(pk__in=[quality.person for quality in qualities]).values_list("pk", "username"))
    people = [PersonReport(names.get(one.person, "?"), one, work.get(one.person)) for one in qualities]
    people.sort(key=lambda person: (-person.quality.answers, person.username))
    return CampaignReport(list(work.values()), kept.statistics, people, kept.made_at, kept.current)

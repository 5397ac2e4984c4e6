"""How the work goes: who gave how much, how fast and how well, how far people agree, whose completions they prefer.

Counts are kept up to date by `annotation.py`, times are those of a person's latest answers, and what reads many answers
is kept by `statistics.py`: no page grows slower with the campaign.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Q

from accounts.models import User
from labeling.models import Campaign, Contribution
from labeling.quality.reliability import Quality
from labeling.quality.statistics import Statistics, kept_statistics, refresh

LATEST = 100  # answers of a person that their times are taken from
MOST_SHOWN = 50  # people; the pages about people have all, one page after the other
FINDINGS = ("reversed", "random", "unsure", "first", "last", "")


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
    """`statistics` are those of `made_at`: `current`, or older than the newest answers. None are there at first.

    `qualities` are some of the `judged` people.
    """

    people: list[ContributionRow]
    statistics: Statistics | None
    qualities: list[PersonReport]
    judged: int
    made_at: datetime | None
    current: bool


PEOPLE = """
SELECT person.id, person.username, given.labeler, given.done, given.extra, skips.count, latest.median, latest.last_at
FROM (SELECT * FROM labeling_contribution given WHERE campaign_id = %(campaign)s AND {which}
      ORDER BY done DESC, id LIMIT %(most)s) given
JOIN accounts_user person ON person.id = given.user_id
CROSS JOIN LATERAL (
    SELECT count(*) FROM labeling_skip skip WHERE skip.campaign_id = %(campaign)s AND skip.user_id = given.user_id
) skips
CROSS JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY active_ms) FILTER (WHERE active_ms > 0) / 1000 AS median,
           max(created_at) AS last_at
    FROM (SELECT active_ms, created_at FROM labeling_ranking
          WHERE campaign_id = given.campaign_id AND user_id = given.user_id AND status = 'accepted'
          ORDER BY id DESC LIMIT %(latest)s) answers
) latest
ORDER BY given.done DESC, given.id
"""
WORKED = """
(done > 0 OR extra > 0 OR EXISTS (
    SELECT FROM labeling_skip skip WHERE skip.campaign_id = %(campaign)s AND skip.user_id = given.user_id))
"""


def leading_people(campaign: Campaign) -> list[ContributionRow]:
    """Those who answered (or skipped) most, most answers first. One query."""
    return _contributions(campaign, WORKED, most=MOST_SHOWN)


def contributions_of(campaign: Campaign, people: Iterable[int]) -> dict[int, ContributionRow]:
    """These people's work. One query."""
    rows = _contributions(campaign, "user_id = ANY(%(people)s)", people=list(people), most=None)
    return {row.person: row for row in rows}


def _contributions(campaign: Campaign, which: str, **parameters: Any) -> list[ContributionRow]:
    parameters |= {"campaign": campaign.pk, "latest": LATEST}
    with connection.cursor() as cursor:
        rows = cursor.execute(PEOPLE.format(which=which), parameters).fetchall()
    return [ContributionRow(*row) for row in rows]


def people_count(campaign: Campaign) -> int:
    """How many people have answered."""
    return campaign.contributions.filter(Q(done__gt=0) | Q(extra__gt=0)).count()


def labeler_weights(campaign: Campaign) -> dict[str, float]:
    """What an answer is worth by its labeler's reliability, as of now. Those of whom nothing is known are not in it."""
    kept = kept_statistics(campaign)
    statistics = kept.statistics if kept.current else refresh(campaign).statistics
    judged = [one for one in statistics.qualities if one.reliability.value is not None] if statistics else []
    labelers = dict(Contribution.objects.filter(campaign=campaign).values_list("user_id", "labeler"))
    return {labelers[one.person]: one.weight for one in judged if one.person in labelers}


def campaign_report(campaign: Campaign) -> CampaignReport:
    """The leading people's work as of now, and the statistics of the answers that are kept.

    Of the people whose answers are judged, those first of whom there is something to say, then those who answered most.
    """
    kept = kept_statistics(campaign)
    judged = kept.statistics.qualities if kept.statistics else []
    first = sorted(judged, key=lambda one: (FINDINGS.index(one.finding), -one.answers, one.person))[:MOST_SHOWN]
    people = [one.person for one in first]
    work = contributions_of(campaign, people)
    names = dict(User.objects.filter(pk__in=people).values_list("pk", "username"))
    qualities = [PersonReport(names.get(one.person, "?"), one, work.get(one.person)) for one in first]
    return CampaignReport(leading_people(campaign), kept.statistics, qualities, len(judged), kept.made_at, kept.current)

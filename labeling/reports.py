"""How the work goes: who gave how much and how fast, how far people agree, and whose completions they prefer.

Counts are kept up to date by `annotation.py`, times are those of a person's latest answers, and agreement reads a
bounded number of rankings: no report grows with the campaign.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Count

from labeling.duels import Duel, duels
from labeling.models import Campaign, Ranking
from rewardmodel.stats.agreement import krippendorff_alpha, pairwise_units, percent_agreement
from rewardmodel.stats.estimates import Estimate

LATEST = 100  # answers of a person that their times are taken from
MAX_RANKINGS = 50_000  # that agreement is computed from
MAX_RESAMPLED = 5_000  # rankings up to which it gets an interval
RESAMPLES = 200


@dataclass(frozen=True)
class ContributionRow:
    """One person's work in a campaign. `median_seconds` is None when no time was measured."""

    username: str
    labeler: str
    done: int
    extra: int
    skipped: int
    median_seconds: float | None
    last_at: datetime | None


@dataclass(frozen=True)
class CampaignReport:
    """`rankings` were compared, from items that two people or more ranked; `partial` says that there are more."""

    people: list[ContributionRow]
    agreement: Estimate
    alpha: Estimate
    rankings: int
    partial: bool
    duels: list[Duel]


PEOPLE = """
SELECT person.username, given.labeler, given.done, given.extra, COALESCE(skips.count, 0), latest.median, latest.last_at
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


def campaign_report(campaign: Campaign) -> CampaignReport:
    """People's work, and how far they agree on the pairs of completions that two of them ranked.

    A pair is judged better, equal or worse, so alpha is the ordinal one. Imported rankings are not people's answers.
    """
    given = Ranking.objects.accepted().filter(campaign=campaign, origin=Ranking.Origin.PERSON)
    compared = given.values("item").annotate(people=Count("user", distinct=True)).filter(people__gt=1).values("item")
    rankings = given.filter(item__in=compared).order_by("-item_id").values_list("item_id", "tiers")
    rows = list(rankings[: MAX_RANKINGS + 1])
    partial = len(rows) > MAX_RANKINGS
    units = pairwise_units(rows[:MAX_RANKINGS])
    resamples = RESAMPLES if len(rows) <= MAX_RESAMPLED else 0
    return CampaignReport(
        people=contribution_rows(campaign),
        agreement=percent_agreement(units, resamples),
        alpha=krippendorff_alpha(units, "ordinal", resamples),
        rankings=min(len(rows), MAX_RANKINGS),
        partial=partial,
        duels=duels(campaign),
    )

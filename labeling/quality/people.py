"""What a manager sees of the people who answer: all of them side by side, and one with everything over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils.translation import gettext_noop

from labeling.models import Campaign, Contribution, Skip
from labeling.protocols.basics import SKIP_REASONS
from labeling.quality.fraud import Sign
from labeling.quality.gold import CheckResults, results_of
from labeling.quality.reliability import Quality
from labeling.quality.reports import ContributionRow, contributions_of
from labeling.quality.statistics import kept_statistics
from labeling.quality.watch import signs_about
from rewardmodel.stats.estimates import Estimate
from rewardmodel.stats.intervals import wilson

DAYS = 30  # with answers, the latest
NEWEST = 10_000  # answers that these are made from
PLACES = 1_000  # latest answers whose shown order is looked at
NOTHING = CheckResults(
    Estimate.undefined(gettext_noop("no gold item came yet")),
    Estimate.undefined(gettext_noop("no item was asked for a second time yet")),
)


@dataclass(frozen=True)
class PersonRow:
    """One person's line. `quality` is None until statistics are there, or where nobody else answered the same."""

    contribution: Contribution
    work: ContributionRow | None
    checks: CheckResults
    quality: Quality | None


@dataclass(frozen=True)
class Day:
    """One day's answers of one person."""

    day: date
    answers: int
    median_seconds: float | None
    first_share: float | None


@dataclass(frozen=True)
class PersonReport:
    """Everything about one person in one campaign. `first` is how often the place shown first won, of two."""

    row: PersonRow
    signs: list[Sign]
    first: Estimate
    days: Sequence[Day]
    skips: list[tuple[str, int]]


def answering(campaign: Campaign) -> QuerySet[Contribution]:
    """Everybody who gave or skipped anything, or is paused."""
    skipped = Exists(Skip.objects.filter(user=OuterRef("user"), campaign=campaign))
    people = campaign.contributions.select_related("user").alias(total=F("done") + F("extra") + F("checks"))
    return people.filter(Q(total__gt=0) | Q(paused_at__isnull=False) | skipped)


def people_of(campaign: Campaign, people: Sequence[Contribution]) -> list[PersonRow]:
    """These people, each as a line, in the same order."""
    keys = [one.user_id for one in people]
    work, checks, kept = contributions_of(campaign, keys), results_of(campaign, keys), kept_statistics(campaign)
    qualities = {one.person: one for one in kept.statistics.qualities} if kept.statistics else {}
    return [
        PersonRow(one, work.get(one.user_id), checks.get(one.user_id, NOTHING), qualities.get(one.user_id))
        for one in people
    ]


def person_report(contribution: Contribution) -> PersonReport:
    """Of one person."""
    (row,) = people_of(contribution.campaign, [contribution])
    return PersonReport(row, signs_about(contribution), _first(contribution), _days(contribution), _skips(contribution))


# Of two completions in a clear order: 1 where the one shown first won.
FIRST_WON = """
CASE WHEN jsonb_array_length(shown_order) = 2 AND jsonb_array_length(tiers) = 2
     THEN (tiers->0->0 = shown_order->0)::int END
"""
FIRST = f"""
SELECT count(won), COALESCE(sum(won), 0) FROM (
    SELECT {FIRST_WON} AS won FROM labeling_ranking
    WHERE campaign_id = %(campaign)s AND user_id = %(user)s AND status = 'accepted' AND kind <> 'adjudicated'
    ORDER BY id DESC LIMIT %(places)s) latest
"""
OVER_TIME = f"""
SELECT created_at::date AS day, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY active_ms)
       FILTER (WHERE active_ms > 0) / 1000, avg({FIRST_WON})::float8
FROM (SELECT created_at, active_ms, shown_order, tiers FROM labeling_ranking
      WHERE campaign_id = %(campaign)s AND user_id = %(user)s AND status = 'accepted' AND kind <> 'adjudicated'
      ORDER BY id DESC LIMIT %(newest)s) newest
GROUP BY day ORDER BY day DESC LIMIT %(days)s
"""
SKIPS = """
SELECT reason, count(*) FROM labeling_skip WHERE campaign_id = %(campaign)s AND user_id = %(user)s
GROUP BY reason ORDER BY count(*) DESC
"""


def _first(contribution: Contribution) -> Estimate:
    ((trials, won),) = _read(FIRST, contribution)
    return wilson(won, trials) if trials else Estimate.undefined(gettext_noop("no clear choice between two yet"))


def _days(contribution: Contribution) -> list[Day]:
    days = [Day(*row) for row in _read(OVER_TIME, contribution)][::-1]
    is_cut = len(days) > 1 and sum(day.answers for day in days) == NEWEST
    return days[1:] if is_cut else days  # of the first one there may be more


def _skips(contribution: Contribution) -> list[tuple[str, int]]:
    return [(SKIP_REASONS.get(reason, reason), count) for reason, count in _read(SKIPS, contribution)]


def _read(statement: str, contribution: Contribution) -> list[tuple]:
    parameters = {
        "campaign": contribution.campaign_id,
        "user": contribution.user_id,
        "places": PLACES,
        "days": DAYS,
        "newest": NEWEST,
    }
    with connection.cursor() as cursor:
        rows: list[tuple] = cursor.execute(statement, parameters).fetchall()
    return rows

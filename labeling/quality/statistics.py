"""What is slow to compute of a campaign's report, kept until answers change.

A row per campaign holds the statistics and the answers they were made from. Few answers are computed when somebody
looks; many by a worker, which the page asks for by a mark on the row, and until then the page shows what there was.
"""

from __future__ import annotations

import dataclasses
import logging
import typing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from django.db.models import F, Sum
from django.utils import timezone

from labeling.events import campaign_changed
from labeling.models import Campaign, CampaignStatistics, Ranking
from labeling.quality.answers import Answers, read_answers, sources_of
from labeling.quality.biases import Biases, biases_of, lengths_of
from labeling.quality.duels import Duel, duels_of
from labeling.quality.leaderboard import Leaderboard, leaderboard_of
from labeling.quality.reliability import Quality, qualities_of
from rewardmodel.stats.agreement import krippendorff_alpha, pairwise_units, percent_agreement
from rewardmodel.stats.estimates import Estimate

logger = logging.getLogger(__name__)

AT_ONCE = 1_000  # answers up to which nobody waits for a worker
RESAMPLES = 200
OUTDATED = 1.2


@dataclass(frozen=True)
class Statistics:
    """`rankings` were compared, from items that two people or more ranked; `partial` says that there are more."""

    agreement: Estimate
    alpha: Estimate
    rankings: int
    partial: bool
    duels: list[Duel]
    leaderboard: Leaderboard
    qualities: list[Quality]
    biases: Biases


@dataclass(frozen=True)
class Kept:
    """Statistics as of a time; `current` when no answer came or went since. None where a worker has yet to make any."""

    statistics: Statistics | None
    made_at: datetime | None
    current: bool


def kept_statistics(campaign: Campaign) -> Kept:
    """What there is, at once; a worker is asked for what is missing."""
    row = CampaignStatistics.objects.filter(campaign=campaign).first()
    newest, answers = _version(campaign)
    statistics = _read(row) if row else None
    if row and statistics and (row.newest, row.answers) == (newest, answers):
        return Kept(statistics, row.made_at, current=True)
    if answers <= AT_ONCE:
        return refresh(campaign)
    CampaignStatistics.objects.update_or_create(campaign=campaign, defaults={"wanted": True})
    return Kept(statistics, row.made_at if row else None, current=False)


def latest_statistics(campaign: Campaign) -> Statistics | None:
    """What there is, however old; a worker is asked for new ones when more than a fifth of the answers is newer."""
    row = CampaignStatistics.objects.filter(campaign=campaign).first()
    statistics = _read(row) if row else None
    if row is None or statistics is None or _given(campaign) > OUTDATED * row.answers:
        CampaignStatistics.objects.update_or_create(campaign=campaign, defaults={"wanted": True})
    return statistics


def refresh(campaign: Campaign) -> Kept:
    """Compute them now, and keep them."""
    newest, answers = _version(campaign)
    statistics = compute(read_answers(campaign))
    made_at = timezone.now()
    values = {"newest": newest, "answers": answers, "made_at": made_at, "payload": dataclasses.asdict(statistics)}
    CampaignStatistics.objects.update_or_create(campaign=campaign, defaults=values)
    return Kept(statistics, made_at, current=True)


def refresh_wanted() -> int:
    """Compute what pages asked for; of several workers one does each. How many there were."""
    done = 0
    for row in CampaignStatistics.objects.filter(wanted=True).select_related("campaign"):
        if CampaignStatistics.objects.filter(pk=row.pk, wanted=True).update(wanted=False):
            refresh(row.campaign)
            campaign_changed(row.campaign)
            logger.info("Made the statistics of campaign %s.", row.campaign.public_id)
            done += 1
    return done


def compute(answers: Answers) -> Statistics:
    """All of it, in time that is bounded by the bounds of `Answers`.

    A pair is judged better, equal or worse, so alpha is the ordinal one.
    """
    shared = answers.shared()
    units = pairwise_units(zip(shared.items, shared.tiers, strict=True))
    sources = sources_of(answers.items)
    return Statistics(
        agreement=percent_agreement(units, RESAMPLES),
        alpha=krippendorff_alpha(units, "ordinal", RESAMPLES),
        rankings=len(shared.items),
        partial=answers.partial,
        duels=duels_of(answers, sources),
        leaderboard=leaderboard_of(answers, sources),
        qualities=qualities_of(answers),
        biases=biases_of(answers, sources, lengths_of(answers.items)),
    )


def _version(campaign: Campaign) -> tuple[int, int]:
    """Changes whenever an accepted answer comes or goes. Nothing is counted that may be a million rows."""
    newest = Ranking.objects.accepted().filter(campaign=campaign).order_by("-pk").values_list("pk", flat=True).first()
    removed = campaign.rankings.filter(status=Ranking.Status.REMOVED).count()
    return newest or 0, max(_given(campaign) - removed, 0)


def _given(campaign: Campaign) -> int:
    """Answers of people, and those that were imported, by running sums."""
    given: int = campaign.contributions.aggregate(sum=Sum(F("done") + F("extra"), default=0))["sum"]
    imported: int = campaign.imports.aggregate(sum=Sum("rankings", default=0))["sum"]
    return given + imported


def _read(row: CampaignStatistics) -> Statistics | None:
    """None as well if the row is of another version of this code."""
    try:
        return typing.cast(Statistics, _rebuilt(Statistics, row.payload))
    except (KeyError, TypeError):
        return None


@cache  # slow, and asked for each person's every number
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _rebuilt(wanted: Any, value: Any) -> Any:
    """What `dataclasses.asdict` and JSON made of a dataclass, as it was."""
    if dataclasses.is_dataclass(wanted):
        kinds = _hints(typing.cast(Any, wanted))
        return wanted(**{name: _rebuilt(kinds[name], inner) for name, inner in value.items()})  # type: ignore[operator]
    if typing.get_origin(wanted) is list:
        return [_rebuilt(typing.get_args(wanted)[0], inner) for inner in value]
    return value

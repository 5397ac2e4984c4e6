"""Counts, times and agreement, against numbers worked out by hand."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from labeling import reports
from labeling.access import get_lease
from labeling.assignment import skip
from labeling.models import Campaign
from labeling.reports import campaign_report, contribution_rows
from tests.labeling.conftest import add_items, claim, submit


def test_everybody_has_counts_and_a_median_time(campaign: Campaign, anna: User, ben: User, manager: User):
    add_items(campaign, 5)
    for active_ms in (1000, 9000, 2000, 0):
        submit(anna, claim(anna, campaign), active_ms=active_ms)
    skip(ben, get_lease(ben, claim(ben, campaign).lease), reason="other")
    claim(manager, campaign)
    with CaptureQueriesContext(connection) as queries:
        first, second = contribution_rows(campaign)
    assert len(queries) == 1
    assert (first.username, first.done, first.extra, first.skipped, first.median_seconds) == ("anna", 4, 0, 0, 2.0)
    assert (second.username, second.done, second.skipped, second.median_seconds) == ("ben", 0, 1, None)
    assert first.last_at and second.last_at is None


def test_agreement_of_two_people_is_counted_by_pairs(campaign: Campaign, anna: User, ben: User):
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    items = add_items(campaign, 4)
    for person, answers in ((anna, "wwwl"), (ben, "wwlt")):
        by_item = dict(zip([item.public_id for item in items], answers, strict=True))
        for _ in items:
            task = claim(person, campaign)
            tiers = {"w": [[0], [1]], "l": [[1], [0]], "t": [[0, 1]]}[by_item[task.item]]
            submit(person, task, tiers)
    report = campaign_report(campaign)
    assert report.agreement.value == pytest.approx(0.5)
    assert report.agreement.low is not None and report.agreement.low <= 0.5
    assert report.alpha.value is not None and 0 < report.alpha.value < 0.5
    assert (report.rankings, report.partial, len(report.people)) == (8, False, 2)


def test_agreement_without_overlap_says_why_there_is_none(campaign: Campaign, anna: User):
    add_items(campaign, 2)
    submit(anna, claim(anna, campaign))
    report = campaign_report(campaign)
    assert report.agreement.value is None
    assert "two people" in report.agreement.reason
    assert report.rankings == 0


def test_agreement_reads_a_bounded_number_of_rankings_and_says_so(
    campaign: Campaign, anna: User, ben: User, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reports, "MAX_RANKINGS", 4)
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    add_items(campaign, 3)
    for person in (anna, ben):
        for _ in range(3):
            submit(person, claim(person, campaign))
    report = campaign_report(campaign)
    assert (report.rankings, report.partial) == (4, True)

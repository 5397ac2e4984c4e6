"""Counts, times and agreement, against numbers worked out by hand."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from labeling.access import get_lease
from labeling.data.importing import import_rows
from labeling.models import Campaign, CampaignStatistics
from labeling.quality import answers, statistics
from labeling.quality.answers import read_answers
from labeling.quality.reports import campaign_report, leading_people
from labeling.quality.statistics import Statistics, kept_statistics, refresh_wanted
from labeling.queue.annotation import undo_last
from labeling.queue.assignment import skip
from labeling.queue.removal import remove_item
from tests.conftest import client_for
from tests.labeling.conftest import NOW, add_items, claim, submit


def statistics_of(campaign: Campaign) -> Statistics:
    found = kept_statistics(campaign).statistics
    assert found is not None
    return found


def test_everybody_has_counts_and_a_median_time(campaign: Campaign, anna: User, ben: User, manager: User):
    add_items(campaign, 5)
    for active_ms in (1000, 9000, 2000, 0):
        submit(anna, claim(anna, campaign), active_ms=active_ms)
    skip(ben, get_lease(ben, claim(ben, campaign).lease), reason="other")
    claim(manager, campaign)
    with CaptureQueriesContext(connection) as queries:
        first, second = leading_people(campaign)
    assert len(queries) == 1
    assert (first.username, first.done, first.extra, first.skipped, first.median_seconds) == ("anna", 4, 0, 0, 2.0)
    assert (second.username, second.done, second.skipped, second.median_seconds) == ("ben", 0, 1, None)
    assert first.last_at and second.last_at is None


def test_agreement_of_two_people_is_counted_by_pairs(campaign: Campaign, anna: User, ben: User):
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    items = add_items(campaign, 4)
    for person, given in ((anna, "wwwl"), (ben, "wwlt")):
        by_item = dict(zip([item.public_id for item in items], given, strict=True))
        for _ in items:
            task = claim(person, campaign)
            tiers = {"w": [[0], [1]], "l": [[1], [0]], "t": [[0, 1]]}[by_item[task.item]]
            submit(person, task, tiers)
    assert len(campaign_report(campaign).people) == 2
    report = statistics_of(campaign)
    assert report.agreement.value == pytest.approx(0.5)
    assert report.agreement.low is not None and report.agreement.low <= 0.5
    assert report.alpha.value is not None and 0 < report.alpha.value < 0.5
    assert (report.rankings, report.partial) == (8, False)


def test_agreement_without_overlap_says_why_there_is_none(campaign: Campaign, anna: User):
    add_items(campaign, 2)
    submit(anna, claim(anna, campaign))
    report = statistics_of(campaign)
    assert report.agreement.value is None
    assert "two people" in report.agreement.reason
    assert report.rankings == 0


def test_agreement_reads_a_bounded_number_of_rankings_and_says_so(
    campaign: Campaign, anna: User, ben: User, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(answers, "MAX_ANSWERS", 4)
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    add_items(campaign, 3)
    for person in (anna, ben):
        for _ in range(3):
            submit(person, claim(person, campaign))
    report = statistics_of(campaign)
    assert (len(read_answers(campaign).items), report.partial) == (4, True)
    monkeypatch.setattr(answers, "MAX_PAIRS", 2)
    assert len(read_answers(campaign).items) == 2


def test_statistics_are_kept_until_an_answer_comes_or_goes(campaign: Campaign, anna: User, ben: User):
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    add_items(campaign, 2)
    for person in (anna, ben):
        submit(person, claim(person, campaign))
    first = kept_statistics(campaign)
    again = kept_statistics(campaign)
    assert (again.made_at, again.statistics) == (first.made_at, first.statistics)
    submit(anna, claim(anna, campaign))
    newer = kept_statistics(campaign)
    assert newer.made_at != first.made_at
    undo_last(anna, campaign, now=NOW)
    assert kept_statistics(campaign).made_at != newer.made_at


def test_many_answers_wait_for_a_worker_and_the_page_shows_what_there_was(
    campaign: Campaign, anna: User, reviewer: User, monkeypatch: pytest.MonkeyPatch
):
    add_items(campaign, 3)
    submit(anna, claim(anna, campaign))
    monkeypatch.setattr(statistics, "AT_ONCE", 0)
    client, page = client_for(reviewer), f"/campaigns/{campaign.public_id}/report"
    assert "The numbers are being computed" in client.get(page).text
    assert client.get(f"/api{page}").json()["statistics"] is None
    assert (refresh_wanted(), refresh_wanted()) == (1, 0)
    text = client.get(page).text
    assert "being computed" not in text and "every 3s" not in text and "As of" in text
    submit(anna, claim(anna, campaign))
    text = client.get(page).text
    assert "There are newer answers" in text and "every 3s" in text
    assert refresh_wanted() == 1
    assert kept_statistics(campaign).current


def test_imported_answers_count_and_change_the_numbers_when_their_item_goes_out(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
):
    row = {"prompt": "Hello?", "completions": [{"text": "Yes."}, {"text": "No."}], "ranking": [0, 1], "labeler": "ann"}
    import_rows(campaign, [row, row | {"prompt": "Once more?"}], name="answered.jsonl")
    monkeypatch.setattr(statistics, "AT_ONCE", 1)
    assert not kept_statistics(campaign).current  # two answers: a worker's work
    assert refresh_wanted() == 1
    assert CampaignStatistics.objects.get().answers == 2
    assert kept_statistics(campaign).current
    remove_item(campaign.items.earliest("pk"), now=NOW)
    kept_statistics(campaign)
    assert CampaignStatistics.objects.get().answers == 1


def test_statistics_of_other_code_are_made_again(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    submit(anna, claim(anna, campaign))
    kept_statistics(campaign)
    CampaignStatistics.objects.update(payload={"agreement": {"of": "another version"}})
    assert kept_statistics(campaign).statistics is not None

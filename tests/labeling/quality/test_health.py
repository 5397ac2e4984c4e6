"""How a campaign is doing, against numbers worked out by hand, and pay whose sums can be checked."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from decimal import Decimal
from unittest.mock import patch

from django.utils import timezone

from accounts.models import User
from labeling.access import get_lease
from labeling.models import Campaign
from labeling.quality.health import amount, health_of, pay_lines, time_to_finish
from labeling.quality.rules import change_rules
from labeling.queue.annotation import revise, undo_last
from labeling.queue.assignment import skip
from tests.conftest import client_for, make_member, make_user
from tests.labeling.conftest import NOW, add_items, claim, submit


def test_days_what_is_left_and_what_a_pair_costs(campaign: Campaign, anna: User, ben: User) -> None:
    add_items(campaign, 10)
    change_rules(campaign, hourly_pay=Decimal(36), currency="EUR", most_seconds=60)
    today = timezone.localdate()
    with patch("django.utils.timezone.now", return_value=timezone.now() - timedelta(days=2)):
        for _ in range(3):
            submit(anna, claim(anna, campaign), active_ms=50_000)
    submit(ben, claim(ben, campaign), [[0, 1]], active_ms=90_000)  # a tie, and longer than is paid
    health = health_of(campaign, today=today)
    assert [(day.answers, day.left) for day in health.days] == [(3, 7), (0, 7), (1, 6)]
    assert (health.done, health.total) == (4, 10)
    assert health.finish.days == 6 / (4 / 3)
    # 3 * 50 + 60 seconds at one cent a second bring three pairs.
    assert (health.cost.pairs, health.cost.per_pair) == (3, Decimal("0.700"))


def test_a_ranking_brings_its_pairs_in_a_clear_order(campaign: Campaign, anna: User) -> None:
    campaign.protocol = "ranking"
    campaign.save(update_fields=["protocol"])
    add_items(campaign, 1, completions=4)
    submit(anna, claim(anna, campaign), [[0], [1, 2], [3]], active_ms=1000)
    assert health_of(campaign, today=timezone.localdate()).cost.pairs == 5


def test_the_time_to_finish_has_an_interval_or_a_reason() -> None:
    steady = time_to_finish(100, [10] * 14)
    assert (steady.days, steady.low, steady.high) == (10, 10, 10)
    uneven = time_to_finish(100, [0, 20] * 7)
    assert uneven.days == 10 and uneven.low is not None and uneven.high is not None
    assert 5 < uneven.low < 10 < uneven.high < 30
    assert time_to_finish(0, []).days == 0
    assert time_to_finish(5, [0, 0]).reason == "nobody has answered lately"
    assert time_to_finish(5, [0] * 13 + [1]).high is None  # perhaps never


def test_what_several_people_pass_by_is_stuck(campaign: Campaign, anna: User, ben: User, manager: User) -> None:
    add_items(campaign, 1)
    skip(anna, get_lease(anna, claim(anna, campaign).lease), reason="unclear")
    assert health_of(campaign, today=date.today()).stuck == []
    skip(ben, get_lease(ben, claim(ben, campaign).lease), reason="broken")
    (stuck,) = health_of(campaign, today=date.today()).stuck
    assert (stuck.skips, stuck.flags, stuck.reasons, stuck.title) == (2, 0, "broken, unclear", "Question 0?")
    text = client_for(manager).get(f"/campaigns/{campaign.public_id}/health").text
    assert "Question 0?" in text and "nobody has answered lately" in text


def test_pay_counts_all_work_with_a_cap_per_item_and_its_sums_add_up(campaign: Campaign, anna: User) -> None:
    formula = make_member(campaign, make_user("+1+cmd"), "annotator")
    add_items(campaign, 6)
    change_rules(campaign, hourly_pay=Decimal("12.34"), currency="EUR", most_seconds=100)
    first = submit(anna, claim(anna, campaign), active_ms=70_000)
    revise(anna, first, tiers=[[1], [0]], active_ms=40_000)  # 110 seconds on one item: 100 are paid
    submit(anna, claim(anna, campaign), active_ms=33_333)
    undo_last(anna, campaign, now=NOW)  # work all the same
    submit(formula, claim(formula, campaign), active_ms=20_000)
    rows = list(csv.DictReader(b"".join(pay_lines(campaign)).decode().splitlines()))
    by_name = {row["username"]: row for row in rows}
    assert by_name["anna"]["paid_seconds"] == "133.3" and by_name["anna"]["items_capped"] == "1"
    assert by_name["anna"]["pay"] == str(amount(Decimal("133.333"), Decimal("12.34"))) == "0.46"
    assert "'+1+cmd" in by_name  # no spreadsheet computes it
    total = rows[-1]
    for column in ("answers", "seconds", "paid_seconds", "pay", "items_capped"):
        assert Decimal(total[column]) == sum(Decimal(row[column]) for row in rows[:-1])


def test_only_managers_get_the_pay_and_it_is_written_down(campaign: Campaign, reviewer: User, manager: User) -> None:
    path = f"/campaigns/{campaign.public_id}/pay.csv"
    assert client_for(reviewer).get(path).status_code == 404
    response = client_for(manager).get(path)
    assert response["Content-Type"] == "text/csv; charset=utf-8" and b"all" in response.getvalue()
    assert campaign.audit.get().verb == "pay.export"

"""How a campaign is doing: answers a day, when it will be done, what is stuck, what an informative pair costs, pay.

Reads are bounded (the newest 50,000 answers, all skips), so the page costs the same however large the campaign is; only
the pay export reads everything, once, in the database.

The time to finish comes from the answers of the last 14 days: what is left, divided by the mean of a day. Its interval
is that of 1,000 draws of 14 days from these. Pay is time with the page in sight, of whatever became of the answer, at
most so many seconds for an item: corrections, checks and answers that were taken back are work, too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Sum
from django.utils.translation import gettext_noop

from labeling.data.exporting import FORMULA
from labeling.models import Campaign, QualityRules

NEWEST = 50_000
DAYS = 30  # shown
PACE_DAYS = 14  # the pace is taken from
DRAWS = 1_000
STUCK = 2  # skips
SHOWN = 20


@dataclass(frozen=True)
class Day:
    """Answers of one day, and how many were still missing at its end."""

    day: date
    answers: int
    left: int


@dataclass(frozen=True)
class Finish:
    """Days until all answers are there; `low` and `high` bound 95 %. None, and why, where nobody can know."""

    days: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Stuck:
    """An item that several people skipped, or flagged."""

    item: str
    title: str
    skips: int
    flags: int
    reasons: str


@dataclass(frozen=True)
class Cost:
    """What the newest answers brought: pairs in a clear order, hours, and (where pay is known) the price of a pair."""

    pairs: int
    hours: float
    per_pair: Decimal | None
    currency: str


@dataclass(frozen=True)
class Health:
    days: list[Day]
    done: int
    total: int
    finish: Finish
    stuck: list[Stuck]
    cost: Cost


def health_of(campaign: Campaign, *, today: date) -> Health:
    """Everything that the page shows."""
    done: int = campaign.contributions.aggregate(n=Sum("done", default=0))["n"]
    left = max(campaign.slot_count - done, 0)
    answers = dict(_read(PER_DAY, campaign, since=today - timedelta(days=DAYS - 1)))
    first = min(answers, default=today)
    span = [today - timedelta(days=back) for back in range((today - first).days, -1, -1)]
    days, missing = [], left
    for day in reversed(span):
        days.append(Day(day, answers.get(day, 0), missing))
        missing += answers.get(day, 0)
    pace = [answers.get(day, 0) for day in span[-PACE_DAYS:]]
    stuck = [Stuck(*row) for row in _read(STUCK_ITEMS, campaign)]
    return Health(days[::-1], done, campaign.slot_count, time_to_finish(left, pace), stuck, _cost(campaign))


def time_to_finish(left: int, pace: Sequence[int], *, seed: int = 0) -> Finish:
    """From the answers of the last days, the current one among them."""
    if left == 0:
        return Finish(0.0, 0.0, 0.0)
    if not any(pace):
        return Finish(None, reason=gettext_noop("nobody has answered lately"))
    drawn = np.random.default_rng(seed).choice(np.array(pace, dtype=float), size=(DRAWS, len(pace))).mean(axis=1)
    with np.errstate(divide="ignore"):
        low, high = np.percentile(left / drawn, [2.5, 97.5], method="nearest")
    return Finish(left / (sum(pace) / len(pace)), float(low), float(high) if np.isfinite(high) else None)


PER_DAY = """
SELECT created_at::date, count(*) FROM (
    SELECT created_at FROM labeling_ranking
    WHERE campaign_id = %(campaign)s AND status = 'accepted' AND kind = 'normal' AND origin = 'person' AND NOT late
    ORDER BY id DESC LIMIT %(newest)s) newest
WHERE created_at::date >= %(since)s GROUP BY 1
"""
STUCK_ITEMS = """
SELECT item.public_id, COALESCE(left(item.messages->-1->>'content', 400), ''), COALESCE(skips.count, 0),
       COALESCE(flags.count, 0), COALESCE(skips.reasons, '')
FROM (SELECT item_id, count(*), string_agg(DISTINCT reason, ', ') AS reasons
      FROM labeling_skip WHERE campaign_id = %(campaign)s GROUP BY item_id) skips
FULL JOIN (SELECT item_id, count(*) FROM (
               SELECT item_id, flags FROM labeling_ranking
               WHERE campaign_id = %(campaign)s AND status = 'accepted' AND kind = 'normal'
               ORDER BY id DESC LIMIT %(newest)s) newest
           WHERE flags <> '[]' GROUP BY item_id) flags USING (item_id)
JOIN labeling_item item ON item.id = item_id AND item.removed_at IS NULL
WHERE COALESCE(skips.count, 0) + COALESCE(flags.count, 0) >= %(stuck)s
ORDER BY COALESCE(skips.count, 0) + COALESCE(flags.count, 0) DESC, item.id LIMIT %(shown)s
"""
# Of n ranked completions, s of which share a tier: (n^2 - sum of s^2) / 2 pairs in a clear order.
EARNED = """
SELECT COALESCE(sum(CASE WHEN kind = 'normal' AND status = 'accepted' THEN (
           SELECT (sum(size) * sum(size) - sum(size * size)) / 2
           FROM (SELECT jsonb_array_length(tier) AS size FROM jsonb_array_elements(tiers) tier) sizes) END), 0),
       COALESCE(sum(LEAST(active_ms, %(most_ms)s)), 0) / 3600000.0
FROM (SELECT kind, status, tiers, active_ms FROM labeling_ranking
      WHERE campaign_id = %(campaign)s AND origin = 'person' AND kind <> 'adjudicated'
      ORDER BY id DESC LIMIT %(newest)s) newest
"""
PAY = """
SELECT person.username, given.labeler, given.done + given.extra + given.checks, times.items, times.seconds,
       times.paid, times.capped
FROM labeling_contribution given JOIN accounts_user person ON person.id = given.user_id
JOIN (SELECT user_id, count(*) AS items, sum(ms) / 1000.0 AS seconds, sum(LEAST(ms, %(most_ms)s)) / 1000.0 AS paid,
             count(*) FILTER (WHERE ms > %(most_ms)s) AS capped
      FROM (SELECT user_id, item_id, sum(active_ms) AS ms FROM labeling_ranking
            WHERE campaign_id = %(campaign)s AND origin = 'person' AND kind <> 'adjudicated'
            GROUP BY user_id, item_id) by_item
      GROUP BY user_id) times ON times.user_id = given.user_id
WHERE given.campaign_id = %(campaign)s ORDER BY given.labeler
"""
PAY_COLUMNS = ("username", "labeler", "answers", "items", "seconds", "paid_seconds", "items_capped", "pay", "currency")


def pay_lines(campaign: Campaign) -> Iterator[bytes]:
    """A line of CSV for each person and one for all. Amounts are rounded per person, and summed as they are shown."""
    rules = _rules(campaign)
    rows, total = [], Decimal(0)
    for *facts, seconds, paid, capped in _read(PAY, campaign, most_ms=rules.most_seconds * 1000):
        pay = amount(paid, rules.hourly_pay)
        total += pay
        rows.append([*facts, f"{seconds:.1f}", f"{paid:.1f}", capped, pay, rules.currency])
    sums = [sum(row[column] for row in rows) for column in (2, 3)]
    times = [sum(Decimal(row[column]) for row in rows) for column in (4, 5)]
    capped = sum(row[6] for row in rows)
    for row in [PAY_COLUMNS, *rows, ["", "all", *sums, *times, capped, total, rules.currency]]:
        line = io.StringIO()
        csv.writer(line).writerow([f"'{cell}" if FORMULA.match(str(cell)) else cell for cell in row])
        yield line.getvalue().encode()


def amount(seconds: Decimal, hourly: Decimal) -> Decimal:
    """To the hundredth."""
    return (Decimal(seconds) * hourly / 3600).quantize(Decimal("0.01"), ROUND_HALF_UP)


def _cost(campaign: Campaign) -> Cost:
    rules = _rules(campaign)
    ((pairs, hours),) = _read(EARNED, campaign, most_ms=rules.most_seconds * 1000)
    known = pairs and rules.hourly_pay
    per_pair = (Decimal(hours) * rules.hourly_pay / pairs).quantize(Decimal("0.001")) if known else None
    return Cost(int(pairs), float(hours), per_pair, rules.currency)


def _rules(campaign: Campaign) -> QualityRules:
    return QualityRules.objects.filter(campaign=campaign).first() or QualityRules(campaign=campaign)


def _read(statement: str, campaign: Campaign, **more: Any) -> list[Any]:
    parameters = {"campaign": campaign.pk, "newest": NEWEST, "stuck": STUCK, "shown": SHOWN} | more
    with connection.cursor() as cursor:
        rows: list[Any] = cursor.execute(statement, parameters).fetchall()
    return rows

"""Pauses: somebody whose answers should be looked at is given nothing more, until a manager lets them go on.

A worker looks at everybody again after each ten answers, by the campaign's rules: gold accuracy that is surely too low,
signs that nothing is read (`fraud`), and answers that say the reverse of what others say (`quality`). A pause holds
back further items and nothing else: what the person gave stays, and what is on their screen is still taken. What they
gave before a manager let them go on does not pause them again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, F, Sum
from django.utils import timezone
from django.utils.translation import gettext_noop

from accounts.models import User
from labeling.audit import record
from labeling.events import campaign_changed
from labeling.models import Campaign, Contribution, QualityRules, Slot
from labeling.quality.fraud import LATEST, Given, Sign, signs_of
from labeling.quality.gold import CheckResults, results_of
from labeling.quality.statistics import latest_statistics
from labeling.queue.assignment import lock_contribution, put_back

logger = logging.getLogger(__name__)

NEWS = 10  # answers of a campaign, or one of each person, after which its people are looked at again
FEWEST_GOLD = 5
GOLD = gettext_noop("{} of {} gold items answered right; {} % are asked for")
REVERSED = gettext_noop("most answers say the opposite of what others say of the same completions")


def look_after_people() -> int:
    """Pause whom the rules of their campaign say; of several workers one does each campaign. How many people."""
    paused = 0
    ruled = QualityRules.objects.filter(campaign__state=Campaign.State.OPEN).select_related("campaign")
    for rules in ruled.exclude(gold_accuracy=0, pause_suspects=False):
        given = Sum(F("done") + F("extra") + F("checks"), default=0)
        answers, people = rules.campaign.contributions.aggregate(given=given, people=Count("pk")).values()
        if abs(answers - rules.watched) < max(NEWS, people):
            continue
        if QualityRules.objects.filter(pk=rules.pk, watched=rules.watched).update(watched=answers):
            paused += _look_at(rules)
    return paused


def pause(contribution: Contribution, *, because: str, by: User | None = None) -> None:
    """Give the person nothing more in this campaign; what they hold goes back to the queue."""
    user, campaign = contribution.user, contribution.campaign
    with transaction.atomic():
        person = lock_contribution(user, campaign)
        if person.paused_at is not None:
            return
        person.paused_at, person.paused_because = timezone.now(), because
        person.save(update_fields=["paused_at", "paused_because"])
        if by is not None:  # the system waits for what is on the screen
            for slot in Slot.objects.filter(campaign=campaign, user=user, state=Slot.State.LEASED):
                put_back(user, slot)
        record(by, "person.pause", user.username, campaign=campaign, because=because)
        campaign_changed(campaign)


@transaction.atomic
def resume(contribution: Contribution, *, by: User) -> None:
    """Let the person go on."""
    person = lock_contribution(contribution.user, contribution.campaign)
    if person.paused_at is None:
        return
    record(by, "person.resume", person.user.username, campaign=person.campaign, was=person.paused_because)
    person.paused_at, person.paused_because, person.resumed_at = None, "", timezone.now()
    person.save(update_fields=["paused_at", "paused_because", "resumed_at"])
    campaign_changed(person.campaign)


def signs_about(contribution: Contribution) -> list[Sign]:
    """What speaks against the person's latest answers, since they were let go on."""
    return signs_of(latest_answers(contribution))


LATEST_ANSWERS = """
SELECT given.active_ms, given.created_at, given.tiers, given.shown_order, given.rationale,
       (SELECT CASE WHEN given.protocol = 'conversation' THEN max(size) ELSE sum(size) END
        FROM (SELECT (SELECT sum(length(message->>'content')) FROM jsonb_array_elements(messages) message) AS size
              FROM labeling_completion WHERE item_id = given.item_id) sizes)
FROM labeling_ranking given
WHERE campaign_id = %(campaign)s AND user_id = %(user)s AND status = 'accepted' AND kind <> 'adjudicated'
  AND (%(since)s::timestamptz IS NULL OR created_at > %(since)s)
ORDER BY id DESC LIMIT %(latest)s
"""


def latest_answers(contribution: Contribution) -> list[Given]:
    """In the order they were given. Where the page measured no time, that since the answer before is an upper bound."""
    parameters = {
        "campaign": contribution.campaign_id,
        "user": contribution.user_id,
        "since": contribution.resumed_at,
        "latest": LATEST,
    }
    with connection.cursor() as cursor:
        rows = cursor.execute(LATEST_ANSWERS, parameters).fetchall()[::-1]
    before = [None, *(row[1] for row in rows)]
    return [_given(row, earlier) for row, earlier in zip(rows, before, strict=False)]


def _given(row: Any, earlier: datetime | None) -> Given:
    active_ms, created_at, tiers, shown_order, rationale, characters = row
    seconds = active_ms / 1000 if active_ms else None
    if seconds is None and earlier is not None:
        seconds = (created_at - earlier).total_seconds()
    best, shown = json.loads(tiers)[:1], json.loads(shown_order)
    place = shown.index(best[0][0]) if best and len(best[0]) == 1 and best[0][0] in shown else None
    return Given(seconds, int(characters or 0), place, len(shown), rationale)


def _look_at(rules: QualityRules) -> int:
    campaign = rules.campaign
    people = list(campaign.contributions.filter(paused_at=None).select_related("user", "campaign"))
    since = {person.user_id: person.resumed_at for person in people if person.resumed_at}
    results = results_of(campaign, [person.user_id for person in people], since)
    findings = _findings(campaign) if rules.pause_suspects else {}
    paused = 0
    for person in people:
        because = _reason(rules, person, results, findings)
        if because:
            pause(person, because=because)
            logger.info("Paused %s in campaign %s.", person.labeler, campaign.public_id)
            paused += 1
    return paused


def _findings(campaign: Campaign) -> Mapping[int, str]:
    kept = latest_statistics(campaign)
    return {one.person: one.finding for one in kept.qualities} if kept else {}


def _reason(
    rules: QualityRules, person: Contribution, results: Mapping[int, CheckResults], findings: Mapping[int, str]
) -> str:
    gold = results[person.user_id].gold if person.user_id in results else None
    if gold and gold.count >= FEWEST_GOLD and gold.high is not None and 100 * gold.high < rules.gold_accuracy:
        right = round((gold.value or 0) * gold.count)
        return GOLD.format(right, f"{gold.count:.0f}", rules.gold_accuracy)
    if not rules.pause_suspects:
        return ""
    if signs := signs_about(person):
        return "; ".join(sign.sentence for sign in signs)
    if findings.get(person.user_id) == "reversed" and person.resumed_at is None:
        return REVERSED
    return ""

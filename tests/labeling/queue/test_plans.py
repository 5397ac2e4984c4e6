"""Hot statements walk their indexes: PostgreSQL's plans over some thousand rows, with its statistics up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from labeling import audit
from labeling.access import get_lease
from labeling.items import listed, with_counts
from labeling.models import Campaign
from labeling.quality import review
from labeling.quality.gold import results_of
from labeling.quality.leaks import shown
from labeling.quality.people import people_of
from labeling.quality.reports import leading_people
from labeling.quality.statistics import kept_statistics
from labeling.queue.annotation import submit_ranking
from labeling.queue.assignment import claim_next, heartbeat
from labeling.queue.history import own_answers
from labeling.queue.progress import progress
from tests.conftest import make_member, make_user

pytestmark = pytest.mark.django_db
BIG = {"labeling_slot", "labeling_ranking", "labeling_item", "labeling_completion", "labeling_auditentry"}
ITEMS, PEOPLE = 600, 6
# Two slots for each item; the first two thirds of the items are answered by two people each.
FILL = """
INSERT INTO labeling_item (campaign_id, public_id, messages, content_hash, meta, created_at)
SELECT %(campaign)s, lpad(%(campaign)s || '-' || n, 12, 'i'),
       jsonb_build_array(jsonb_build_object('role', 'user', 'content', repeat('Why? ' || n || ' ', 40))),
       md5(n::text), '{}', now() FROM generate_series(1, %(items)s) n;
INSERT INTO labeling_completion (item_id, index, messages, source, meta)
SELECT id, k, jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', 'Because ' || k)), '', '{}'
FROM labeling_item, generate_series(0, 1) k WHERE campaign_id = %(campaign)s;
INSERT INTO labeling_slot (campaign_id, item_id, state, priority, random_key, shown_order, user_id, lease, leased_at,
       expires_at)
SELECT campaign_id, id, CASE WHEN done THEN 'done' ELSE 'open' END, 0, random(), '[0, 1]',
       CASE WHEN done THEN %(first)s + (place + k * %(people)s / 2) %% %(people)s END,
       CASE WHEN done THEN gen_random_uuid() END, CASE WHEN done THEN now() END, CASE WHEN done THEN now() END
FROM (SELECT *, row_number() OVER (ORDER BY id) AS place, row_number() OVER (ORDER BY id) <= %(items)s * 2 / 3 AS done
      FROM labeling_item WHERE campaign_id = %(campaign)s) numbered, generate_series(0, 1) k;
INSERT INTO labeling_ranking (public_id, item_id, campaign_id, slot_id, user_id, labeler, origin, status, tiers,
       shown_order, flags, rationale, active_ms, protocol, guidelines_version, kind, late, created_at)
SELECT lpad(id::text, 12, 'r'), item_id, campaign_id, id, user_id, 'p' || user_id, 'person', 'accepted',
       '[[0], [1]]', '[0, 1]', CASE WHEN id %% 50 = 0 THEN '["opinion"]' ELSE '[]' END::jsonb, '', 9000, 'pair', 1,
       CASE WHEN id %% 20 = 0 THEN 'repeat' ELSE 'normal' END, false, now()
FROM labeling_slot WHERE campaign_id = %(campaign)s AND state = 'done' ORDER BY id;
INSERT INTO labeling_leak (campaign_id, item_id, index, what, excerpt, held, created_at)
SELECT campaign_id, id, 0, 'ChatGPT', '', id %% 100 = 0, now() FROM labeling_item WHERE campaign_id = %(campaign)s;
INSERT INTO labeling_auditentry (campaign_id, actor_name, verb, target, facts, created_at)
SELECT %(campaign)s, 'somebody', 'items.export', '', '{}', now() FROM generate_series(1, %(items)s);
"""


@pytest.fixture
def people(campaign: Campaign, foreign_campaign: Campaign) -> list[User]:
    """Those who answered, in a campaign and in one that is twelve times as large."""
    people = [make_member(campaign, make_user(f"person{n}"), "annotator") for n in range(PEOPLE)]
    with connection.cursor() as cursor:
        for one, items in ((campaign, ITEMS), (foreign_campaign, 12 * ITEMS)):
            for user in people:
                one.contributions.create(user=user, done=items * 4 // 3 // PEOPLE)
            parameters = {"campaign": one.pk, "items": items, "people": PEOPLE, "first": people[0].pk}
            for statement in FILL.strip().rstrip(";").split(";\n"):
                cursor.execute(statement, parameters)
            Campaign.objects.filter(pk=one.pk).update(slot_count=2 * items)
        cursor.execute("ANALYZE")
    campaign.refresh_from_db()
    return people


def plans_of(act: Callable[[], Any]) -> list[dict[str, Any]]:
    """The nodes of the plans of every statement that `act` asks."""
    asked: list[tuple[str, Any]] = []

    def noted(execute: Callable[..., Any], sql: str, params: Any, *rest: Any) -> Any:
        asked.append((sql, params))
        return execute(sql, params, *rest)

    with connection.execute_wrapper(noted):
        act()
    nodes: list[dict[str, Any]] = []
    with connection.cursor() as cursor:
        for sql, params in asked:
            if sql.lstrip().startswith(("SELECT", "WITH", "UPDATE")):
                (plans,) = cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params).fetchone()
                nodes += [node | {"sql": sql} for node in walk(plans[0]["Plan"])]
    assert nodes
    return nodes


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from walk(inner)


def check(act: Callable[[], Any], *indexes: str) -> None:
    """No big table is read from end to end, and these indexes are used."""
    nodes = plans_of(act)
    whole = [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG]
    assert [(node["Relation Name"], node["sql"]) for node in whole] == []
    assert set(indexes) - {node.get("Index Name") for node in nodes} == set()


def test_work_walks_the_queue_and_nothing_else(campaign: Campaign, people: list[User]) -> None:
    anna, now = people[0], timezone.now()
    check(lambda: claim_next(anna, campaign, now=now), "slot_queue_idx", "slot_held_idx", "ranking_campaign_idx")
    task = claim_next(anna, campaign, now=now)
    assert task is not None
    lease = get_lease(anna, task.lease)
    check(lambda: get_lease(anna, task.lease))
    check(lambda: heartbeat(anna, lease, now=now), "slot_held_idx")
    check(lambda: submit_ranking(anna, lease, tiers=[[0], [1]], now=now))
    check(lambda: progress(anna, campaign))


def test_lists_start_where_their_page_starts(campaign: Campaign, people: list[User]) -> None:
    anna, now = people[0], timezone.now()
    newest = campaign.rankings.order_by("-pk")[200].pk
    check(lambda: list(own_answers(anna, campaign, now=now, before=newest)), "ranking_user_idx")
    deep = campaign.items.order_by("pk")[400].pk
    check(lambda: with_counts(list(listed(campaign).filter(pk__gt=deep)[:51])))
    check(lambda: audit.entries(campaign, before=audit.entries(campaign)[1]), "audit_campaign_idx")
    check(lambda: list(shown(campaign).order_by("-held", "pk")[:51]), "leak_held_idx")


def test_what_managers_and_reviewers_see_reads_the_newest_answers_only(
    campaign: Campaign, people: list[User], admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "NEWEST", 100)
    kept_statistics(campaign)  # makes the row
    check(lambda: review.next_to_review(campaign, admin), "ranking_campaign_idx")
    check(lambda: review.waiting(campaign, admin), "ranking_campaign_idx")
    check(lambda: leading_people(campaign))
    check(lambda: results_of(campaign, [person.pk for person in people]), "ranking_check_idx")
    check(lambda: people_of(campaign, list(campaign.contributions.all())), "ranking_campaign_idx")

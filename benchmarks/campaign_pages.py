"""How long the pages of a campaign take that has a million items and a million answers.

A throw-away PostgreSQL holds 1,000,000 items with two slots each, of which half are answered by two of 50 people: in
both orders, as ties, some flagged, some unable to tell, over 60 days, beside hidden checks, skips, reviews, leaks and a
log. 5,000 people are members, and there are 2,000 campaigns; one annotator gave 50,000 answers.

Each page is asked for in this process, through all middleware, without a server in front: milliseconds from the request
to the last byte, and statements. The statistics of the report are computed before, as a worker would.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import _labeling_site as sites

if TYPE_CHECKING:
    from django.test import Client

    from labeling.models import Campaign

PEOPLE, MEMBERS, CAMPAIGNS = 50, 5_000, 2_000
BUSY = 10  # of so many items, one was answered by the busiest annotator
# Every answered item by one of the first half of the people and one of the others; the second person is the busiest.
ANSWERS = """
INSERT INTO labeling_ranking (public_id, item_id, campaign_id, user_id, labeler, origin, status, tiers, cannot_tell,
       shown_order, flags, rationale, active_ms, protocol, guidelines_version, kind, late, created_at)
SELECT lpad(n || '-' || k, 12, 'r'), item.id, item.campaign_id, person.user_id, person.labeler, 'person', 'accepted',
       CASE WHEN dice < 5 THEN '[]' WHEN dice < 15 THEN '[[0, 1]]' WHEN dice < 55 THEN '[[0], [1]]'
            ELSE '[[1], [0]]' END::jsonb, dice < 5, CASE WHEN n %% 2 = 0 THEN '[0, 1]' ELSE '[1, 0]' END::jsonb,
       CASE WHEN dice = 50 THEN '["opinion"]' ELSE '[]' END::jsonb,
       CASE WHEN dice = 51 THEN 'It says what to do.' ELSE '' END, (4000 * exp(2 * random()))::int, 'pair', 1,
       'normal', false, now() - interval '60 days' * (1 - n::float / %(answered)s)
FROM (SELECT n, k, (('x' || md5(n || '/' || k))::bit(32)::bigint & 65535) %% 100 AS dice
      FROM generate_series(1, %(answered)s) n, generate_series(0, 1) k) given
JOIN labeling_item item ON item.campaign_id = %(campaign)s AND item.public_id = lpad(n::text, 12, '0')
JOIN (SELECT user_id, labeler, row_number() OVER (ORDER BY user_id) - 1 AS place FROM labeling_contribution
      WHERE campaign_id = %(campaign)s) person
  ON person.place = CASE WHEN k = 0 AND n %% %(busy)s = 0 THEN 1 ELSE k * %(half)s + (n / %(busy)s) %% %(half)s END
ORDER BY n, k;
UPDATE labeling_slot slot
SET state = 'done', user_id = given.user_id, lease = gen_random_uuid(), leased_at = given.created_at,
    expires_at = given.created_at, shown_order = given.shown_order
FROM (SELECT id, item_id, row_number() OVER (PARTITION BY item_id ORDER BY id) AS place FROM labeling_slot
      WHERE campaign_id = %(campaign)s) numbered
JOIN (SELECT *, row_number() OVER (PARTITION BY item_id ORDER BY id) AS place FROM labeling_ranking
      WHERE campaign_id = %(campaign)s) given USING (item_id, place)
WHERE slot.id = numbered.id;
INSERT INTO labeling_gold (item_id, campaign_id, tiers, explanation, created_at)
SELECT id, campaign_id, '[[0], [1]]', 'The other one promises too much.', now() FROM labeling_item
WHERE campaign_id = %(campaign)s ORDER BY id DESC LIMIT 200;
INSERT INTO labeling_ranking (public_id, item_id, campaign_id, user_id, labeler, origin, status, tiers, shown_order,
       flags, rationale, active_ms, protocol, guidelines_version, kind, late, created_at)
SELECT lpad(row_number() OVER ()::text, 12, 'g'), item_id, given.campaign_id, given.user_id, labeler,
       'person', 'accepted', CASE WHEN random() < 0.8 THEN '[[0], [1]]' ELSE '[[1], [0]]' END::jsonb,
       '[0, 1]', '[]', '', 9000, 'pair', 1,
       'gold', false, now()
FROM labeling_gold gold, labeling_contribution given
WHERE gold.campaign_id = %(campaign)s AND given.campaign_id = %(campaign)s;
INSERT INTO labeling_ranking (public_id, item_id, campaign_id, user_id, labeler, origin, status, tiers, shown_order,
       flags, rationale, active_ms, protocol, guidelines_version, kind, late, created_at)
SELECT lpad(id::text, 12, 'a'), item_id, campaign_id, user_id, labeler, 'person', 'accepted', tiers, shown_order, '[]',
       '', 9000, 'pair', 1, 'repeat', false, now()
FROM labeling_ranking WHERE campaign_id = %(campaign)s AND kind = 'normal' AND id %% 25 = 0 AND NOT cannot_tell;
INSERT INTO labeling_skip (campaign_id, item_id, user_id, reason, note, created_at)
SELECT campaign_id, id, (SELECT min(user_id) FROM labeling_contribution) + id / 50 %% %(people)s, 'unclear', '', now()
FROM labeling_item WHERE campaign_id = %(campaign)s AND id %% 50 = 0;
INSERT INTO labeling_review (campaign_id, item_id, ranking_id, reviewer_id, verdict, comment, created_at)
SELECT campaign_id, item_id, id, (SELECT min(user_id) FROM labeling_contribution), 'accept', '', now()
FROM labeling_ranking WHERE campaign_id = %(campaign)s AND kind = 'normal' AND flags <> '[]';
INSERT INTO labeling_leak (campaign_id, item_id, index, what, excerpt, held, created_at)
SELECT campaign_id, id, 0, 'ChatGPT', '… as ChatGPT I …', false, now()
FROM labeling_item WHERE campaign_id = %(campaign)s AND id %% 10 = 0;
INSERT INTO labeling_auditentry (campaign_id, actor_name, verb, target, facts, created_at)
SELECT %(campaign)s, 'person0', 'items.release', n::text, '{}', now() FROM generate_series(1, 200000) n;
UPDATE labeling_contribution given
SET done = counted.done, checks = counted.checks
FROM (SELECT user_id, count(*) FILTER (WHERE kind = 'normal') AS done,
             count(*) FILTER (WHERE kind <> 'normal') AS checks FROM labeling_ranking GROUP BY user_id) counted
WHERE counted.user_id = given.user_id;
VACUUM ANALYZE
"""
Row = dict[str, Any]


def main() -> None:
    options = _options()
    var = options.keep or Path(tempfile.mkdtemp(prefix="prefloop-bench-"))
    os.environ["PREFLOOP_VAR"] = str(var)
    if not options.keep:
        atexit.register(shutil.rmtree, var, ignore_errors=True)  # first in, last out: after the server has stopped
    campaign = _campaign_again() if (var / "filled").exists() else _fill(options.items)
    (var / "filled").touch()
    from labeling.quality.statistics import kept_statistics, refresh

    begun = time.perf_counter()
    if not kept_statistics(campaign).current:
        refresh(campaign)
    print(f"Statistics took {time.perf_counter() - begun:.1f} s, which a worker spends.\n")
    rows = [measure(name, client, path, options.times) for name, client, path in pages_of(campaign, options.only)]
    if options.json:
        options.json.write_text(json.dumps({"load": os.getloadavg(), "pages": rows}, indent=1))
    report(rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=20, help="that each page is asked for")
    parser.add_argument("--only", default="", help="pages whose name begins like this")
    parser.add_argument("--keep", type=Path, help="a folder for the database, to measure again")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _campaign_again() -> Campaign:
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    django.setup()
    from django.core.management import call_command

    from labeling.models import Campaign

    call_command("migrate", verbosity=0)
    return Campaign.objects.get(name="Load")


def _fill(items: int) -> Campaign:
    """A million of everything, in about ten minutes."""
    sites.set_up(PEOPLE)
    from django.contrib.auth.hashers import make_password
    from django.db import connection

    from accounts.models import User
    from config.push import connection_parameters
    from labeling.models import Campaign, Contribution, Membership, QualityRules

    campaign = Campaign.objects.get()
    people = list(User.objects.order_by("pk"))
    Contribution.objects.bulk_create(Contribution(campaign=campaign, user=user) for user in people)
    QualityRules.objects.create(campaign=campaign, check_every=10, review_share=2, hourly_pay=15)
    unusable = make_password(None)
    more = User.objects.bulk_create(User(username=f"member{n}", password=unusable) for n in range(MEMBERS - PEOPLE))
    Membership.objects.bulk_create(Membership(campaign=campaign, user=user, role="annotator") for user in more)
    others = Campaign.objects.bulk_create(
        Campaign(name=f"Another {n}", state="open", created_by=people[0]) for n in range(CAMPAIGNS)
    )
    Membership.objects.bulk_create(Membership(campaign=one, user=people[0], role="manager") for one in others)
    sites.fill(connection_parameters() | {"dbname": connection.settings_dict["NAME"]}, 1, items)
    parameters = {"campaign": campaign.pk, "answered": items // 2, "busy": BUSY, "half": PEOPLE // 2, "people": PEOPLE}
    with connection.cursor() as cursor:
        for statement in ANSWERS.strip().split(";\n"):
            cursor.execute(statement, parameters if "%" in statement else None)
    return campaign


def pages_of(campaign: Campaign, only: str) -> list[tuple[str, Client, str]]:
    """What a manager opens, and an annotator's own list."""
    from django.test import Client

    from accounts.models import User

    manager, busy = (Client(headers={"host": "127.0.0.1"}) for _ in range(2))
    busiest = campaign.contributions.order_by("-done").select_related("user")[0].user
    manager.force_login(User.objects.get(username="person0"))
    busy.force_login(busiest)
    items = campaign.items.order_by("pk").values_list("pk", "public_id")
    deep, last = items[items.count() * 9 // 10][0], campaign.rankings.order_by("-pk")[25_000].pk
    base = f"/campaigns/{campaign.public_id}/"
    asked = {
        "campaigns": (manager, "/campaigns/"),
        "overview": (manager, base),
        "overview, live part": (manager, f"{base}live"),
        "items, first page": (manager, f"{base}items/"),
        "items, deep page": (manager, f"{base}items/?after={deep}"),
        "item": (manager, f"{base}items/{items[1000][1]}/"),
        "import": (manager, f"{base}import"),
        "gold": (manager, f"{base}quality/gold"),
        "leaks": (manager, f"{base}leaks/"),
        "quality": (manager, f"{base}quality/"),
        "person, 50,000 answers": (manager, f"{base}quality/{busiest.pk}/"),
        "review": (manager, f"{base}review/"),
        "members": (manager, f"{base}members"),
        "invitations": (manager, f"{base}invitations/"),
        "report": (manager, f"{base}report"),
        "health": (manager, f"{base}health"),
        "settings": (manager, f"{base}settings"),
        "questions": (manager, f"{base}questions"),
        "rules": (manager, f"{base}quality/rules"),
        "webhooks": (manager, f"{base}webhooks/"),
        "log": (manager, f"{base}log"),
        "log of one verb": (manager, f"{base}log?verb=member.set"),
        "pay.csv": (manager, f"{base}pay.csv"),
        "own answers, first page": (busy, f"{base}label/answers/"),
        "own answers, deep page": (busy, f"{base}label/answers/?before={last}"),
        "annotator's overview": (busy, base),
    }
    return [(name, client, path) for name, (client, path) in asked.items() if name.startswith(only)]


def measure(name: str, client: Client, path: str, times: int) -> Row:
    """One page, after it was asked for once."""
    from django.db import connection

    asked: list[tuple[float, str]] = []

    def timed(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        begun = time.perf_counter()
        try:
            return execute(sql, *rest)
        finally:
            asked.append((1000 * (time.perf_counter() - begun), " ".join(sql.split())[:300]))

    with connection.execute_wrapper(timed):
        _visit(client, path)
    waits = sorted(_visit(client, path) for _ in range(times))
    row = {
        "page": name,
        "p50": waits[len(waits) // 2],
        "p95": waits[int(len(waits) * 0.95)],
        "statements": len(asked),
        "slowest": max(asked),
    }
    print(f"  {row}", flush=True)
    return row


def _visit(client: Client, path: str) -> float:
    begun = time.perf_counter()
    response = client.get(path)
    assert response.status_code == 200 and response.getvalue(), (path, response.status_code)
    return 1000 * (time.perf_counter() - begun)


def report(rows: list[Row]) -> None:
    print(
        f"\ncampaign_pages: load {os.getloadavg()[0]:.1f}\n\n| page | p50 ms | p95 ms | statements |\n|---|---|---|---|"
    )
    for row in rows:
        print(f"| {row['page']} | {row['p50']:.0f} | {row['p95']:.0f} | {row['statements']} |")


if __name__ == "__main__":
    main()

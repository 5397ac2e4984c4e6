"""How long an annotator waits for the next item after a submit: the server's share, from claim to commit.

A throw-away PostgreSQL holds one campaign with SLOTS slots (1,000,000). PEOPLE annotators (200) submit and get the next
item without a pause, spread over PROCESSES processes (one per core), for SECONDS (20). Real annotators read in between;
so this is far more load than that many people make. The target is a p95 under 30 ms.

Then the same with the queue ordered by what teaches most, while a worker orders it anew every EVERY (2) seconds; and
how long that takes, and how much memory.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle
from typing import Any

SLOTS = int(os.environ.get("SLOTS", 1_000_000))
PEOPLE = int(os.environ.get("PEOPLE", 200))
SECONDS = float(os.environ.get("SECONDS", 20))
PROCESSES = int(os.environ.get("PROCESSES", os.cpu_count() or 1))
EVERY = float(os.environ.get("EVERY", 2))
TARGET_MS = 30.0

FILL = """
INSERT INTO labeling_item (campaign_id, public_id, messages, content_hash, meta, created_at)
SELECT %(campaign)s, lpad(n::text, 12, '0'), '[{"role": "user", "content": "Which reply helps?"}]',
       lpad(n::text, 64, '0'), '{}', now()
FROM generate_series(1, %(slots)s) n;
INSERT INTO labeling_completion (item_id, index, messages, source, meta)
SELECT id, k, '[{"role": "assistant", "content": "This one, I hope."}]',
       'model ' || (id + k * (1 + id / 8 %% 7)) %% 8, '{}'
FROM labeling_item, generate_series(0, 1) k;
INSERT INTO labeling_slot (campaign_id, item_id, state, priority, random_key, shown_order)
SELECT %(campaign)s, id, 'open', 0, random(), '[]' FROM labeling_item;
"""


def main() -> None:
    var = tempfile.mkdtemp(prefix="prefloop-bench-")
    os.environ["PREFLOOP_VAR"] = var
    atexit.register(shutil.rmtree, var, ignore_errors=True)  # first in, last out: after the server has stopped
    fill()
    report("at random", people_at_work())
    order_once()
    ended = threading.Event()
    worker = threading.Thread(target=order_anew, args=[ended])
    worker.start()
    report("ordered anew all the time", people_at_work())
    ended.set()
    worker.join()
    check()


def people_at_work() -> list[float]:
    """Milliseconds of every submit and next, sorted."""
    command = [sys.executable, "-m", "benchmarks.next_item"]
    shares = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(PROCESSES)]
    return sorted(wait for share in shares for wait in json.loads(share.communicate()[0]))


def order_once() -> None:
    """Switch the order on, and say what choosing costs."""
    from labeling.campaigns import update_campaign
    from labeling.models import Campaign, Slot
    from labeling.queue.steering import order_queues

    update_campaign(Campaign.objects.get(), order="informative")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, computing = time.perf_counter(), time.process_time()
    order_queues()
    seconds, computed = time.perf_counter() - started, time.process_time() - computing
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    chosen = Slot.objects.filter(priority__lt=0).count()
    print(f"  choosing {chosen:,} slots: {seconds:.2f} s, {computed:.2f} s of it computing, {more / 1024:.0f} MB more")


def order_anew(ended: threading.Event) -> None:
    """What a worker does, whether it is due or not."""
    from django.db import connections

    from labeling.models import Steering
    from labeling.queue.steering import order_queues

    times = 0
    while not ended.wait(EVERY):
        Steering.objects.update(wanted=True)
        times += order_queues()
    connections.close_all()
    print(f"  it was ordered anew {times} times meanwhile")


def set_up() -> None:
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    django.setup()


def fill() -> None:
    """One open campaign with one slot per item, and its annotators."""
    set_up()
    from django.core.management import call_command
    from django.db import connection

    from accounts.models import User
    from labeling.models import Campaign, Membership

    started = time.perf_counter()
    call_command("migrate", verbosity=0)
    people = User.objects.bulk_create(User(username=f"person{n}", password="!") for n in range(PEOPLE))
    campaign = Campaign.objects.create(name="Benchmark", state="open", created_by=people[0])
    Membership.objects.bulk_create(Membership(campaign=campaign, user=user) for user in people)
    with connection.cursor() as cursor:
        for statement in FILL.strip().split(";")[:-1]:
            cursor.execute(statement, {"campaign": campaign.pk, "slots": SLOTS})
        cursor.execute("VACUUM ANALYZE")
    print(f"next_item: {SLOTS:,} slots in {time.perf_counter() - started:.0f} s.", flush=True)


def share(number: int) -> list[float]:
    """Annotators of one process take turns: submit, get the next. Milliseconds of each."""
    set_up()
    from django.utils import timezone

    from accounts.models import User
    from labeling.access import get_lease
    from labeling.models import Campaign
    from labeling.queue.annotation import submit_and_claim
    from labeling.queue.assignment import claim_next

    campaign = Campaign.objects.get()
    people = list(User.objects.order_by("pk"))[number::PROCESSES]
    tasks: list[Any] = [claim_next(user, campaign, now=timezone.now()) for user in people]
    waits: list[float] = []
    until = time.monotonic() + SECONDS
    for place in cycle(range(len(people))):
        if time.monotonic() > until:
            return waits
        started = time.perf_counter()
        lease = get_lease(people[place], tasks[place].lease)
        _, tasks[place] = submit_and_claim(people[place], lease, now=timezone.now(), tiers=[[0], [1]], active_ms=5000)
        waits.append(1000 * (time.perf_counter() - started))
    return waits


def report(order: str, waits: list[float]) -> None:
    p50, p95, p99 = (waits[int(len(waits) * part)] for part in (0.5, 0.95, 0.99))
    print(f"  {order}:")
    print(f"  {PEOPLE} people in {PROCESSES} processes, {len(waits):,} answers, {len(waits) / SECONDS:,.0f} per second")
    print(f"  submit and next: p50 {p50:.1f} ms, p95 {p95:.1f} ms (target: under {TARGET_MS:.0f}), p99 {p99:.1f} ms")


def check() -> None:
    """Nothing was given out twice and nothing was lost."""
    from django.db.models import Count

    from labeling.models import Ranking, Slot

    done = Slot.objects.filter(state="done").count()
    twice = Ranking.objects.values("item").annotate(times=Count("id")).filter(times__gt=1).count()
    print(f"  {done:,} slots done, {Ranking.objects.count():,} rankings, {twice} items answered twice")
    if twice or done != Ranking.objects.count():
        raise SystemExit("The queue gave something out twice, or lost an answer.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        json.dump(share(int(sys.argv[1])), sys.stdout)
    else:
        main()

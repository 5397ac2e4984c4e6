"""Sites for `labeling_load`: databases of several sizes on one throw-away PostgreSQL, each behind a uvicorn."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

PASSWORD = "a long enough password"  # noqa: S105
OVERLAP = 2
# Prompts of some 60 words, answers of some 120, no two alike, with the markdown that models write.
FILL = """
INSERT INTO labeling_item (campaign_id, public_id, messages, content_hash, meta, created_at)
SELECT %(campaign)s, lpad(n::text, 12, '0'), jsonb_build_array(jsonb_build_object('role', 'user', 'content',
       'Question ' || n || ': ' || repeat('my parcel has not come and nobody answers, what shall I do now? ', 5))),
       lpad(n::text, 64, '0'), '{}', now()
FROM generate_series(%(first)s::int, %(last)s::int) n;
INSERT INTO labeling_completion (item_id, index, messages, source, meta)
SELECT id, k, jsonb_build_array(jsonb_build_object('role', 'assistant', 'content',
       'I am sorry to hear that. For **parcel ' || id || '-' || k || '**:' || chr(10) || chr(10)
       || repeat('1. Look up where the parcel is, with the number that you were sent' || chr(10), 4) || chr(10)
       || repeat('If nothing helps, write to us again and we will send you a new one. ', 6))),
       'model ' || k, '{}'
FROM labeling_item, generate_series(0, 1) k WHERE public_id >= lpad(%(first)s::text, 12, '0');
INSERT INTO labeling_slot (campaign_id, item_id, state, priority, random_key, shown_order)
SELECT %(campaign)s, id, 'open', 0, random(), '[]'
FROM labeling_item, generate_series(1, %(overlap)s) WHERE public_id >= lpad(%(first)s::text, 12, '0')
"""
# As it was before anybody worked: every run begins alike.
RESET = """
TRUNCATE labeling_ranking, labeling_lapsedlease, labeling_contribution CASCADE;
UPDATE labeling_slot SET state = 'open', user_id = NULL, lease = NULL, leased_at = NULL, expires_at = NULL,
       shown_order = '[]', random_key = random() WHERE state <> 'open'
"""
# What makes the database write to its log before it says "committed": each transaction that has a number.
TRANSACTIONS = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"


@dataclass
class Site:
    """A database with `slots` slots, and the server in front of it."""

    slots: int
    port: int
    database: dict[str, Any]
    process: subprocess.Popen[bytes]

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(**self.database, autocommit=True)

    def reset(self) -> None:
        with self.connect() as connection:
            for statement in RESET.split(";"):
                connection.execute(statement)
            connection.execute("VACUUM (ANALYZE) labeling_slot")
            connection.execute("CHECKPOINT")

    def mistakes(self, answers: int) -> int:
        """Slots given out twice, people with an item twice, answers lost; after so many answers."""
        with self.connect() as connection:
            return sum(
                connection.execute(query).fetchone()[0]  # type: ignore[index]
                for query in (
                    f"SELECT abs(count(*) - {answers}) FROM labeling_ranking",
                    f"SELECT abs(count(*) - {answers}) FROM labeling_slot WHERE state = 'done'",
                    "SELECT count(*) - count(DISTINCT slot_id) FROM labeling_ranking",
                    "SELECT count(*) - count(DISTINCT (item_id, user_id)) FROM labeling_ranking",
                )
            )

    def processor_seconds(self) -> float:
        """What this site's processes and PostgreSQL's have computed so far."""
        server = int((Path(self.database["host"]) / "postmaster.pid").read_text().split()[0])
        return sum(_computed(psutil.Process(pid)) for pid in (self.process.pid, server))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def _computed(process: psutil.Process) -> float:
    """By a process and those below it, also those that have ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:4])) + sum(map(_computed, process.children()))
    return 0.0


def start_site(slots: int, database: dict[str, Any], workers: int, log: Path) -> Site:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
    # Behind a proxy that says where people come from: else they would all sign in from one address.
    # Nobody answers as fast as one annotator of ours, who would be taken for a script that runs wild.
    environment = os.environ | {"PREFLOOP_DATABASE": database["dbname"], "TRUST_PROXY": "true", "RATE_LIMIT": "0"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--workers", str(workers), "--no-server-header"], env=environment, stdout=file, stderr=file
        )
    atexit.register(process.terminate)  # should anything fail
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
            return Site(slots, port, database, process)
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"No site on port {port}:\n{log.read_text()[-2000:]}")


def set_up(people: int) -> tuple[str, list[str]]:
    """The schema, an open campaign without items and its annotators. Returns its public id and their names."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    django.setup()
    from django.contrib.auth.hashers import make_password
    from django.core.management import call_command

    from accounts.models import User
    from labeling.models import Campaign, Membership

    call_command("migrate", verbosity=0)
    hashed = make_password(PASSWORD)
    users = User.objects.bulk_create(User(username=f"person{n}", password=hashed) for n in range(people))
    campaign = Campaign.objects.create(name="Load", state="open", overlap=OVERLAP, created_by=users[0])
    roles = ["manager"] + ["annotator"] * (people - 1)
    Membership.objects.bulk_create(
        Membership(campaign=campaign, user=user, role=role) for user, role in zip(users, roles, strict=True)
    )
    return campaign.public_id, [user.username for user in users]


def fill(database: dict[str, Any], first: int, last: int) -> None:
    """Add the items numbered `first` to `last`, with their slots."""
    with psycopg.connect(**database, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        campaign = connection.execute("SELECT id FROM labeling_campaign").fetchone()[0]  # type: ignore[index]
        parameters = {"campaign": campaign, "first": first, "last": last, "overlap": OVERLAP}
        for statement in FILL.strip().split(";"):
            connection.execute(statement, parameters)
        connection.execute("UPDATE labeling_campaign SET slot_count = %s", [last * OVERLAP])
        connection.execute("VACUUM ANALYZE")


def statements_in(log: str) -> list[str]:
    """The statements in a PostgreSQL log written under `log_statement = all`."""
    return re.findall(r"LOG:  (?:statement|execute [^:]*): *(.*)", log)

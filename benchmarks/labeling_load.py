"""How fast annotators get their next item, over HTTP, at a million slots.

A throw-away PostgreSQL (durable commits, as in use) holds one campaign twice: with 10,000 and with 1,000,000 slots, two
for each item. Before each stands uvicorn with two processes. People sign in through the form; then each submits an
answer and gets the next item with one request, by the API as well as by the page, which is rendered with its markdown.
1, 8, 32 and 200 people do so without a pause; at last 200 who take about 20 seconds for an answer. Runs on both sizes
alternate, and every run begins with the same queue.

Beside it: statements and durable commits of one submit with next, what was given out twice or lost, how many one-row
transactions a second this PostgreSQL commits by itself, and the processor time of an answer, which other work on the
machine disturbs less than the clock: of uvicorn's processes and PostgreSQL's, and the share of a core that the process
takes which makes the load.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from benchmarks import _labeling_site as sites
from benchmarks._annotators import Order, Person, Shift, sign_in, visit

SIGNING_IN = 4  # at once
FLOOR = "INSERT INTO floor (note) VALUES ('an answer');"
PAGES = ("", "live", "items/", "members", "report", "quality/", "health", "settings", "log", "label/", "label/answers/")
Run = dict[str, Any]


def main() -> None:
    options = _options()
    var = Path(tempfile.mkdtemp(prefix="prefloop-bench-"))
    os.environ["PREFLOOP_VAR"] = str(var)
    atexit.register(shutil.rmtree, var, ignore_errors=True)  # first in, last out: after the server has stopped
    campaign, names = sites.set_up(options.people)
    small, large, people = _open_sites(var, options, names)
    try:
        result = {
            "load": os.getloadavg(),
            "floor": floor(small, options.seconds),
            "statements": {name: statements(small, campaign, people[0], name, var) for name in options.interfaces},
            "runs": [
                run(site, campaign, people, interface, count, options.seconds)
                for _ in range(options.repeats)
                for interface in options.interfaces
                for count in (1, 8, 32, options.people)
                for site in (small, large)
            ],
            "pages": [pages(site, campaign, people[0]) for site in (small, large)],
            "at_ease": [
                run(site, campaign, people, interface, options.people, options.ease, think=20.0)
                for interface in options.interfaces
                for site in (small, large)
                if options.ease
            ],
        }
    finally:
        small.stop()
        large.stop()
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    report(result, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, nargs=2, default=[10_000, 1_000_000], metavar=("SMALL", "LARGE"))
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, help="processes of uvicorn")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a run")
    parser.add_argument("--ease", type=float, default=60.0, help="seconds of a run of people who think")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--interfaces", nargs="+", choices=["api", "page"], default=["api", "page"])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _open_sites(
    var: Path, options: argparse.Namespace, names: list[str]
) -> tuple[sites.Site, sites.Site, list[Person]]:
    """Both sites, and their people signed in. The large database is a copy of the small one, with its sessions."""
    from django.db import connection

    from config.push import connection_parameters

    database = connection_parameters() | {"dbname": connection.settings_dict["NAME"]}
    connection.close()  # a database that is in use cannot be copied
    small, large = (slots // sites.OVERLAP for slots in options.slots)
    sites.fill(database, 1, small)
    entrance = sites.start_site(options.slots[0], database, options.workers, var / "entrance.log")
    people = asyncio.run(_sign_in(entrance.port, names))
    entrance.stop()
    copy = database | {"dbname": "large"}
    with psycopg.connect(**database | {"dbname": "template1"}, autocommit=True) as control:
        control.execute(f"CREATE DATABASE large TEMPLATE {database['dbname']}")
    sites.fill(copy, small + 1, large)
    opened = [
        sites.start_site(slots, where, options.workers, var / f"{where['dbname']}.log")
        for slots, where in zip(options.slots, (database, copy), strict=True)
    ]
    return opened[0], opened[1], people


async def _sign_in(port: int, names: list[str]) -> list[Person]:
    limit = asyncio.Semaphore(SIGNING_IN)

    async def one(number: int, name: str) -> Person:
        async with limit:
            return await sign_in(port, name, sites.PASSWORD, f"10.0.{number // 250}.{number % 250}")

    return list(await asyncio.gather(*(one(number, name) for number, name in enumerate(names))))


def run(
    site: sites.Site, campaign: str, people: list[Person], interface: str, count: int, seconds: float, think: float = 0
) -> Run:
    """One run, from a fresh queue; its numbers."""
    site.reset()
    work(Order(site.port, campaign, interface, people[:count], 1.0))  # warm connections and caches
    site.reset()
    before = site.processor_seconds()
    shift = work(Order(site.port, campaign, interface, people[:count], seconds, think))
    computed = site.processor_seconds() - before
    if shift.refused:
        raise SystemExit(f"{shift.refused} answers were refused.")
    waits = sorted(shift.submit)
    row = {
        "slots": site.slots,
        "interface": interface,
        "people": count,
        "think": think,
        "answers": len(waits),
        "per_second": len(waits) / shift.seconds,
        **{f"p{part}": waits[int(len(waits) * part / 100)] for part in (50, 95, 99)},
        "cpu_ms": 1000 * computed / len(waits),
        "generator": shift.cpu / shift.seconds,
        "mistakes": site.mistakes(len(waits)),
        "load": os.getloadavg()[0],
    }
    print(f"  {row}", file=sys.stderr, flush=True)
    return row


def work(order: Order) -> Shift:
    command = [sys.executable, "-m", "benchmarks._annotators"]
    done = subprocess.run(command, input=json.dumps(asdict(order)), stdout=subprocess.PIPE, text=True, check=True)
    return Shift(**json.loads(done.stdout))


def pages(site: sites.Site, campaign: str, manager: Person) -> dict[str, float]:
    """Milliseconds that each page of the campaign takes, at the median; the campaign has some thousand answers."""
    path = f"/campaigns/{campaign}/"
    return {name: median(asyncio.run(visit(site.port, manager, path + name, 7))[1:]) for name in PAGES}


def statements(site: sites.Site, campaign: str, person: Person, interface: str, var: Path) -> Run:
    """What one submit with next asks of the database: its statements and how many of its commits are durable.

    An average over the requests of some seconds, after others: what a new connection asks first is not counted.
    """
    site.reset()
    work(Order(site.port, campaign, interface, [person], 2.0))
    log = var / "postgres" / "log"
    with site.connect() as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("SELECT pg_sleep(1)")
        before, start = connection.execute(sites.TRANSACTIONS).fetchone(), log.stat().st_size
        shift = work(Order(site.port, campaign, interface, [person], 5.0))
        after, end = connection.execute(sites.TRANSACTIONS).fetchone(), log.stat().st_size
        connection.execute("ALTER SYSTEM RESET log_statement")
        connection.execute("SELECT pg_reload_conf()")
    with log.open("rb") as file:
        file.seek(start)
        found = sites.statements_in(file.read(end - start).decode(errors="replace"))
    requests = len(shift.submit) + len(shift.next)
    kinds = Counter(statement[:60] for statement in found)
    return {
        "statements": len(found) / requests,
        "commits": (after[0] - before[0]) / requests,  # type: ignore[index]
        "kinds": {kind: round(times / requests, 2) for kind, times in kinds.most_common(20)},
    }


def floor(site: sites.Site, seconds: float) -> dict[int, float]:
    """One-row transactions that this PostgreSQL commits a second, by number of connections (pgbench)."""
    from config.embedded.server import binaries

    with site.connect() as connection:
        connection.execute("CREATE TABLE floor (id bigserial PRIMARY KEY, note text)")
    address = ["-h", site.database["host"], "-p", str(site.database["port"]), "-U", site.database["user"]]
    found = {}
    for clients in (1, 8, 32):
        command = [str(binaries() / "pgbench"), *address, "-n", "-c", str(clients), "-T", str(max(5, int(seconds)))]
        done = subprocess.run(
            [*command, "-f", "/dev/stdin", site.database["dbname"]],
            input=FLOOR,
            capture_output=True,
            text=True,
            check=True,
        )
        found[clients] = float(done.stdout.split("tps = ")[1].split()[0])
    with site.connect() as connection:
        connection.execute("DROP TABLE floor")
    return found


def report(result: Run, options: argparse.Namespace) -> None:
    print(f"labeling_load: load {result['load'][0]:.1f} at the start, medians of {options.repeats} repeats")
    rates = ", ".join(f"{rate:,.0f} over {clients}" for clients, rate in result["floor"].items())
    print(f"\nPostgreSQL alone commits one-row transactions: {rates} connections.")
    for name, counted in result["statements"].items():
        print(f"{name}: {counted['statements']:.1f} statements, {counted['commits']:.2f} durable commits.")
    print("\n| interface | people | think | slots | per s | p50 ms | p95 ms | p99 ms | p95 grows | CPU ms | wrong |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for rows in grouped([*result["runs"], *result["at_ease"]]):
        small = median(row["p95"] for row in rows if row["slots"] == options.slots[0])
        for slots in options.slots:
            of = [row for row in rows if row["slots"] == slots]
            names = ("per_second", "p50", "p95", "p99", "cpu_ms")
            rate, p50, p95, p99, cpu = (median(row[name] for row in of) for name in names)
            growth = f"{p95 / small:.2f}" if slots == options.slots[1] else ""
            print(
                f"| {of[0]['interface']} | {of[0]['people']} | {of[0]['think']:.0f} s | {slots:,} | {rate:,.1f} "
                f"| {p50:.1f} | {p95:.1f} | {p99:.1f} | {growth} | {cpu:.1f} | {sum(row['mistakes'] for row in of)} |"
            )
    print(
        "\n| page of the campaign | "
        + " | ".join(f"{slots:,} slots, ms" for slots in options.slots)
        + " |\n|---|---|---|"
    )
    for name in PAGES:
        print(f"| {name or 'overview'} | " + " | ".join(f"{times[name]:.0f}" for times in result["pages"]) + " |")
    print(f"\nThe load took {max((row['generator'] for row in result['runs']), default=0):.0%} of a core at most.")


def grouped(rows: list[Run]) -> list[list[Run]]:
    """Rows that differ in size only, together."""
    groups: dict[tuple[str, int, float], list[Run]] = {}
    for row in rows:
        groups.setdefault((row["interface"], row["people"], row["think"]), []).append(row)
    return list(groups.values())


if __name__ == "__main__":
    main()

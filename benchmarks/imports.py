"""A large file brought in by a worker: rows per second, memory, and what a worker that is killed costs.

A throw-away PostgreSQL. ROWS (1,000,000) pairs, one line in a thousand broken, as JSON lines, or as KIND says (csv.gz,
parquet). The worker is killed with SIGKILL at 40 %, and another goes on. Speed must not fall while the campaign grows,
memory must not grow with the file. `--json FILE` keeps the numbers.
"""

from __future__ import annotations

import argparse
import atexit
import csv
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ROWS = int(os.environ.get("ROWS", 1_000_000))
KIND = os.environ.get("KIND", "jsonl")
BROKEN = 1000  # every such line
KILLED_AT = 0.4
QUESTION = "My parcel {n} has not come and nobody answers. What shall I do now? I ordered it weeks ago. "
ANSWER = "I am sorry to hear that. Look up where parcel {n} is, with the number that you were sent. Reply {k}. "


def rows() -> Iterator[dict[str, Any]]:
    for n in range(ROWS):
        answers = [ANSWER.format(n=n, k=k) * 2 for k in range(2)]
        prompt = QUESTION.format(n=n) if n % BROKEN else ""
        yield {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}


def write(path: Path) -> None:
    """The file, a row at a time."""
    if KIND == "parquet":
        from labeling.data.parquet import write_parquet

        with path.open("wb") as file:
            file.writelines(write_parquet(rows(), dict.fromkeys(("prompt", "chosen", "rejected"), "text")))
    elif KIND == "csv.gz":
        with gzip.open(path, "wt", compresslevel=1) as text:
            writer = csv.DictWriter(text, ["prompt", "chosen", "rejected"])
            writer.writeheader()
            writer.writerows(rows())
    else:
        with path.open("w") as text:
            text.writelines(json.dumps(row) + "\n" for row in rows())


def work() -> None:
    """A worker that ends when nothing waits."""
    import django

    django.setup()
    from labeling.data.uploads import import_waiting

    while not import_waiting(lambda: False):
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", nargs="?")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if options.work:
        work()
        return
    var = tempfile.mkdtemp(prefix="prefloop-bench-")
    os.environ["PREFLOOP_VAR"] = var
    atexit.register(shutil.rmtree, var, ignore_errors=True)  # first in, last out: after the server has stopped
    found = measure(Path(var) / f"rows.{KIND}")
    report(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def measure(path: Path) -> dict[str, Any]:
    """Store the file as an upload would, let workers import it, look every second."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from accounts.models import User
    from labeling.data.uploads import store_upload
    from labeling.models import Campaign

    write(path)
    boss = User.objects.create_user("boss", role="admin")
    campaign = Campaign.objects.create(name="Large", created_by=boss)
    started = time.perf_counter()
    with path.open("rb") as file:
        record = store_upload(campaign, io.BufferedReader(file), name=path.name)
    stored = time.perf_counter() - started

    worker, memory, killed, resumed = start(), 0, 0.0, 0.0
    computing: dict[int, float] = {}  # by process
    places = [(time.perf_counter(), 0)]
    while worker.poll() is None:
        time.sleep(0.25)
        resident, computing[worker.pid] = used(worker.pid, computing.get(worker.pid, 0.0))
        memory = max(memory, resident)
        record.refresh_from_db()
        if record.position > places[-1][1]:
            places.append((time.perf_counter(), record.position))
            if killed and not resumed:
                resumed = places[-1][0] - killed
        if not killed and record.position > KILLED_AT * ROWS:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            killed, worker = time.perf_counter(), start()
    record.refresh_from_db()
    assert record.finished_at and record.accepted == ROWS - len(range(0, ROWS, BROKEN)), record.accepted
    assert campaign.items.count() == record.accepted
    return {
        "rows": ROWS,
        "kind": KIND,
        "file_mb": path.stat().st_size / 1e6,
        "store_seconds": stored,
        "import_seconds": places[-1][0] - places[0][0],
        "rows_per_second": speed(places, 0.0, 1.0),
        "rows_per_second_first_tenth": speed(places, 0.0, 0.1),
        "rows_per_second_last_tenth": speed(places, 0.9, 1.0),
        "worker_cpu_seconds": sum(computing.values()),
        "worker_memory_mb": memory / 1e6,
        "seconds_until_a_killed_import_went_on": resumed,
        "refused": record.rejected,
        "load_average": os.getloadavg()[0],
    }


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.imports", "work"])


def used(pid: int, seconds: float) -> tuple[int, float]:
    """Bytes in memory and seconds computed so far; of a process that is gone, none and what is known."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return int(process.memory_info().rss), times.user + times.system
    except psutil.NoSuchProcess:
        return 0, seconds


def speed(places: list[tuple[float, int]], low: float, high: float) -> float:
    """Rows per second between two shares of the file; time in which a killed worker was missed counts, too."""
    inside = [place for place in places if low * ROWS <= place[1] <= high * ROWS]
    (first, before), (last, after) = inside[0], inside[-1]
    return (after - before) / (last - first)


def report(found: dict[str, Any]) -> None:
    print(f"{found['rows']:,} rows of {found['kind']}, {found['file_mb']:.0f} MB, load {found['load_average']:.1f}")
    print(f"  stored as an upload           {found['store_seconds']:8.1f} s")
    print(f"  imported                      {found['import_seconds']:8.1f} s")
    print(f"  rows per second               {found['rows_per_second']:8.0f}")
    print(
        f"    first and last tenth        {found['rows_per_second_first_tenth']:8.0f}"
        f" {found['rows_per_second_last_tenth']:8.0f}"
    )
    print(f"  the workers computed          {found['worker_cpu_seconds']:8.1f} s")
    print(f"  most memory of the worker     {found['worker_memory_mb']:8.0f} MB")
    print(f"  a killed import went on after {found['seconds_until_a_killed_import_went_on']:8.1f} s")


if __name__ == "__main__":
    main()

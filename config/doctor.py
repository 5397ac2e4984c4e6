"""What is wrong with a set-up, and what to change. Each check is a function; it finds nothing, or says what to do.

Values that cannot be right are refused by the settings themselves, which name the variable.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from accounts.models import SiteRole, User

OLDEST_POSTGRES = 14
GIB = 2**30
FULL, NEARLY_FULL = 1 * GIB, 10 * GIB
WRONG_CLOCK = timedelta(seconds=5)
SILENT_WORKER = timedelta(minutes=1)
ENGINE = "import torch, transformers, peft; print(torch.__version__, 'cuda' if torch.cuda.is_available() else 'cpu')"
CONNECTIONS_BESIDE = 8  # of a web process: websockets and the one that listens; of a worker: all


@dataclass(frozen=True)
class Finding:
    """`broken` keeps the site from working; else it is a warning."""

    what: str
    change: str
    broken: bool = True


Findings = Iterator[Finding]


def examine() -> dict[str, list[Finding]]:
    """What each check found, by the name of what is fine when it found nothing."""
    return {name: list(check()) for name, check in CHECKS.items()}


def database() -> Findings:
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        first = str(error).splitlines()[0]
        yield Finding(f"The database cannot be reached: {first}", "Start PostgreSQL, or correct DATABASE_URL.")
        return
    version = connection.get_database_version()[0]
    if version < OLDEST_POSTGRES:
        yield Finding(f"PostgreSQL {version} is too old.", f"Use PostgreSQL {OLDEST_POSTGRES} or newer.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('max_connections')::int, clock_timestamp()")
        most, its_time = cursor.fetchone()
    processes = int(os.environ.get("WEB_CONCURRENCY", 1))
    needed = processes * (settings.WEB_THREADS + CONNECTIONS_BESIDE) + CONNECTIONS_BESIDE
    if needed > most:
        yield Finding(
            f"{processes} web processes may need {needed} connections, PostgreSQL allows {most}.",
            "Raise max_connections, or lower WEB_CONCURRENCY or WEB_THREADS.",
        )
    apart = abs(timezone.now() - its_time)
    if apart > WRONG_CLOCK:
        yield Finding(
            f"The clocks of this machine and of the database are {apart.total_seconds():.0f} s apart.",
            "Let both follow a time server: leases and one-time codes end by the clock.",
        )


def migrations() -> Findings:
    try:
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return  # said already
    if waiting:
        first = f"{waiting[0][0].app_label}.{waiting[0][0].name}"
        yield Finding(f"{len(waiting)} migrations are missing, from {first} on.", "Run `manage.py migrate`.")


def addresses() -> Findings:
    if not settings.PRODUCTION:
        return
    trusted = {urlsplit(origin).hostname for origin in settings.CSRF_TRUSTED_ORIGINS}
    behind_proxy = settings.SECURE_PROXY_SSL_HEADER is not None
    if settings.SECURE_SSL_REDIRECT and not behind_proxy:
        yield Finding(
            "HTTPS is on, but no proxy is believed: if one ends TLS, every page redirects to itself for ever.",
            "Set TRUST_PROXY=true behind a proxy that sets X-Forwarded-Proto and X-Forwarded-For itself.",
            broken=False,
        )
    if behind_proxy and not trusted:
        yield Finding(
            "A proxy is believed, and no origin is: where it changes the Host header, all forms are refused (403).",
            f"Set CSRF_TRUSTED_ORIGINS=https://{settings.ALLOWED_HOSTS[0]}",
            broken=False,
        )
    if strangers := sorted(host for host in trusted if host and host not in settings.ALLOWED_HOSTS):
        yield Finding(
            f"Forms of {', '.join(strangers)} are trusted, but pages asked for there are refused (400).",
            f"Add {','.join(strangers)} to ALLOWED_HOSTS, or take it out of CSRF_TRUSTED_ORIGINS.",
        )
    if not settings.SECURE_SSL_REDIRECT:
        yield Finding(
            "HTTPS is off: passwords and sessions travel in the clear.",
            "Set HTTPS=true, unless this is a trial on one machine.",
            broken=False,
        )


def folders() -> Findings:
    for folder in (Path(settings.VAR), settings.RUNS_DIR, settings.SNAPSHOTS_DIR, settings.EXPORTS_DIR):
        if not os.access(folder, os.W_OK | os.X_OK):
            yield Finding(
                f"{folder} cannot be written to.", f"Give it to the user that runs Prefloop (uid {os.geteuid()})."
            )
        elif stat.S_IMODE(folder.stat().st_mode) & 0o066:
            yield Finding(f"Others can look into {folder}.", f"chmod go-rw {folder}", broken=False)
    key = Path(settings.VAR) / "secret_key"
    if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077:
        yield Finding(f"Others can read {key}.", f"chmod 600 {key}; if somebody may have, delete it and start again.")


def disk() -> Findings:
    free = shutil.disk_usage(settings.VAR).free
    if free < NEARLY_FULL:
        yield Finding(
            f"{free / GIB:.1f} GiB are left for {settings.VAR}.",
            "Make room, or set PREFLOOP_VAR to a larger disk: a checkpoint may need gigabytes.",
            broken=free < FULL,
        )


def static_files() -> Findings:
    if settings.STATIC_ROOT and not (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        yield Finding("Styles and scripts have not been collected.", "Run `manage.py collectstatic --no-input`.")


def engine() -> Findings:
    python = settings.ENGINE_PYTHON or sys.executable
    try:
        done = subprocess.run([python, "-c", ENGINE], capture_output=True, text=True, timeout=300)
        problem = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        yield Finding(
            f"{python} cannot train: {problem}",
            "Install requirements/engine.in where the worker runs, or set ENGINE_PYTHON to a Python that has it.",
            broken=False,
        )


def worker() -> Findings:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT max(last_heartbeat) FROM procrastinate_workers")
            seen = cursor.fetchone()[0]
    except DatabaseError:
        return
    if seen is None or timezone.now() - seen > SILENT_WORKER:
        since = f"since {seen:%Y-%m-%d %H:%M}" if seen else "yet"
        yield Finding(
            f"No worker has been heard of {since}.",
            "Start `manage.py worker`: runs, large imports, reports and webhooks wait for it.",
            broken=False,
        )


def people() -> Findings:
    try:
        admins = User.objects.filter(is_active=True, role=SiteRole.ADMIN)
        if not admins.exists():
            yield Finding("Nobody is an admin.", "Run `manage.py create_user NAME --role admin`.", broken=False)
        elif settings.PRODUCTION and admins.filter(authenticator=None).exists():
            yield Finding(
                "An admin signs in without a second factor.", "Set one up under Profile, two-factor.", broken=False
            )
    except DatabaseError:
        return


CHECKS: dict[str, Callable[[], Findings]] = {
    "The database answers.": database,
    "Its tables are those of this version.": migrations,
    "Addresses and proxy fit together.": addresses,
    "Folders are private, and can be written to.": folders,
    "There is room on the disk.": disk,
    "Styles and scripts are there.": static_files,
    "The engine can be started.": engine,
    "A worker is at work.": worker,
    "There is an admin.": people,
}

"""Each kind of bad set-up is named in a sentence, with what to change."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from accounts.models import User
from config import doctor

pytestmark = pytest.mark.django_db


def said(check: Callable[[], Iterator[doctor.Finding]]) -> str:
    return " ".join(f"{finding.what} {finding.change}" for finding in check())


def test_a_sound_set_up_is_called_so(admin: User, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    sound = dict.fromkeys(set(doctor.CHECKS) - {"There is an admin."}, lambda: iter(()))
    monkeypatch.setattr(doctor, "CHECKS", doctor.CHECKS | sound)
    call_command("doctor")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(doctor.CHECKS)
    assert all(line.startswith("ok ") for line in lines)


def test_what_is_broken_ends_the_command_with_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def away() -> None:
        raise OperationalError("connection refused\nmore")

    monkeypatch.setattr(connection, "ensure_connection", away)
    monkeypatch.setattr(doctor, "CHECKS", {"The database answers.": doctor.database})
    with pytest.raises(CommandError):
        call_command("doctor")
    out = capsys.readouterr().out
    assert "BROKEN   The database cannot be reached: connection refused" in out
    assert "-> Start PostgreSQL, or correct DATABASE_URL." in out


def test_the_database_has_to_be_new_enough_roomy_and_on_time(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    assert said(doctor.database) == ""
    settings.WEB_THREADS = 1000
    monkeypatch.setattr(connection, "get_database_version", lambda: (12, 0))
    now = timezone.now() + timedelta(minutes=2)
    monkeypatch.setattr(doctor, "timezone", SimpleNamespace(now=lambda: now))
    found = said(doctor.database)
    assert "PostgreSQL 12 is too old" in found
    assert "max_connections" in found
    assert "s apart" in found


def test_missing_migrations_are_counted() -> None:
    assert said(doctor.migrations) == ""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'labeling' AND name >= '0011'")
    assert "labeling.0011_retention" in said(doctor.migrations)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SECURE_PROXY_SSL_HEADER": None}, "TRUST_PROXY=true"),
        ({"CSRF_TRUSTED_ORIGINS": []}, "CSRF_TRUSTED_ORIGINS=https://labels.example.org"),
        ({"CSRF_TRUSTED_ORIGINS": ["https://other.example.org"]}, "Add other.example.org to ALLOWED_HOSTS"),
        ({"SECURE_SSL_REDIRECT": False}, "HTTPS=true"),
        ({}, ""),
    ],
)
def test_addresses_behind_a_proxy_are_explained(settings: Any, changes: dict[str, Any], sentence: str) -> None:
    assert said(doctor.addresses) == ""  # a development machine
    sound = {
        "PRODUCTION": True,
        "SECURE_SSL_REDIRECT": True,
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        "ALLOWED_HOSTS": ["labels.example.org"],
        "CSRF_TRUSTED_ORIGINS": ["https://labels.example.org"],
    }
    for name, value in (sound | changes).items():
        setattr(settings, name, value)
    found = said(doctor.addresses)
    assert (sentence in found) if sentence else found == ""


def test_folders_are_private_and_the_key_is(settings: Any, tmp_path: Path) -> None:
    for name in ("VAR", "RUNS_DIR", "SNAPSHOTS_DIR", "EXPORTS_DIR"):
        folder = tmp_path / name
        folder.mkdir(mode=0o700)
        setattr(settings, name, folder)
    key = tmp_path / "VAR" / "secret_key"
    key.touch(0o600)
    assert said(doctor.folders) == ""
    key.chmod(0o644)
    (tmp_path / "RUNS_DIR").chmod(0o755)
    found = said(doctor.folders)
    assert f"chmod 600 {key}" in found
    assert f"chmod go-rw {tmp_path / 'RUNS_DIR'}" in found


def test_a_full_disk_and_uncollected_files_are_found(settings: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 * doctor.GIB))
    assert [finding.broken for finding in doctor.disk()] == [False]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=doctor.GIB // 2))
    assert [finding.broken for finding in doctor.disk()] == [True]
    assert said(doctor.static_files) == ""
    settings.STATIC_ROOT = tmp_path
    assert "collectstatic" in said(doctor.static_files)


def test_an_engine_without_its_packages_is_found(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(doctor, "ENGINE", "pass")
    assert said(doctor.engine) == ""
    monkeypatch.setattr(doctor, "ENGINE", "import no_such_package")
    assert f"{sys.executable} cannot train: ModuleNotFoundError" in said(doctor.engine)
    settings.ENGINE_PYTHON = "/no/such/python"
    assert "ENGINE_PYTHON" in said(doctor.engine)


def test_a_silent_worker_and_a_missing_admin_are_found(settings: Any, request: pytest.FixtureRequest) -> None:
    assert "No worker has been heard of yet" in said(doctor.worker)
    beat = "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s::interval)"
    with connection.cursor() as cursor:
        cursor.execute(beat, ["1 hour"])
        assert "heard of since" in said(doctor.worker)
        cursor.execute(beat, ["1 second"])
    assert said(doctor.worker) == ""
    assert "create_user NAME --role admin" in said(doctor.people)
    request.getfixturevalue("admin")
    assert said(doctor.people) == ""
    settings.PRODUCTION = True
    assert "second factor" in said(doctor.people)

"""The drill: everything out of one site, into another on a machine of its own, and out again the same."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from accounts.models import User
from config.backup import BackupFailed, read_manifest, restore_backup, write_backup
from config.settings import BASE_DIR
from labeling.models import Campaign
from tests.conftest import make_user
from tests.labeling.conftest import add_items, claim, submit

pytestmark = pytest.mark.django_db(transaction=True)
DRILL = """
import sys
import django
django.setup()
from pathlib import Path
from django.core.management import CommandError, call_command
call_command("restore", sys.argv[1])
from labeling.models import Campaign, Ranking
campaign, ranking = Campaign.objects.get(), Ranking.objects.get()
print(campaign.name, ranking.tiers, ranking.user.username, ranking.user.check_password("a long enough password"))
call_command("backup", sys.argv[2])
print(Campaign.objects.create(name="Another", created_by=ranking.user).pk > campaign.pk)
try:
    call_command("restore", sys.argv[1])
except CommandError as error:
    print(error)
"""


@pytest.fixture
def model() -> Any:
    """A file of a run."""
    file = Path(settings.RUNS_DIR) / "drill" / "artifact" / "weights.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(os.urandom(1000))
    yield file
    file.unlink()
    file.parent.rmdir()
    file.parent.parent.rmdir()


def test_a_backup_restores_everything_on_another_machine(
    campaign: Campaign, annotator: User, model: Path, tmp_path: Path
) -> None:
    add_items(campaign)
    submit(annotator, claim(annotator, campaign), rationale='tab\t, line\n, \\N and "quotes"')
    first, second, other = tmp_path / "first.tar.gz", tmp_path / "second.tar.gz", tmp_path / "other"
    call_command("backup", str(first))
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    other.mkdir(mode=0o711)
    tmp_path.chmod(0o711)
    environment = os.environ | {"PREFLOOP_VAR": str(other), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    environment |= {"PYTEST_XDIST_WORKER": "", "PREFLOOP_DATABASE": "postgres"}
    done = subprocess.run(
        [sys.executable, "-c", DRILL, str(first), str(second)],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].startswith("Restored what was written on ")
    assert said[1] == f"{campaign.name} [[0], [1]] annotator True"
    assert said[-2:] == ["True", "This site has people. Give --replace to throw away what is here."]
    assert (other / "runs" / "drill" / "artifact" / model.name).read_bytes() == model.read_bytes()
    before, after = read_manifest(first), read_manifest(second)
    assert before["files"] == after["files"]
    assert len(before["tables"]) > 20
    assert "django_session" not in before["tables"]


def test_a_damaged_backup_is_refused_before_anything_is_changed(admin: User, model: Path, tmp_path: Path) -> None:
    whole, damaged = tmp_path / "whole.tar.gz", tmp_path / "damaged.tar.gz"
    write_backup(whole)
    content = gzip.decompress(whole.read_bytes())
    weights = model.read_bytes()
    assert weights in content
    for wrong in (content.replace(weights, bytes(1000)), content[:-20_000], b"no tar at all"):
        damaged.write_bytes(gzip.compress(wrong))
        with pytest.raises(BackupFailed):
            restore_backup(damaged, replace=True)
    assert User.objects.get() == admin


def test_a_backup_of_a_newer_version_and_an_existing_file_are_refused(
    admin: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backup.tar.gz"
    with monkeypatch.context() as newer:
        applied = {("labeling", "0001_initial"): None, ("labeling", "9999_from_the_future"): None}
        newer.setattr("config.backup.MigrationRecorder.applied_migrations", lambda self: applied)
        write_backup(path)
    with pytest.raises(BackupFailed, match="newer Prefloop"):
        restore_backup(path, replace=True)
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", str(path))
    assert User.objects.get() == admin
    assert make_user("somebody").pk

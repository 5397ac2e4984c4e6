"""Exports made by a worker: the same bytes as a download, begun anew after a death, gone after some days."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.data import export_files
from labeling.data.export_files import forget_files, is_large, make_waiting, order_export, path_of
from labeling.data.exporting import NoSuchExport, export_lines
from labeling.data.importing import import_rows
from labeling.models import AuditEntry, Campaign, ExportFile
from tests.conftest import child_environment, client_for

JSON = "application/json"
ROWS = [{"prompt": f"Question {n}?", "chosen": "yes", "rejected": f"no {n}"} for n in range(30)]


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.EXPORTS_DIR = tmp_path
    return tmp_path


@pytest.fixture
def answered(campaign: Campaign) -> Campaign:
    import_rows(campaign, ROWS, name="rows")
    return campaign


def never() -> bool:
    return False


def ordered(campaign: Campaign, what: str = "rankings", container: str = "jsonl") -> ExportFile:
    return order_export(campaign, what=what, container=container, user=campaign.created_by)


@pytest.mark.parametrize(("what", "container"), [("rankings", "jsonl"), ("preferences", "csv")])
def test_a_file_has_what_a_download_has(answered: Campaign, what: str, container: str) -> None:
    export = ordered(answered, what, container)
    assert ordered(answered, what, container).pk == export.pk  # it is on its way already
    assert make_waiting(never) == 1
    export.refresh_from_db()
    made = path_of(export).read_bytes()
    assert made == b"".join(export_lines(answered, what, container))
    assert (export.size, export.answers, export.position, export.failure) == (len(made), 30, 30, "")
    assert make_waiting(never) == 0
    newer = ordered(answered, what, container)
    make_waiting(never)
    assert list(ExportFile.objects.all()) == [newer]  # it took the older one's place
    assert not path_of(export).exists()


def test_what_is_no_export_is_refused(answered: Campaign) -> None:
    for kind in ({"what": "nothing"}, {"what": "rankings", "container": "csv"}):
        with pytest.raises(NoSuchExport, match="Choose one of"):
            ordered(answered, **kind)


def test_a_worker_that_is_told_to_end_leaves_it_to_the_next(
    answered: Campaign, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_files, "LOOK", 0)
    export = ordered(answered)
    told = iter([False, False, False, True])
    assert make_waiting(lambda: next(told)) == 0
    export.refresh_from_db()
    assert (export.attempts, export.finished_at) == (0, None)
    assert 0 < export.position < 30
    assert list(folder.iterdir()) == []
    assert make_waiting(never) == 1


def test_what_goes_wrong_is_said_in_a_sentence(answered: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_files, "export_lines", full)
    export = ordered(answered)
    assert make_waiting(never) == 0
    export.refresh_from_db()
    assert export.failure == "The file could not be written: No space left on device."
    deadly = ordered(answered)
    ExportFile.objects.filter(pk=deadly.pk).update(attempts=export_files.MAX_ATTEMPTS)
    assert make_waiting(never) == 0
    deadly.refresh_from_db()
    assert "3 workers died" in deadly.failure


def test_old_files_go_with_their_rows_and_without(answered: Campaign, folder: Path) -> None:
    kept, old = ordered(answered), ordered(answered, "sft")
    make_waiting(never)
    stray = folder / "7.part"
    stray.write_bytes(b"of a worker that died")
    week_ago = timezone.now() - export_files.KEPT - timedelta(minutes=1)
    ExportFile.objects.filter(pk=old.pk).update(created_at=week_ago)
    for path in (stray, path_of(old)):
        os.utime(path, (week_ago.timestamp(), week_ago.timestamp()))
    assert forget_files() == 1
    assert list(ExportFile.objects.all()) == [kept]
    assert list(folder.iterdir()) == [path_of(kept)]


def test_the_api_orders_looks_and_downloads(answered: Campaign, manager: User, annotator: User) -> None:
    client, exports = client_for(manager), f"/api/campaigns/{answered.public_id}/exports"
    kind = {"what": "preferences", "container": "csv"}
    assert client_for(annotator).post(exports, kind, content_type=JSON).status_code == 404
    assert client.post(exports, {"what": "rankings", "container": "csv"}, content_type=JSON).status_code == 400
    order = client.post(exports, kind, content_type=JSON)
    assert (order.status_code, order.json()["finished_at"]) == (202, None)
    address = f"{exports}/{order.json()['id']}"
    early = client.get(f"{address}/file")
    assert (early.status_code, early.json()["detail"]) == (409, "Not finished yet.")
    make_waiting(never)
    found = client.get(address).json()
    assert (found["position"], found["answers"]) == (30, 30)
    file: Any = client.get(f"{address}/file")
    content = b"".join(file.streaming_content)
    assert content == b"".join(export_lines(answered, "preferences", "csv"))
    assert int(file["Content-Length"]) == len(content) == found["size"]
    assert [one["id"] for one in client.get(exports).json()["results"]] == [found["id"]]
    logged = AuditEntry.objects.get(verb="items.export")
    assert (logged.actor, logged.target, logged.facts["container"]) == (manager, "preferences", "csv")
    path_of(ExportFile.objects.get()).unlink()
    assert "ask for it again" in client.get(f"{address}/file").json()["detail"]
    assert "Gone" in client.get(f"/campaigns/{answered.public_id}/exports/").text


def test_the_page_offers_downloads_of_few_answers_and_files_of_many(
    answered: Campaign, reviewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, page = client_for(reviewer), f"/campaigns/{answered.public_id}/exports/"
    few = client.get(page).text
    assert "what=arena&amp;as=jsonl" in few and "Make a file" not in few
    monkeypatch.setattr(export_files, "LARGE", 29)
    assert is_large(answered)
    assert "Make a file" in client.get(page).text
    waiting = client.post(page, {"what": "rankings", "container": "jsonl"}, follow=True).text
    assert "Waiting for a worker." in waiting and 'hx-trigger="every 2s"' in waiting
    make_waiting(never)
    ready = client.get(page).text
    assert "hx-trigger" not in ready and f"/exports/{ExportFile.objects.get().pk}/file" in ready
    assert "Choose one of" in client.post(page, {"what": "x"}, follow=True).text


WORKER = """
import os, sys, django; django.setup()
from django.conf import settings
from pathlib import Path
settings.EXPORTS_DIR = Path(sys.argv[1])
from labeling.data import export_files
export_files.LOOK = 0
while not export_files.make_waiting(lambda: False): pass
"""


@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_in_the_middle_is_followed_by_one_that_makes_the_file(campaign: Campaign, folder: Path) -> None:
    rows = [{"prompt": f"Question {n}?", "chosen": "yes", "rejected": f"no {n}"} for n in range(3000)]
    import_rows(campaign, rows, name="rows")
    export = ordered(campaign)
    for target in (500, None):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder)],
            cwd=Path(__file__).resolve().parents[3],
            env=child_environment(DJANGO_SETTINGS_MODULE="tests.settings"),
        )
        while target and worker.poll() is None:
            export.refresh_from_db()
            if export.position >= target:
                worker.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        assert worker.wait(120) == (-signal.SIGKILL if target else 0)
    export.refresh_from_db()
    assert (export.attempts, export.position, export.failure) == (2, 3000, "")
    lines = path_of(export).read_bytes().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 3000

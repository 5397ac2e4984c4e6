"""Large files: stored, imported by a worker in the background, and gone on with wherever a worker died."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.urls import reverse

from accounts.models import User
from labeling.data import uploads
from labeling.data.formats.columns import Columns
from labeling.data.formats.registry import FORMATS
from labeling.data.importing import import_file
from labeling.data.uploads import import_waiting, is_large, store_upload
from labeling.models import Campaign, Import, UploadPiece
from tests.conftest import client_for

ROWS = [{"prompt": f"Question {n}?", "chosen": "a", "rejected": f"b{n}"} for n in range(40)]


def content(rows: list[Any] = ROWS) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def stored(campaign: Campaign, data: bytes, **options: Any) -> Import:
    return store_upload(campaign, io.BytesIO(data), name="large.jsonl", **options)


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a thousand times smaller."""
    monkeypatch.setattr(uploads, "PIECE", 1000)
    monkeypatch.setattr(uploads, "LARGE", 2000)
    monkeypatch.setattr("labeling.data.importing.BATCH_ROWS", 8)


def numbers(record: Import) -> tuple[int, ...]:
    record.refresh_from_db()
    return record.accepted, record.duplicates, record.rejected, record.rankings, len(record.errors)


def test_a_worker_imports_what_a_request_would_have(campaign: Campaign, foreign_campaign: Campaign) -> None:
    data = content([*ROWS[:20], "wrong", *ROWS[10:], {"prompt": 3}])
    record = stored(campaign, data)
    assert UploadPiece.objects.count() == -(-len(data) // 1000) > 2
    assert numbers(record) == (0, 0, 0, 0, 0)
    assert import_waiting(never) == 1
    at_once = import_file(foreign_campaign, io.BytesIO(data), name="large.jsonl")
    assert numbers(record) == numbers(at_once) == (40, 10, 2, 40, 2)
    assert record.errors == at_once.errors
    assert record.finished_at is not None
    assert not UploadPiece.objects.exists()
    assert import_waiting(never) == 0


def test_a_worker_that_is_told_to_end_stops_after_a_batch_and_another_goes_on(campaign: Campaign) -> None:
    record = stored(campaign, content())
    answers = iter([False, False, True])
    assert import_waiting(lambda: next(answers)) == 0
    record.refresh_from_db()
    assert (record.position, record.accepted, record.finished_at) == (16, 16, None)
    assert import_waiting(never) == 1
    assert numbers(record) == (40, 0, 0, 40, 0)
    assert campaign.items.count() == 40


def test_pieces_that_a_dead_worker_left_behind_are_deleted(campaign: Campaign) -> None:
    record = stored(campaign, content())
    import_waiting(never)
    UploadPiece.objects.create(source=record, index=0, data=b"{}")
    assert import_waiting(never) == 0
    assert not UploadPiece.objects.exists()
    assert numbers(record) == (40, 0, 0, 40, 0)


def test_what_was_chosen_holds_in_the_background(campaign: Campaign, foreign_campaign: Campaign) -> None:
    table = b"Q,one,two\n" + b"".join(b"Why %d?,a,b\n" % n for n in range(5))
    stored(campaign, table, chosen=Columns("Q", ("one", "two")).as_format())
    refused = stored(foreign_campaign, content(), chosen=FORMATS["arena"])
    assert import_waiting(never) == 2
    assert campaign.items.count() == 5
    assert numbers(refused) == (0, 0, 40, 0, 40)


def test_a_file_that_breaks_the_reader_ends_with_a_sentence(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("a bug")

    record = stored(campaign, content())
    monkeypatch.setattr(uploads, "parse_rows", broken)
    assert import_waiting(never) == 1
    record.refresh_from_db()
    assert "could not be read on" in record.failure
    assert not UploadPiece.objects.exists()


def test_which_files_a_request_does_not_wait_for() -> None:
    assert not is_large(io.BytesIO(b"x"), 2000)
    assert is_large(io.BytesIO(b"x"), 2001)
    assert is_large(io.BytesIO(b"\x1f\x8b\x08\x00"), 101)
    assert is_large(io.BytesIO(b"PAR1"), 101)


def test_a_large_upload_is_answered_at_once_with_where_to_look(campaign: Campaign, manager: User) -> None:
    client = client_for(manager)
    url = f"/api/campaigns/{campaign.public_id}/imports"
    answer = client.post(url, {"file": SimpleUploadedFile("x.jsonl", content())})
    assert (answer.status_code, answer.json()["accepted"], answer.json()["finished_at"]) == (202, 0, None)
    address = f"{url}/{answer.json()['id']}"
    page = reverse("campaign_import_report", args=[campaign.public_id, answer.json()["id"]])
    assert "Waiting for a worker" in client.get(page).text
    import_waiting(never)
    assert client.get(address).json()["accepted"] == 40
    assert "hx-trigger" not in client.get(page).text
    assert "Every line could be read." in client.get(page).text


def test_a_large_upload_on_the_page_leads_to_its_report(campaign: Campaign, manager: User) -> None:
    client = client_for(manager)
    file = SimpleUploadedFile("x.jsonl", content())
    page = client.post(reverse("campaign_import", args=[campaign.public_id]), {"file": file}, follow=True)
    assert "Waiting for a worker" in page.text
    assert 'hx-trigger="every 2s"' in page.text


WORKER = """
import django; django.setup()
from labeling.data import importing
from labeling.data import uploads
importing.BATCH_ROWS = 20
print("ready", flush=True)
while not uploads.import_waiting(lambda: False): pass
"""


@pytest.mark.django_db(transaction=True)
def test_workers_killed_in_the_middle_lose_nothing_and_double_nothing(campaign: Campaign) -> None:
    uploads.PIECE = 1024 * 1024  # as the other processes have it; the fixture puts it back
    rows = [{"prompt": f"Question {n}?", "chosen": "a", "rejected": f"b{n}"} for n in range(4000)]
    record = stored(campaign, content([*rows, {"prompt": 1}]))
    kills = 0
    for target in (200, 1500, None):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=Path(__file__).resolve().parents[3],
            env=os.environ
            | {
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PREFLOOP_VAR": str(settings.VAR),
                "PREFLOOP_DATABASE": connection.settings_dict["NAME"],
            },
        )
        if target is None:
            assert worker.wait(120) == 0
            break
        while worker.poll() is None:
            record.refresh_from_db()
            if record.position >= target:
                worker.send_signal(signal.SIGKILL)
                kills += worker.wait() == -signal.SIGKILL
                break
            time.sleep(0.005)
    assert kills == 2
    assert numbers(record) == (4000, 0, 1, 4000, 1)
    assert record.finished_at is not None
    assert campaign.items.count() == campaign.rankings.count() == campaign.slots.count() == 4000
    campaign.refresh_from_db()
    assert campaign.slot_count == 4000
    assert not UploadPiece.objects.exists()

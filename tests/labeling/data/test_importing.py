"""Files that people bring: good ones, hostile ones, the same one twice."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from labeling.campaigns import create_campaign, update_campaign
from labeling.data import files
from labeling.data.importing import ImportFailed, import_file, refused_lines
from labeling.models import Campaign, Import, Item, Ranking, Slot

GOOD = [{"prompt": f"Q{n}", "completions": [f"a{n}", f"b{n}"]} for n in range(3)]


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def bring(campaign: Campaign, content: bytes, name: str = "file.jsonl") -> Import:
    record = import_file(campaign, io.BytesIO(content), name=name)
    record.refresh_from_db()
    campaign.refresh_from_db()
    return record


def reasons(record: Import) -> dict[int, str]:
    return {error["line"]: error["reason"] for error in record.errors}


def test_items_come_with_completions_and_slots(campaign: Campaign):
    update_campaign(campaign, overlap=3)
    record = bring(campaign, lines(*GOOD))
    assert (record.accepted, record.duplicates, record.rejected, record.rankings) == (3, 0, 0, 0)
    assert record.finished_at is not None
    assert [item.messages[0]["content"] for item in campaign.items.order_by("pk")] == ["Q0", "Q1", "Q2"]
    assert all(item.slots.filter(state="open").count() == 3 for item in campaign.items.all())
    assert campaign.slot_count == Slot.objects.count() == 9


def test_good_lines_are_kept_and_bad_ones_reported(campaign: Campaign):
    record = bring(campaign, lines(GOOD[0], {"prompt": "Q"}, b"", GOOD[1], b"\xff\xfe", b'{"prompt": "', GOOD[2]))
    assert record.accepted == 3
    assert record.rejected == 3
    assert list(reasons(record)) == [2, 5, 6]
    assert reasons(record)[5] == "The line is not UTF-8 text (byte 1)."


def test_the_same_file_twice_adds_nothing(campaign: Campaign):
    content = lines(*GOOD, {"prompt": "Q", "chosen": "c", "rejected": "r"}, GOOD[0])
    first = bring(campaign, content)
    again = bring(campaign, gzip.compress(content), name="renamed.jsonl.gz")
    assert (first.accepted, first.duplicates, first.rankings) == (4, 1, 1)
    assert (again.accepted, again.duplicates, again.rankings) == (0, 5, 0)
    assert campaign.items.count() == campaign.slot_count == 4
    assert campaign.rankings.count() == 1


def test_several_labelers_rank_one_item(campaign: Campaign):
    row = {"prompt": "Q", "completions": ["a", "b"]}
    first = {**row, "ranking": [[0], [1]], "labeler": "anna"}
    second = {**row, "ranking": [[1], [0]], "labeler": "ben"}
    record = bring(campaign, lines(first, second, second))
    assert (record.accepted, record.duplicates, record.rankings) == (2, 1, 2)
    rankings = campaign.rankings.accepted().filter(origin="imported", user=None).order_by("pk")
    assert [(ranking.labeler, ranking.tiers) for ranking in rankings] == [("anna", [[0], [1]]), ("ben", [[1], [0]])]
    later = bring(campaign, lines(first, {**row, "ranking": [[0, 1]], "labeler": "ben"}, {**row, "ranking": [[0, 1]]}))
    assert (later.accepted, later.duplicates, later.rankings) == (2, 1, 2)
    assert campaign.rankings.get(labeler="imported:file.jsonl").tiers == [[0, 1]]


def test_batches_are_cut_by_rows_and_by_size(campaign: Campaign, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labeling.data.importing.BATCH_ROWS", 2)
    assert bring(campaign, lines(*GOOD, *GOOD)).accepted == 3
    monkeypatch.setattr("labeling.data.importing.BATCH_CHARACTERS", 1)
    more = [{"prompt": f"R{n}", "completions": ["a", "b"]} for n in range(3)]
    record = bring(campaign, lines(*more, *GOOD))
    assert (record.accepted, record.duplicates) == (3, 3)
    assert campaign.slot_count == 6


def test_an_import_cut_off_in_the_middle_is_completed_by_bringing_it_again(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
):
    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100:
                raise OSError("connection reset")
            return super().read(64)

    monkeypatch.setattr("labeling.data.importing.BATCH_ROWS", 1)
    monkeypatch.setattr("labeling.data.containers.HEAD", 64)
    with pytest.raises(OSError, match="connection reset"):
        import_file(campaign, Torn(lines(*GOOD)), name="file.jsonl")
    kept = campaign.items.count()
    assert 0 < kept < 3
    assert Import.objects.get().finished_at is None
    record = bring(campaign, lines(*GOOD))
    assert (record.accepted, record.duplicates) == (3 - kept, kept)


def test_a_closed_campaign_takes_no_file(campaign: Campaign):
    campaign.state = "closed"
    with pytest.raises(ImportFailed):
        import_file(campaign, io.BytesIO(lines(*GOOD)), name="file")


# --- Hostile files ------------------------------------------------------------------------------------------------


def test_an_empty_file_says_so(campaign: Campaign):
    assert reasons(bring(campaign, b"")) == {1: "The file is empty."}
    assert reasons(bring(campaign, gzip.compress(b""))) == {1: "The file is empty."}


def test_a_byte_order_mark_and_windows_line_ends_are_fine(campaign: Campaign):
    assert bring(campaign, b"\xef\xbb\xbf" + lines(*GOOD).replace(b"\n", b"\r\n")).accepted == 3
    record = bring(campaign, json.dumps(GOOD[0]).encode("utf-16"))
    assert "UTF-16" in reasons(record)[1]


def test_a_huge_line_is_passed_over(campaign: Campaign, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MAX_LINE", 1024 * 1024)
    huge = {"prompt": "x" * 3_000_000, "completions": ["a", "b"]}
    record = bring(campaign, lines(GOOD[0], huge, GOOD[1], {"prompt": "y" * 1_100_000}) + b"z" * 5_000_000)
    assert record.accepted == 2
    assert reasons(record) == dict.fromkeys([2, 4, 5], "The line is longer than 1 MiB.")


def test_a_truncated_gzip_keeps_what_came_before(campaign: Campaign):
    rows = [{"prompt": f"Question {n} {hash(n)}", "completions": ["a", f"b{n * n}"]} for n in range(2000)]
    packed = gzip.compress(lines(*rows))
    record = bring(campaign, packed[: len(packed) // 2])
    assert 500 < record.accepted < 2000
    assert reasons(record) == {record.accepted + 1: "The gzip file is cut off here; the lines before were read."}
    assert bring(campaign, packed).accepted == 2000 - record.accepted


def test_a_damaged_gzip_and_other_formats_are_named(campaign: Campaign):
    packed = bytearray(gzip.compress(lines(*GOOD)))
    packed[len(packed) // 2] ^= 0xFF
    assert "damaged" in bring(campaign, bytes(packed)).errors[-1]["reason"]
    assert "damaged" in reasons(bring(campaign, b"\x1f\x8b not gzip at all"))[1]
    assert "zip archive" in reasons(bring(campaign, b"PK\x03\x04...."))[1]
    assert "Parquet" in reasons(bring(campaign, b"PAR1...."))[1]


def test_several_gzip_members_are_one_file(campaign: Campaign):
    packed = b"".join(gzip.compress(lines(row)) for row in GOOD)
    assert bring(campaign, packed).accepted == 3


def test_a_gzip_bomb_is_stopped_early(campaign: Campaign):
    class Counted(io.BytesIO):
        given = 0

        def read(self, size: int | None = -1) -> bytes:
            chunk = super().read(size)
            self.given += len(chunk)
            return chunk

    bomb = gzip.compress(lines(*GOOD) + b" " * 400_000_000, compresslevel=9)
    file = Counted(bomb)
    record = import_file(campaign, file, name="bomb")
    assert record.accepted == 3
    assert [error["reason"] for error in record.errors] == [
        "The gzip file unpacks to far too much; the lines before were read."
    ]
    assert file.given < len(bomb)


def test_every_refused_line_is_kept_up_to_a_limit_and_the_first_are_named(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
):
    record = bring(campaign, b"nonsense\n" * 1500 + lines(*GOOD))
    assert (record.rejected, len(record.errors), record.accepted) == (1500, 100, 3)
    kept = list(refused_lines(record))
    assert [line["line"] for line in kept] == list(range(1, 1501))
    assert kept[:100] == record.errors
    monkeypatch.setattr("labeling.data.importing.MAX_REFUSED", 700)
    record = bring(campaign, b"nonsense\n" * 1500)
    assert (record.rejected, len(list(refused_lines(record)))) == (1500, 700)
    assert sum(map(len, record.refused.values_list("data", flat=True))) < 10_000


def test_whatever_a_line_may_hold_the_database_takes_it(campaign: Campaign):
    text = "".join(map(chr, range(1, 0x300))) + "\U0001f600\u2028\u2029\ufeff\uffff" + "\\u0000 <script> %s {} \r"
    row = {"prompt": text, "completions": [text + "a", text + "b"], "big": 10**4000, "f": 1e-300}
    record = bring(campaign, lines(row))
    assert record.accepted == 1
    item = Item.objects.get()
    assert item.messages == [{"role": "user", "content": text}]
    assert item.meta == {"big": 10**4000, "f": 1e-300}


def test_the_command_lists_bad_lines_and_fails_but_keeps_the_good(
    admin: User, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    campaign = create_campaign(admin, name="New")
    file = tmp_path / "items.jsonl"
    file.write_bytes(lines(*GOOD))
    call_command("import_items", campaign.public_id, str(file))
    assert "3 lines accepted, 0 known already, 0 refused" in capsys.readouterr().out
    file.write_bytes(lines(*GOOD, {"prompt": "Q"}))
    with pytest.raises(CommandError, match="1 lines were refused"):
        call_command("import_items", campaign.public_id, str(file))
    assert "line 4: A line needs" in capsys.readouterr().err
    with pytest.raises(CommandError, match="no campaign"):
        call_command("import_items", "nowhere", str(file))
    with pytest.raises(CommandError, match="No such file"):
        call_command("import_items", campaign.public_id, str(tmp_path / "absent"))
    assert Ranking.objects.count() == 0

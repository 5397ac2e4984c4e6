"""Files around rows: JSON arrays and lines, CSV, Parquet, gzip and Zstandard, good and hostile ones."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from labeling.data import containers, files, parquet
from labeling.data.containers import read_rows
from labeling.data.files import BadLine

ROWS = [{"prompt": f'Q{n} "[{{\\', "completions": ["a\n", f"b{n}"]} for n in range(40)]


def rows_of(content: bytes) -> list[Any]:
    return [str(row) if isinstance(row, BadLine) else row for _, row in read_rows(io.BytesIO(content))]


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_and_lines_have_the_same_rows(pack: Any, indent: int | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "CHUNK", 7)
    assert rows_of(pack(json.dumps(ROWS, indent=indent).encode())) == ROWS
    assert rows_of(pack(lines(ROWS))) == ROWS
    assert rows_of(pack("\n".join(json.dumps(row, indent=1) for row in ROWS).encode())) == ROWS


def test_a_wrong_element_of_an_array_is_only_itself():
    found = rows_of(b'[{"a": 1}, {"b": nonsense}, {"c": {"d": [2]}}]')
    assert found[0] == {"a": 1}
    assert found[1].startswith("The line is not valid JSON")
    assert found[2] == {"c": {"d": [2]}}
    assert rows_of(b'[{"a": 1}, {"b": ')[-1] == "The JSON ends in the middle; what came before was read."
    assert rows_of(b"[]") == ["There are no objects in the file."]
    assert rows_of(b'[1, "x"]') == ["There are no objects in the file."]


def test_one_huge_element_ends_the_reading_in_bounded_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MAX_LINE", 1024 * 1024)
    found = rows_of(b'[{"a": 1}, {"b": "' + b"x" * 3_000_000 + b'"}]')
    assert found == [{"a": 1}, "The object is longer than 1 MiB; those before were read."]
    assert rows_of(b"[" * 500_000)[-1] == "The JSON ends in the middle; what came before was read."
    assert "nested" in rows_of(b'[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]")[0]


def test_csv_has_rows_by_header_with_any_separator_and_lines_in_cells():
    for separator in ",;\t":
        text = f'prompt{separator}chosen{separator}rejected\r\nQ{separator}"a\n""b"""{separator}c\n'
        assert rows_of(text.encode("utf-8-sig")) == [{"prompt": "Q", "chosen": 'a\n"b"', "rejected": "c"}]


def test_cells_with_messages_are_messages_and_an_apostrophe_keeps_formulas_texts():
    messages = [{"role": "user", "content": 'Say "x", please'}]
    cell = json.dumps(messages).replace('"', '""')
    text = f"""prompt,chosen,rejected\n"{cell}",'=1+1,''=1\n"[{{""not messages""}}]",'a,"[1]"\n"""
    assert rows_of(text.encode()) == [
        {"prompt": messages, "chosen": "=1+1", "rejected": "'=1"},
        {"prompt": '[{"not messages"}]', "chosen": "'a", "rejected": "[1]"},
    ]


def test_wrong_records_of_a_csv_file_are_only_themselves(monkeypatch: pytest.MonkeyPatch):
    content = b'a,b\n1,2\n1,2,3\n\xff,2\n"x"y,2\n3,4\n'
    found = rows_of(content)
    assert found[0] == {"a": "1", "b": "2"}
    assert found[1] == "The line has 3 cells, the header 2."
    assert found[2] == "The line is not UTF-8 text (byte 1)."
    assert found[3].startswith("The line is not valid CSV")
    assert found[4] == {"a": "3", "b": "4"}
    monkeypatch.setattr(files, "MAX_LINE", 1024 * 1024)
    open_quote = b'a,b\n1,"' + b"no end\n" * 300_000
    assert any("quotation mark" in str(row) for row in rows_of(open_quote))


@given(st.binary(max_size=300))
def test_any_bytes_give_rows_or_sentences(content: bytes):
    for start in (b"", b"[", b"a,b\n", b'{"a": 1}\n', b"{\n", files.ZSTD, files.GZIP, files.PARQUET):
        for number, row in read_rows(io.BytesIO(start + content)):
            assert number > 0
            if isinstance(row, BadLine):
                assert str(row).endswith((".", "?"))


def test_a_zstandard_bomb_is_stopped_early():
    packed = zstandard.compress(lines(ROWS) + b" " * 400_000_000)
    assert rows_of(packed)[-1] == "The Zstandard file unpacks to far too much; the lines before were read."


def test_a_damaged_zstandard_file_keeps_what_came_before():
    frame = zstandard.compress(lines(ROWS))
    found = rows_of(frame + frame + b"\x00" * 50)
    assert found == [*ROWS, *ROWS, "The Zstandard file is damaged here; the lines before were read."]
    found = rows_of(frame + frame[:30])
    assert found == [*ROWS, "The Zstandard file is cut off here; the lines before were read."]


def test_parquet_has_the_rows_that_were_written():
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": [{"role": "user", "content": "Q"}], "chosen": "a", "n": 0.5, "bytes": b"x"}] * 40
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=7)
    assert rows_of(file.getvalue()) == [row | {"bytes": "x"} for row in rows]
    damaged = bytearray(file.getvalue())
    damaged[-40:-8] = b"\xff" * 32
    assert "damaged" in rows_of(bytes(damaged))[-1]


def test_parquet_without_its_package_or_from_a_pipe_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    pytest.importorskip("pyarrow")
    [(_, refused)] = read_rows(Pipe(b"PAR1...."))
    assert "pipe" in str(refused)
    monkeypatch.setattr(parquet, "pq", None)
    assert rows_of(b"PAR1....") == [parquet.MISSING]


def test_row_groups_that_unpack_to_too_much_are_refused(monkeypatch: pytest.MonkeyPatch):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    pq.write_table(pa.table({"a": ["x" * 100_000] * 100, "b": ["y"] * 100}), file)
    monkeypatch.setattr(files, "MAX_LINE", 10_000)
    assert "row is longer" in rows_of(file.getvalue())[0]
    monkeypatch.setattr(parquet, "MAX_GROUP", 1000)
    assert "row group" in rows_of(file.getvalue())[0]
    monkeypatch.setattr(parquet, "MAX_COLUMNS", 1)
    assert "columns" in rows_of(file.getvalue())[0]


def test_what_looks_like_csv_has_a_separator_in_its_header_and_no_json_below():
    assert containers._delimiter(b"a,b\n1,2") == ","
    assert containers._delimiter(b'"a,b",c\n') == ","
    assert containers._delimiter(b"nonsense\nmore") == ""
    assert containers._delimiter(b'broken, line\n{"prompt": 1}') == ""

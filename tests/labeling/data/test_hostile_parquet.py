"""Parquet files that say wrong things about their sizes: a sentence, and memory that stays within its bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if not Path("/proc/self/status").exists():
    pytest.skip("only Linux tells how much memory a process took", allow_module_level=True)
pytest.importorskip("pyarrow", reason="the optional package pyarrow is not installed")
ROOT = Path(__file__).resolve().parents[3]
BASE = 150  # mebibytes of a process that has loaded pyarrow and read nothing

# Each as a process of its own, so that neither what it takes nor what was taken before is counted as the reader's.
WRITE = """
import sys, pyarrow as pa, pyarrow.parquet as pq
how, path = sys.argv[1:]
value, rows = "x" * 12 * 1024**2, 16
table = pa.table({"prompt": ["Q"] * rows, "chosen": [value] * rows, "rejected": ["no"] * rows})
options = dict(compression="zstd", write_statistics=False, data_page_size=2**30, dictionary_pagesize_limit=2**30)
pq.write_table(table, path, use_dictionary=how == "dictionary", **options)
"""
READ = """
import json, resource, sys
from labeling.data import parquet
from labeling.data.containers import read_rows
parquet.MAX_MEMORY, parquet.files.RATIO_FREE = 300 * 1024**2, 1024**2
number, last = 0, ""
with open(sys.argv[1], "rb") as file:
    for number, last in read_rows(file):
        pass
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
peaks = [size // 1024 for size in (own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)]
print(json.dumps({"rows": number, "last": str(last)[:200], "peaks": peaks}))
"""


def run(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def varint(value: int) -> bytes:
    """As Thrift's compact protocol writes an integer."""
    rest, written = 2 * value, b""
    while rest > 127:
        written += bytes([rest & 127 | 128])
        rest >>= 7
    return written + bytes([rest])


def as_long(value: int, size: int) -> bytes:
    """A small integer in so many bytes."""
    first, *more = varint(value)
    assert not more
    return bytes([first | 128, *[128] * (size - 2), 0])


def with_lies(path: Path) -> None:
    """Let the file's description say that nothing is larger than 60 bytes."""
    import pyarrow.parquet as pq

    content = path.read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    about, description = pq.ParquetFile(path).metadata.row_group(0), content[-8 - size : -8]
    for truth in {about.total_byte_size, about.column(1).total_uncompressed_size}:
        assert varint(truth) in description
        description = description.replace(varint(truth), as_long(60, len(varint(truth))))
    path.write_bytes(content[: -8 - size] + description + content[-8:])
    assert pq.ParquetFile(path).metadata.row_group(0).total_byte_size == 60


@pytest.mark.parametrize("how", ["lies", "dictionary"])
def test_a_small_file_that_stands_for_far_more_is_refused_in_bounded_memory(tmp_path: Path, how: str) -> None:
    path = tmp_path / "bomb.parquet"
    run(WRITE, how, str(path))
    if how == "lies":
        with_lies(path)
    assert path.stat().st_size < 100_000
    found: dict[str, Any] = json.loads(run(READ, str(path)))
    assert found["last"].endswith("."), found
    assert "300 MiB of memory" in found["last"]
    caller, reader = found["peaks"]
    assert caller < BASE
    assert reader < 300 + BASE


def test_pages_that_say_wrong_sizes_are_damaged(tmp_path: Path) -> None:
    """A header says that its page unpacks to more than it does, or to less: neither is taken at its word."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "page.parquet"
    table = pa.table({"prompt": ["Question " + "x" * 5000] * 50})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    content = path.read_bytes()
    size = pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size
    header = content[4:40]
    truth = next(varint(n) for n in range(size, size - 60, -1) if b"\x15\x00\x15" + varint(n) in header)
    for lie in (2**20 - 1, 2**14):
        assert len(varint(lie)) == len(truth) == 3
        path.write_bytes(content.replace(b"\x15\x00\x15" + truth, b"\x15\x00\x15" + varint(lie), 1))
        found = json.loads(run(READ, str(path)))
        assert found["rows"] == 1
        assert found["last"].startswith("The Parquet file is damaged here"), found


def test_a_few_bytes_that_stand_for_millions_of_rows_end_soon(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "nulls.parquet"
    pq.write_table(pa.table({"prompt": pa.nulls(5_000_000, pa.string())}), path)
    assert path.stat().st_size < 100_000
    found = json.loads(run(READ, str(path)))
    assert found["last"] == "The Parquet file unpacks to far too much; the lines before were read."
    assert max(found["peaks"]) < BASE

"""Parquet in and out, where pyarrow is installed. It is a large package, so only those who use Parquet need it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

from django.utils.translation import gettext_noop

from labeling.data import files, parquet_reader
from labeling.data.files import BadLine

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    pa = pq = None

MISSING = gettext_noop("Parquet needs the package pyarrow on the server (pip install pyarrow).")
FOOT = 8  # bytes: the length of the description, and the magic word
MAX_COLUMNS = 200
MAX_GROUP = 512 * 1024 * 1024  # unpacked bytes of a row group
MAX_THRIFT = 16 * 1024 * 1024  # of the file's own description
MAX_MEMORY = 768 * 1024 * 1024  # bytes that reading may take, whatever the file says
WRITTEN_ROWS = 1_000  # in memory at a time
DAMAGED = gettext_noop("The Parquet file is damaged: it ends without a description of itself.")
DIED = gettext_noop("The Parquet file could not be read on: it is damaged, or needs more than {} MiB of memory.")


def read_parquet(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Numbered rows as JSON values. A file that cannot be read on ends with a `BadLine`."""
    number = 0
    try:
        _check_readable(file)
        for number, row in enumerate(_rows(file), 1):
            yield number, row
    except BadLine as error:
        yield number + 1, error
    else:
        if number == 0:
            yield 1, BadLine(gettext_noop("The file is empty."))


def _check_readable(file: BinaryIO) -> None:
    if pq is None:
        raise BadLine(MISSING)
    if not file.seekable():
        raise BadLine(gettext_noop("Parquet cannot be read from a pipe, as its description is at the end."))
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - FOOT))
    foot = file.read(FOOT)
    if not foot.endswith(files.PARQUET) or int.from_bytes(foot[:4], "little") + FOOT + len(files.PARQUET) > size:
        raise BadLine(DAMAGED)
    file.seek(0)


def _rows(file: BinaryIO) -> Iterator[Any]:
    """Rows, and a `BadLine` in the place of a row that is refused. Another process reads the file."""
    limits = {
        "columns": MAX_COLUMNS,
        "group": MAX_GROUP,
        "thrift": MAX_THRIFT,
        "line": files.MAX_LINE,
        "memory": MAX_MEMORY,
    }
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        packed, unpacked = copy.tell(), 0
        copy.seek(0)
        reader = subprocess.Popen(
            [sys.executable, "-I", parquet_reader.__file__, json.dumps(limits)],
            stdin=copy,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
        )
        try:
            assert reader.stdout is not None
            for line in reader.stdout:
                unpacked += len(line)
                files.check_size(packed, unpacked, "Parquet")
                yield _row(line[:1], line[1:-1])
            if reader.wait():
                raise BadLine(DIED.format(MAX_MEMORY // 1024**2))
        finally:
            reader.kill()
            reader.wait()
            if reader.stdout:
                reader.stdout.close()


def _row(sign: bytes, said: bytes) -> Any:
    if sign == parquet_reader.ROW:
        return json.loads(said)
    reason = BadLine(said.decode(errors="replace"))
    if sign == parquet_reader.REFUSED:
        return reason
    raise reason


def plain(row: Any) -> Any:
    """JSON values: times, decimals and bytes become texts."""
    return json.loads(parquet_reader.as_json(row))


def is_installed() -> bool:
    return pq is not None


def write_parquet(rows: Iterable[dict[str, Any]], columns: dict[str, str]) -> Iterator[bytes]:
    """The bytes of a file, a row group at a time. Kinds of columns: messages, text, number, flag."""
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    kinds = {"messages": pa.list_(message), "text": pa.string(), "number": pa.float64(), "flag": pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    file = io.BytesIO()
    with pq.ParquetWriter(_Tail(file), schema, compression="zstd") as writer:
        rest = iter(rows)
        while group := list(islice(rest, WRITTEN_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema))
            yield _taken(file)
    yield _taken(file)


class _Tail(io.RawIOBase):
    """Counts what was ever written, which is what a Parquet file's description points to."""

    def __init__(self, file: io.BytesIO) -> None:
        self.file, self.place = file, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def write(self, data: Any) -> int:
        self.place += len(data)
        return self.file.write(data)


def _taken(file: io.BytesIO) -> bytes:
    data = file.getvalue()
    file.seek(0)
    file.truncate()
    return data

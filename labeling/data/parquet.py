"""Parquet in and out, where pyarrow is installed. It is a large package, so only those who use Parquet need it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

from labeling.data import files
from labeling.data.files import BadLine

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    pa = pq = None

MISSING = "Parquet needs the package pyarrow on the server (pip install pyarrow)."
MAX_COLUMNS = 200
MAX_GROUP = 512 * 1024 * 1024  # unpacked bytes of a row group
MAX_THRIFT = 16 * 1024 * 1024  # of the file's own description
READ_ROWS, WRITTEN_ROWS = 16, 1_000  # in memory at a time


def read_parquet(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Numbered rows as JSON values, a few at a time. A file that cannot be read on ends with a `BadLine`."""
    number = 0
    try:
        if pq is None:
            raise BadLine(MISSING)
        if not file.seekable():
            raise BadLine("Parquet cannot be read from a pipe, as its description is at the end.")
        for number, row in enumerate(_rows(file), 1):
            yield number, row
    except BadLine as error:
        yield number + 1, error
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        yield number + 1, BadLine(f"The Parquet file is damaged here: {str(error).splitlines()[0][:200]}.")
    else:
        if number == 0:
            yield 1, BadLine("The file is empty.")


def _rows(file: BinaryIO) -> Iterator[Any]:
    file.seek(0)
    parquet = pq.ParquetFile(
        pa.PythonFile(file, mode="r"),
        thrift_string_size_limit=MAX_THRIFT,
        thrift_container_size_limit=MAX_THRIFT // 16,
        page_checksum_verification=False,
    )
    about = parquet.metadata
    if about.num_columns > MAX_COLUMNS:
        raise BadLine(f"The Parquet file has more than {MAX_COLUMNS} columns.")
    if any(about.row_group(n).total_byte_size > MAX_GROUP for n in range(about.num_row_groups)):
        raise BadLine(f"A row group of the Parquet file unpacks to more than {MAX_GROUP // 1024**2} MiB.")
    for group in range(about.num_row_groups):
        # Small batches: a dictionary page can stand for far more than it has bytes.
        for batch in parquet.iter_batches(batch_size=READ_ROWS, row_groups=[group], use_threads=False):
            if batch.nbytes > READ_ROWS * files.MAX_LINE:
                raise BadLine(f"Rows are longer than {files.MAX_LINE // 1024**2} MiB; those before were read.")
            yield from (plain(row) for row in batch.to_pylist())


def plain(row: Any) -> Any:
    """JSON values: times, decimals and bytes become texts."""
    return json.loads(json.dumps(row, default=_text))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


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

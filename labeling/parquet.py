"""Parquet in and out, where pyarrow is installed. It is a large package, so only those who use Parquet need it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from labeling import files
from labeling.files import BadLine

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    pa = pq = None

MISSING = "Parquet needs the package pyarrow on the server (pip install pyarrow)."
MAX_COLUMNS = 200
MAX_GROUP = 512 * 1024 * 1024  # unpacked bytes of a row group
MAX_THRIFT = 16 * 1024 * 1024  # of the file's own description
MOST_ROWS = 256  # in memory at a time
GROUP_ROWS = 2_000  # written together


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
        for batch in parquet.iter_batches(batch_size=16, row_groups=[group], use_threads=False):
            if batch.nbytes > 16 * files.MAX_LINE:
                raise BadLine(f"Rows are longer than {files.MAX_LINE // 1024**2} MiB; those before were read.")
            yield from (_plain(row) for row in batch.to_pylist())


def _plain(row: Any) -> Any:
    """JSON values: times, decimals and bytes become texts."""
    return json.loads(json.dumps(row, default=_text))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

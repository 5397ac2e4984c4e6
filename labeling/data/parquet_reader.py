"""Reads a Parquet file in a process of its own, with bounded memory: `python -I parquet_reader.py LIMITS < FILE`.

What a page of such a file unpacks to stands in headers that may lie, and a few bytes can stand for any number of long
values. So nothing that a file says is believed: the system gives this process so much memory and no more, and whoever
started it lives on. Each line it writes begins with a sign: `=` a row as JSON, `-` why a row is refused, `!` why
nothing more is read. It needs the standard library and pyarrow, and is given limits as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

READ_ROWS = 16  # in memory at a time
STREAM = 1024 * 1024  # bytes of a column in memory at a time
ROW, REFUSED, END = b"=", b"-", b"!"


def as_json(row: Any) -> str:
    """JSON; times, decimals and bytes become texts."""
    return json.dumps(row, default=_text, ensure_ascii=False)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class Refused(Exception):
    """The file cannot be read on; the message says why."""


def read_file(file: BinaryIO, limits: dict[str, int]) -> Iterator[bytes]:
    """Lines for whoever started this."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(
            pa.PythonFile(file, mode="r"),
            buffer_size=STREAM,
            thrift_string_size_limit=limits["thrift"],
            thrift_container_size_limit=limits["thrift"] // 16,
            page_checksum_verification=False,
        )
        for row in _rows(parquet, limits):
            line = as_json(row).encode()
            if len(line) > limits["line"]:
                yield REFUSED + f"The row is longer than {_mebibytes(limits['line'])}.".encode()
            else:
                yield ROW + line
    except Refused as reason:
        yield END + str(reason).encode()
    except MemoryError:
        most = _mebibytes(limits["memory"])
        yield END + f"The Parquet file needs more than {most} of memory here; the rows before were read.".encode()
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason_given = (str(error).splitlines() or [type(error).__name__])[0][:200]
        yield END + f"The Parquet file is damaged here: {reason_given}.".encode("utf-8", "replace")


def _rows(parquet: Any, limits: dict[str, int]) -> Iterator[Any]:
    about = parquet.metadata
    if about.num_columns > limits["columns"]:
        raise Refused(f"The Parquet file has more than {limits['columns']} columns.")
    if any(about.row_group(n).total_byte_size > limits["group"] for n in range(about.num_row_groups)):
        raise Refused(f"A row group of the Parquet file unpacks to more than {_mebibytes(limits['group'])}.")
    for group in range(about.num_row_groups):
        for batch in parquet.iter_batches(batch_size=READ_ROWS, row_groups=[group], use_threads=False):
            yield from batch.to_pylist()


def _mebibytes(size: int) -> str:
    return f"{size // 1024**2} MiB"


def _bound_memory(size: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    # Of data, not of addresses: libraries reserve far more of these than they ever use.
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def main() -> None:
    limits = json.loads(sys.argv[1])
    _bound_memory(limits["memory"])
    for line in read_file(sys.stdin.buffer, limits):
        sys.stdout.buffer.write(line + b"\n")


if __name__ == "__main__":
    main()

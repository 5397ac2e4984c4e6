"""Lines of a file that somebody uploaded: plain or gzip, read as a stream, nothing about it trusted.

Memory is bounded by one line of `MAX_LINE` bytes. What cannot be read comes out as a `BadLine` in its place, and
reading goes on behind it wherever there is a behind.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

CHUNK = 64 * 1024
MAX_LINE = 4 * 1024 * 1024
MAX_UNPACKED = 2 * 1024**3
MAX_RATIO = 200  # text packs to a tenth or so; deflate can do 1 : 1032
RATIO_FREE = 16 * 1024 * 1024  # unpacked bytes before the ratio counts

GZIP = b"\x1f\x8b"
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
}


class BadLine(Exception):
    """A line that cannot be taken; the message is a sentence for the person who brought the file."""


def read_lines(file: BinaryIO) -> Iterator[tuple[int, str | BadLine]]:
    """Numbered lines as text, without blank ones. A file that cannot be read on ends with a `BadLine`."""
    number = 0
    try:
        for line in _split(_unpacked(file)):
            number += 1
            if isinstance(line, BadLine):
                yield number, line
            elif line.strip():
                yield number, _decoded(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except BadLine as error:
        yield number + 1, error
        return
    if number == 0:
        yield 1, BadLine("The file is empty.")


def _decoded(line: bytes) -> str | BadLine:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return BadLine(f"The line is not UTF-8 text (byte {error.start + 1}).")


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    chunks = iter(lambda: file.read(CHUNK), b"")
    first = next(chunks, b"")
    for magic, name in OTHER_FORMATS.items():
        if first.startswith(magic):
            raise BadLine(f"The file is {name}. Bring JSON lines as UTF-8 text, plain or packed with gzip.")
    if not first.startswith(GZIP):
        yield first
        yield from chunks
        return
    yield from _unzipped(first, chunks)


def _unzipped(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Gzip members one after another, never unpacking more than a chunk at a time."""
    packed, unpacked = len(first), 0
    member, chunk = zlib.decompressobj(wbits=31), first
    while True:
        try:
            data = member.decompress(chunk, CHUNK)
        except zlib.error:
            raise BadLine("The gzip file is damaged here; the lines before were read.") from None
        unpacked += len(data)
        if unpacked > MAX_UNPACKED or unpacked > max(RATIO_FREE, MAX_RATIO * packed):
            raise BadLine("The gzip file unpacks to far too much; the lines before were read.")
        if data:
            yield data
        chunk = member.unconsumed_tail
        if member.eof:
            chunk = member.unused_data or next(rest, b"")
            packed += 0 if member.unused_data else len(chunk)
            if not chunk:
                return
            member = zlib.decompressobj(wbits=31)
        elif not chunk and len(data) < CHUNK:
            if not (chunk := next(rest, b"")):
                raise BadLine("The gzip file is cut off here; the lines before were read.")
            packed += len(chunk)


def _split(chunks: Iterator[bytes]) -> Iterator[bytes | BadLine]:
    pending, too_long = b"", False
    for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            yield _checked(line, too_long)
            too_long = False
        if len(pending) > MAX_LINE:
            pending, too_long = b"", True
    if pending or too_long:
        yield _checked(pending, too_long)


def _checked(line: bytes, too_long: bool) -> bytes | BadLine:
    if too_long or len(line) > MAX_LINE:
        return BadLine(f"The line is longer than {MAX_LINE // 1024**2} MiB.")
    return line

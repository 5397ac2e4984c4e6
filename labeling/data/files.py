"""Bytes of a file that somebody uploaded: plain, gzip or Zstandard, read as a stream, nothing about it trusted.

Unpacking stops where a file unpacks to far too much. `labeling.data.containers` makes rows of the bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

import zstandard
from django.utils.translation import gettext_noop

CHUNK = 64 * 1024
MAX_LINE = 4 * 1024 * 1024
MAX_UNPACKED = 2 * 1024**3
MAX_RATIO = 200  # text packs to a tenth or so; deflate can do 1 : 1032
RATIO_FREE = 16 * 1024 * 1024  # unpacked bytes before the ratio counts

MAX_WINDOW = 128 * 1024 * 1024  # bytes a Zstandard file may make us remember: what `zstd --long` asks for

ZSTD_SLICE = 1024  # packed bytes given to it at a time

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
PARQUET = b"PAR1"
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
}


class BadLine(Exception):
    """A line that cannot be taken; the message is a sentence for the person who brought the file."""


def unpacked(file: BinaryIO) -> Iterator[bytes]:
    """Chunks of the file, unpacked. Raises BadLine where it cannot be read on."""
    chunks = iter(lambda: file.read(CHUNK), b"")
    first = next(chunks, b"")
    for magic, name in OTHER_FORMATS.items():
        if first.startswith(magic):
            raise BadLine(f"The file is {name}. Bring JSON, CSV or Parquet, plain or packed with gzip or zstd.")
    if first.startswith(GZIP):
        yield from _unzipped(first, chunks)
    elif first.startswith(ZSTD):
        yield from _unpacked_zstd(first, chunks)
    else:
        yield first
        yield from chunks


def check_size(packed: int, unpacked: int, name: str) -> None:
    """Raises BadLine where a file unpacks to far too much."""
    if unpacked > MAX_UNPACKED or unpacked > max(RATIO_FREE, MAX_RATIO * packed):
        raise BadLine(f"The {name} file unpacks to far too much; the lines before were read.")


def _unpacked_zstd(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Frames one after another. A slice has at most 341 blocks of 128 KiB, so no call unpacks more than 43 MiB."""
    packed = unpacked = 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    frame = decompressor.decompressobj()
    for piece in chain([first], rest):
        packed += len(piece)
        for start in range(0, len(piece), ZSTD_SLICE):
            left = piece[start : start + ZSTD_SLICE]
            while left:
                if frame.eof:
                    frame = decompressor.decompressobj()
                try:
                    data = frame.decompress(left)
                except zstandard.ZstdError:
                    raise BadLine(
                        gettext_noop("The Zstandard file is damaged here; the lines before were read.")
                    ) from None
                left = frame.unused_data if frame.eof else b""
                unpacked += len(data)
                check_size(packed, unpacked, "Zstandard")
                yield data
    if not frame.eof:
        raise BadLine(gettext_noop("The Zstandard file is cut off here; the lines before were read."))


def _unzipped(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Gzip members one after another, never unpacking more than a chunk at a time."""
    packed, unpacked = len(first), 0
    member, chunk = zlib.decompressobj(wbits=31), first
    while True:
        try:
            data = member.decompress(chunk, CHUNK)
        except zlib.error:
            raise BadLine(gettext_noop("The gzip file is damaged here; the lines before were read.")) from None
        unpacked += len(data)
        check_size(packed, unpacked, "gzip")
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
                raise BadLine(gettext_noop("The gzip file is cut off here; the lines before were read."))
            packed += len(chunk)

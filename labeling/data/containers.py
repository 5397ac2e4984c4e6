"""Rows of a file: JSON lines, one JSON array, CSV or Parquet. Nothing about the file is trusted.

Memory is bounded by one row of `MAX_LINE` bytes. What cannot be read comes out as a `BadLine` in its place, and
reading goes on behind it wherever there is a behind. Rows are numbered by lines in text files, else from 1.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from django.utils.translation import gettext_noop

from labeling.data import files
from labeling.data.files import BadLine, unpacked
from labeling.data.parquet import read_parquet
from labeling.data.rows import MAX_DEPTH

Numbered = Iterator[tuple[int, Any]]
"""Numbers with a row, which may be any JSON value, or a `BadLine`."""

HEAD = 4096  # bytes that tell what a file is
MARKS = re.compile(rb'["\\{}\[\]]')
DELIMITERS = ",;\t"
ESCAPED = re.compile(r"'+[=+\-@\t\r]")  # an apostrophe keeps a spreadsheet from computing a cell


def read_rows(file: BinaryIO) -> Numbered:
    """The rows of a file, whose kind its first bytes show. A file that cannot be read on ends with a `BadLine`."""
    first, chunks = _with_head(unpacked(file))
    if first.startswith(files.PARQUET):
        yield from read_parquet(file)
        return
    start = first.lstrip()
    if start.startswith(b"["):
        yield from _array(chunks)
    elif re.match(rb"\{\s*\r?\n", start):
        yield from _objects(chunks)
    elif delimiter := _delimiter(start):
        yield from _csv(_lines(chunks), delimiter)
    else:
        yield from _json_lines(_lines(chunks))


def _with_head(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Enough of the first bytes to see what a file is, and all chunks, with these and without a byte order mark."""
    head = b""
    failure: BadLine | None = None
    try:
        while len(head) < HEAD and (chunk := next(chunks, None)) is not None:
            head += chunk
    except BadLine as error:
        failure = error
    head = head.removeprefix(codecs.BOM_UTF8)

    def all_chunks() -> Iterator[bytes]:
        yield head
        if failure:
            raise failure
        yield from chunks

    return head, all_chunks()


def _delimiter(start: bytes) -> str:
    """What separates the columns of a CSV file, or nothing where the file is none."""
    header, _, rest = start.partition(b"\n")
    if header.startswith((b"{", b"[")) or rest.lstrip().startswith((b"{", b"[")):
        return ""
    bare = re.sub(rb'"[^"]*"', b"", header).decode(errors="replace")
    best = max(DELIMITERS, key=bare.count)
    return best if best in bare else ""


# --- JSON ---------------------------------------------------------------------------------------------------------


def parse_json(text: str) -> Any:
    """The value of one line. Raises BadLine with the reason."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadLine(gettext_noop("The line is nested more than {} levels deep.").format(MAX_DEPTH)) from None
    except json.JSONDecodeError as error:
        raise BadLine(f"The line is not valid JSON: {error.msg} (column {error.colno}).") from None
    except ValueError as error:  # a number with thousands of digits
        raise BadLine(f"The line is not valid JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise json.JSONDecodeError(f"{name} is no JSON value", name, 0)


def _json_or_bad(line: bytes | BadLine) -> Any:
    try:
        return parse_json(_decoded(line))
    except BadLine as error:
        return error


def _json_lines(lines: Numbered) -> Numbered:
    for number, line in lines:
        if isinstance(line, BadLine) or line.strip():
            yield number, _json_or_bad(line)


def _array(chunks: Iterator[bytes]) -> Numbered:
    """The elements of an array. Behind a broken one nothing can be told apart, but a wrong one is only itself."""
    yield from _values(chunks, outside=1)


def _objects(chunks: Iterator[bytes]) -> Numbered:
    """Objects one after another that go over several lines."""
    yield from _values(chunks, outside=0)


def _values(chunks: Iterator[bytes], outside: int) -> Numbered:
    """Objects at the depth `outside`, cut out by counting brackets, so that only one is in memory at a time."""
    number, pending, seen, depth, start, quoted = 0, b"", 0, 0, None, False
    try:
        for chunk in chunks:
            pending += chunk
            end = len(pending) - 1  # a backslash needs what it escapes
            while seen < end and (mark := MARKS.search(pending, seen, end)):
                place, sign, seen = mark.start(), mark.group(), mark.end()
                if sign == b"\\":
                    seen += quoted
                elif sign == b'"':
                    quoted = not quoted
                elif quoted:
                    continue
                elif sign in b"{[":
                    start = place if depth == outside and sign == b"{" else start
                    depth += 1
                else:
                    depth -= 1
                    if depth == outside and start is not None:
                        number += 1
                        yield number, _json_or_bad(pending[start:seen])
                        start = None
            seen = max(seen, end)
            cut = seen if start is None else start
            pending, seen, start = pending[cut:], seen - cut, None if start is None else 0
            if len(pending) > files.MAX_LINE:
                raise BadLine(
                    gettext_noop("The object is longer than {} MiB; those before were read.").format(
                        files.MAX_LINE // 1024**2
                    )
                )
        if start is not None and depth == outside + 1 and not quoted and pending.endswith(b"}"):
            yield number + 1, _json_or_bad(pending)
        elif start is not None or depth != (outside if pending == b"]" else 0):
            raise BadLine(gettext_noop("The JSON ends in the middle; what came before was read."))
        elif number == 0:
            raise BadLine(gettext_noop("There are no objects in the file."))
    except BadLine as error:
        yield number + 1, error


# --- CSV ----------------------------------------------------------------------------------------------------------


def _csv(lines: Numbered, delimiter: str) -> Numbered:
    """A row for each record, by the names in the header. A record of several lines has the first one's number."""
    csv.field_size_limit(2 * files.MAX_LINE)  # for all of the process, and never reached: `_Records` is stricter
    header: list[str] = []
    source = _Records(lines)
    while not source.ended:
        reader = csv.reader(source, delimiter=delimiter, strict=True)
        while True:
            source.begin()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except BadLine as error:
                yield source.line, error
                break  # the reader may be in the middle of a record
            except csv.Error as error:
                yield source.line, BadLine(f"The line is not valid CSV: {error}.")
                break
            if not cells:
                continue
            if not header:
                header = [cell.strip() for cell in cells]
            elif len(cells) != len(header):
                yield (
                    source.line,
                    BadLine(gettext_noop("The line has {} cells, the header {}.").format(len(cells), len(header))),
                )
            else:
                yield source.line, {name: _cell(text) for name, text in zip(header, cells, strict=True) if name}


class _Records:
    """Lines as text for `csv.reader`, which asks for as many as a record has; a record has at most `MAX_LINE` bytes."""

    def __init__(self, lines: Numbered) -> None:
        self.lines, self.line, self.size, self.ended, self.fresh = lines, 0, 0, False, True

    def begin(self) -> None:
        self.size, self.fresh = 0, True

    def __iter__(self) -> _Records:
        return self

    def __next__(self) -> str:
        number, line = next(self.lines, (0, None))
        if line is None:
            self.ended = True
            raise StopIteration
        if self.fresh:
            self.line, self.fresh = number, False
        text = _decoded(line)
        self.size += len(line)
        if self.size > files.MAX_LINE:
            raise BadLine(
                gettext_noop("The line is longer than {} MiB; is a quotation mark missing?").format(
                    files.MAX_LINE // 1024**2
                )
            )
        return text + "\n"


def _cell(text: str) -> Any:
    """A cell's text, or the messages that are written in it as JSON."""
    if text.startswith(('[{"', "[]")):
        try:
            value = parse_json(text)
        except BadLine:
            return text
        return value if all(isinstance(entry, dict) and "role" in entry for entry in value) else text
    return text[1:] if ESCAPED.match(text) else text


# --- Lines --------------------------------------------------------------------------------------------------------


def _lines(chunks: Iterator[bytes]) -> Numbered:
    """Numbered lines as bytes. A file that cannot be read on ends with a `BadLine`."""
    number = 0
    try:
        for number, line in enumerate(_split(chunks), 1):
            yield number, line
    except BadLine as error:
        yield number + 1, error
        return
    if number == 0:
        yield 1, BadLine(gettext_noop("The file is empty."))


def _split(chunks: Iterator[bytes]) -> Iterator[bytes | BadLine]:
    pending, too_long = b"", False
    for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            yield _checked(line, too_long)
            too_long = False
        if len(pending) > files.MAX_LINE:
            pending, too_long = b"", True
    if pending or too_long:
        yield _checked(pending, too_long)


def _checked(line: bytes, too_long: bool) -> bytes | BadLine:
    if too_long or len(line) > files.MAX_LINE:
        return BadLine(gettext_noop("The line is longer than {} MiB.").format(files.MAX_LINE // 1024**2))
    return line


def _decoded(line: bytes | BadLine) -> str:
    if isinstance(line, BadLine):
        raise line
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise BadLine(gettext_noop("The line is not UTF-8 text (byte {}).").format(error.start + 1)) from None

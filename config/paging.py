"""Pages of a list by key: the thousandth costs as much as the first, whatever comes or goes in the meantime.

The address of a page holds the keys of the last row before it, signed: they are read as what they were written as.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.http import QueryDict

Row = TypeVar("Row", bound=Model)
SIZE = 50
SALT = "config.paging"


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, and what the addresses of this page and of the next hold: nothing for the first, and behind the last."""

    rows: list[Row]
    at: str
    following: str

    @property
    def is_first(self) -> bool:
        """Whether nothing comes before."""
        return not self.at


def page_of(rows: QuerySet[Row, Any], cursor: str, *keys: str, size: int = SIZE) -> Page[Row]:
    """The page that `cursor` leads to (if to none, the first), ordered by `keys`; "-" stands before one that falls.

    Keys are fields, also of related rows (`user__username`), and unique together.
    """
    before = _read(cursor, len(keys))
    found: list[Row] = []
    for part in _behind(keys, before) if before else [Q()]:
        found += rows.filter(part).order_by(*keys)[: size + 1 - len(found)]
    following = signing.dumps(_keys_of(found[size - 1], keys), salt=SALT) if len(found) > size else ""
    return Page(found[:size], cursor if before else "", following)


def wanted(query: QueryDict) -> str:
    """What somebody looks for in a list."""
    return query.get("find", "").replace("\x00", "").strip()[:150]


def _read(cursor: str, count: int) -> list[Any] | None:
    """None for what this site has not written."""
    try:
        values: list[Any] = signing.loads(cursor, salt=SALT) if cursor else []
    except signing.BadSignature:
        return None
    return values if len(values) == count else None


def _behind(keys: Sequence[str], values: Sequence[Any]) -> Iterator[Q]:
    """What comes after these values, in parts, one after the other: each is a range of an index, which an OR is not."""
    fields = [key.removeprefix("-") for key in keys]
    for place in reversed(range(len(keys))):
        further = "lt" if keys[place].startswith("-") else "gt"
        yield Q(**dict(zip(fields[:place], values, strict=False))) & Q(**{f"{fields[place]}__{further}": values[place]})


def _keys_of(row: Model, keys: Sequence[str]) -> list[Any]:
    return [attrgetter(key.removeprefix("-").replace("__", "."))(row) for key in keys]

"""Rows of hand-written SQL as model instances, for the few queries that every answer of an annotator needs.

Django takes longer to build such a statement, each time anew, than PostgreSQL to answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from django.db import connection, models


@cache
def columns(model: type[models.Model], table: str) -> str:
    """All columns of a model, for a SELECT in which its table is called `table`."""
    return ", ".join(f'{table}."{field.column}"' for field in model._meta.concrete_fields)


@cache
def _readers(model: type[models.Model]) -> list[tuple[str, Callable[..., Any] | None]]:
    """The name of each column's attribute, and what makes a value of it where the database's is none."""
    return [(field.attname, getattr(field, "from_db_value", None)) for field in model._meta.concrete_fields]


def read_one(statement: str, parameters: Mapping[str, Any], *of: type[models.Model]) -> list[Any] | None:
    """The first row, as one instance of each model; the statement selects their `columns` in this order."""
    with connection.cursor() as cursor:
        row = cursor.execute(statement, parameters).fetchone()
    if row is None:
        return None
    values, found = iter(row), []
    for model in of:
        names, readers = zip(*_readers(model), strict=True)
        own = [next(values) if read is None else read(next(values), None, connection) for read in readers]
        found.append(model.from_db("default", names, own))
    return found

"""Hand-written SQL for the few statements that every answer of an annotator needs, and their rows as model instances.

Django takes longer to build such a statement, each time anew, than PostgreSQL to answer it; and PostgreSQL takes longer
to plan it than to run it. So these are prepared: parsed once for each connection, and planned a few times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

from django.db import connection, models

from config.postgres.base import DatabaseWrapper


@cache
def columns(model: type[models.Model], table: str) -> str:
    """All columns of a model, for a SELECT in which its table is called `table`."""
    return ", ".join(f'{table}."{field.column}"' for field in model._meta.concrete_fields)


@cache
def _readers(model: type[models.Model]) -> list[tuple[str, Callable[..., Any] | None]]:
    """The name of each column's attribute, and what makes a value of it where the database's is none."""
    return [(field.attname, getattr(field, "from_db_value", None)) for field in model._meta.concrete_fields]


def fetch_all(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a statement, prepared."""
    with cast(DatabaseWrapper, connection).prepared_cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def fetch_one(statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The first row of `fetch_all`."""
    rows = fetch_all(statement, parameters)
    return rows[0] if rows else None


def read_one(statement: str, parameters: Mapping[str, Any], *of: type[models.Model]) -> list[Any] | None:
    """The first row, as one instance of each model; the statement selects their `columns` in this order."""
    row = fetch_one(statement, parameters)
    if row is None:
        return None
    values, found = iter(row), []
    for model in of:
        names, readers = zip(*_readers(model), strict=True)
        own = [next(values) if read is None else read(next(values), None, connection) for read in readers]
        found.append(model.from_db("default", names, own))
    return found


def insert(row: models.Model) -> None:
    """Save a new row, prepared. Sends no signals, and knows no defaults but those of the model."""
    fields = [(str(field.column), field) for field in row._meta.concrete_fields if not field.primary_key]
    values = {column: field.get_db_prep_save(field.pre_save(row, True), connection) for column, field in fields}
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    statement = f"INSERT INTO {row._meta.db_table} ({names}) VALUES ({places}) RETURNING {row._meta.pk.column}"
    [(row.pk,)] = fetch_all(statement, values)
    row._state.adding, row._state.db = False, "default"

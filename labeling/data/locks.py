"""Work that one worker does at a time, and that the next one finds free when it died: advisory locks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def held(kind: int, key: int) -> Iterator[bool]:
    """Whether this connection got the lock; it ends with the block, or with the connection however that dies."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [kind, key])
        [is_mine] = cursor.fetchone() or [False]
        try:
            yield is_mine
        finally:
            if is_mine:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [kind, key])

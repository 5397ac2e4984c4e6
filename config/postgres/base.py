from __future__ import annotations

import select
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.operations import DatabaseOperations
from django.db.backends.utils import CursorWrapper
from psycopg import ClientCursor, Cursor


class Operations(DatabaseOperations):
    def last_executed_query(self, cursor: Any, sql: Any, params: Any) -> str:
        """For logs of queries: with its values, also where they went beside it."""
        if isinstance(cursor, ClientCursor):
            return super().last_executed_query(cursor, sql, params)
        return str(self.compose_sql(sql, params))


class DatabaseWrapper(base.DatabaseWrapper):
    ops_class = Operations

    def get_connection_params(self) -> dict[str, Any]:
        return super().get_connection_params() | {"prepare_threshold": 0}

    def prepared_cursor(self) -> CursorWrapper:
        """For statements that are asked for often: each connection parses them once, and plans them a few times.

        Django's own cursors put values into the text of a statement, which makes it another one each time. Here they
        go beside it, with the types that Python gives them; one that may be None needs a cast.
        """
        self.close_if_health_check_failed()
        self.ensure_connection()
        wrapped: CursorWrapper = self._prepare_cursor(Cursor(self.connection))  # type: ignore[attr-defined]
        return wrapped

    def is_usable(self) -> bool:
        """Whether the kept connection still has a server; asks it only where there is a doubt.

        Django asks with a query before each request. But a server that ends or dies closes the connection, and then
        there is something to read where otherwise is nothing.
        """
        if self.connection is None or self.connection.closed:
            return False
        socket = select.poll()
        socket.register(self.connection.fileno(), select.POLLIN)
        return not socket.poll(0) or super().is_usable()

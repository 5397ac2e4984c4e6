"""Static files as production serves them."""

from __future__ import annotations

import re
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.test import override_settings

IMPORT = re.compile(r'(?:from|import)\s*\(?"([^"]+)"')


def test_scripts_import_each_other_by_hashed_names(tmp_path: Path) -> None:
    storages = settings.STORAGES | {"staticfiles": {"BACKEND": "config.static.HashedFiles"}}
    with override_settings(STORAGES=storages, STATIC_ROOT=str(tmp_path)):
        call_command("collectstatic", interactive=False, verbosity=0)
        seen: set[Path] = set()
        waiting = [
            tmp_path / staticfiles_storage.url(f"js/{name}").removeprefix(settings.STATIC_URL)
            for name in ("label/main.js", "run.js")
        ]
        while waiting:
            script = waiting.pop().resolve()
            if script not in seen:
                seen.add(script)
                assert re.search(r"\.[0-9a-f]{12}\.js$", script.name)
                waiting += [script.parent / name for name in IMPORT.findall(script.read_text())]
    assert len(seen) > 15

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.backup import BackupFailed, write_backup


class Command(BaseCommand):
    help = "Write the database, run directories and models to one file. The site may go on meanwhile."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            manifest = write_backup(path)
        except (BackupFailed, OSError) as error:
            raise CommandError(str(error)) from error
        size = path.stat().st_size / 2**20
        tables, files = len(manifest["tables"]), len(manifest["files"]) - len(manifest["tables"])
        self.stdout.write(f"{path}: {tables} tables and {files} other files, {size:.1f} MiB.")
        self.stdout.write("Keep SECRET_KEY beside it, at another place: it is not in the file.")

"""One file with everything a site holds: the rows of the database, run directories with their models, snapshots.

Rows are written with COPY in one snapshot of the database, and restored with COPY into the schema that they were
written from, which is then migrated to the newest. So a backup needs no program of PostgreSQL's, goes from the embedded
server to another one and back, and from an older version of Prefloop to a newer one. The file is a compressed tar whose
last member, `manifest.json`, has the SHA-256 of all others. A secret key is not in it, and neither are sign-ins.

A run directory is written after the rows: it has at least what they say. What runs meanwhile is resumed after a
restore, as after a crash. Jobs are left out, because workers enqueue runs without one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

FORMAT = 1
MANIFEST = "manifest.json"
LEFT_OUT = {"django_session"}  # people sign in again
FOLDERS = {"runs": settings.RUNS_DIR, "snapshots": settings.SNAPSHOTS_DIR}
IN_MEMORY = 2**24  # bytes of a table's rows; longer ones go to a temporary file

Manifest = dict[str, Any]


class BackupFailed(Exception):
    """It could not be written or restored; the message says why."""


class _Hashed:
    """A file that is being read, and the SHA-256 of what was."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        return block


def write_backup(path: Path) -> Manifest:
    """Write everything to a new file, for its owner only. Returns its manifest. Raises BackupFailed."""
    if path.exists():
        raise BackupFailed(f"{path} exists already. Choose another name.")
    draft = path.with_name(f".{path.name}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
            manifest = _write(archive)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return manifest


def _write(archive: tarfile.TarFile) -> Manifest:
    manifest: Manifest = {
        "format": FORMAT,
        "version": settings.VERSION,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "tables": {},
        "files": {},
    }

    def add(name: str, file: IO[bytes], size: int) -> None:
        info, hashed = tarfile.TarInfo(name), _Hashed(file)
        info.size, info.mode = size, 0o600
        archive.addfile(info, hashed)
        manifest["files"][name] = hashed.digest.hexdigest()

    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        manifest["migrations"] = sorted(map(list, MigrationRecorder(connection).applied_migrations()))
        for table in _tables():
            manifest["tables"][table] = _write_table(cursor, table, add)
    for name, folder in FOLDERS.items():
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
            try:
                opened = file.open("rb")
            except FileNotFoundError:  # an old checkpoint of a run that goes on
                continue
            with opened:
                add(f"{name}/{file.relative_to(folder)}", opened, os.fstat(opened.fileno()).st_size)
    document = json.dumps(manifest, indent=1).encode()
    add(MANIFEST, io.BytesIO(document), len(document))
    return manifest


def _tables() -> list[str]:
    return sorted(set(connection.introspection.django_table_names(only_existing=True)) - LEFT_OUT)


def _write_table(cursor: Any, table: str, add: Callable[[str, IO[bytes], int], None]) -> list[str]:
    """Add the rows of a table; returns its columns."""
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"
        " AND is_generated = 'NEVER' ORDER BY ordinal_position",
        [table],
    )
    columns = [name for (name,) in cursor.fetchall()]
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as rows:
        with cursor.copy(f"COPY {_quoted(table, columns)} TO STDOUT") as copy:
            for block in copy:
                rows.write(block)
        size = rows.tell()
        rows.seek(0)
        add(f"tables/{table}", rows, size)
    return columns


def _quoted(table: str, columns: list[str]) -> str:
    quote = connection.ops.quote_name
    return f"{quote(table)} ({', '.join(map(quote, columns))})"


def read_manifest(path: Path) -> Manifest:
    """The manifest of a backup that is whole: every file has its SHA-256. Raises BackupFailed."""
    found: dict[str, str] = {}
    manifest: Manifest = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member, file in _members(archive):
                hashed = _Hashed(file)
                document = hashed.read() if member.name == MANIFEST else b""
                while hashed.read(2**20):
                    pass
                found[member.name] = hashed.digest.hexdigest()
                if document:
                    manifest = json.loads(document)
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise BackupFailed(f"{path} cannot be read: {error}") from error
    if manifest.get("format") != FORMAT:
        raise BackupFailed(f"{path} is no whole backup, or one of another format than {FORMAT}.")
    found.pop(MANIFEST)
    if wrong := [name for name in {*found, *manifest["files"]} if found.get(name) != manifest["files"].get(name)]:
        raise BackupFailed(f"{path} is damaged: {sorted(wrong)[0]} is not what was written.")
    return manifest


def _members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    for member in archive:
        file = archive.extractfile(member) if member.isfile() else None
        if file is None:
            raise BackupFailed(f"{member.name} is no file.")
        yield member, file


def restore_backup(path: Path, *, replace: bool = False) -> Manifest:
    """Make this site what the backup holds. Raises BackupFailed before anything is changed.

    Everything in the database goes, so a site where anybody has an account is left alone without `replace`.
    Nothing else may use the database meanwhile.
    """
    manifest = read_manifest(path)
    loader = MigrationLoader(connection)
    wanted = {(app, name) for app, name in manifest["migrations"]}
    if unknown := wanted - set(loader.disk_migrations):
        raise BackupFailed(f"The backup is of a newer Prefloop ({manifest['version']}; {min(unknown)}). Update first.")
    if not replace and _is_in_use():
        raise BackupFailed("This site has people. Give --replace to throw away what is here.")
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE")
        cursor.execute("CREATE SCHEMA public")
    for app, name in sorted(_newest(loader, wanted)):
        call_command("migrate", app, name, verbosity=0)
    with tarfile.open(path, "r:gz") as archive, transaction.atomic(), connection.cursor() as cursor:
        _read_tables(cursor, archive, manifest)
    with tarfile.open(path, "r:gz") as archive:
        _read_folders(archive)
    call_command("migrate", verbosity=0)
    return manifest


def _newest(loader: MigrationLoader, wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Of each app the wanted migrations that no other wanted one of the app builds on."""
    inner = {
        parent
        for key in wanted
        for parent in loader.disk_migrations[key].dependencies
        if parent[0] == key[0]  # "__first__" and other apps aside
    }
    return wanted - inner


def _is_in_use() -> bool:
    with connection.cursor() as cursor:
        if "accounts_user" not in connection.introspection.table_names(cursor):
            return False
        cursor.execute("SELECT EXISTS (SELECT FROM accounts_user)")
        return bool(cursor.fetchone()[0])


def _read_tables(cursor: Any, archive: tarfile.TarFile, manifest: Manifest) -> None:
    quote = connection.ops.quote_name
    cursor.execute(f"TRUNCATE {', '.join(map(quote, manifest['tables']))}")  # migrations have filled some
    for member, file in _members(archive):
        folder, _, table = member.name.partition("/")
        if folder != "tables":
            continue
        with cursor.copy(f"COPY {_quoted(table, manifest['tables'][table])} FROM STDIN") as copy:
            while block := file.read(2**20):
                copy.write(block)
    for statement in connection.ops.sequence_reset_sql(no_style(), apps.get_models(include_auto_created=True)):
        cursor.execute(statement)


def _read_folders(archive: tarfile.TarFile) -> None:
    for member, file in _members(archive):
        folder, _, name = member.name.partition("/")
        if folder not in FOLDERS:
            continue
        place = (FOLDERS[folder] / name).resolve()
        if not place.is_relative_to(FOLDERS[folder].resolve()):
            raise BackupFailed(f"{member.name} would lie outside of {FOLDERS[folder]}.")
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with place.open("wb") as copy:
            shutil.copyfileobj(file, copy)

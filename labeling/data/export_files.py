"""Exports of many answers: made by a worker, into files that are kept for some days.

The files lie in `EXPORTS_DIR`, which web and workers share as they share snapshots. In the database they would be
written twice, and every backup would carry them. A worker holds an advisory lock while it writes; the draft of one that
died is begun anew by the next, and is renamed when it is whole. Memory does not grow with the answers.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from django.utils.translation import gettext_noop

from accounts.models import User
from labeling.data.exporting import check_export, export_lines, exported_rankings
from labeling.data.locks import held
from labeling.models import Campaign, ExportFile

logger = logging.getLogger(__name__)

LARGE = 20_000  # answers from which a person is not left waiting
KEPT = timedelta(days=7)
MAX_ATTEMPTS = 3  # then something about this export kills workers
LOOK = 1.0  # seconds between notes of how far it is
BLOCK = 16 * 1024
LOCK = 0x657870  # of exports, among all advisory locks


class _Stopped(Exception):
    """This worker ends."""


def is_large(campaign: Campaign) -> bool:
    """Whether its exports are better made in the background."""
    return campaign.rankings.accepted()[LARGE : LARGE + 1].exists()


def order_export(campaign: Campaign, *, what: str, container: str, user: User) -> ExportFile:
    """Ask a worker for a file. What was asked for and is not there yet is not asked for twice. Raises NoSuchExport."""
    check_export(what, container)
    kind = {"campaign": campaign, "what": what, "container": container, "finished_at": None, "failure": ""}
    return ExportFile.objects.get_or_create(**kind, defaults={"user": user})[0]


def path_of(export: ExportFile) -> Path:
    """Where the finished file lies."""
    return Path(settings.EXPORTS_DIR) / f"{export.pk}.{export.container}"


def is_there(export: ExportFile) -> bool:
    """Whether it can be downloaded."""
    return export.finished_at is not None and path_of(export).exists()


def read_blocks(export: ExportFile) -> Iterator[bytes]:
    """The bytes of a finished file."""
    with path_of(export).open("rb") as file:
        yield from iter(lambda: file.read(BLOCK), b"")


def make_waiting(stop: Callable[[], bool]) -> int:
    """Make what was asked for, until `stop` says that this worker ends. How many files there are now."""
    waiting = ExportFile.objects.filter(finished_at=None, failure="")
    done = 0
    for key in waiting.order_by("pk").values_list("pk", flat=True):
        with held(LOCK, key) as is_mine:
            export = waiting.filter(pk=key).select_related("campaign").first()
            if is_mine and export and not stop():
                done += _make(export, stop)
    return done


def forget_files() -> int:
    """Delete what is too old, also what no row knows of any more. How many exports."""
    kept_since = timezone.now() - KEPT
    for path in Path(settings.EXPORTS_DIR).iterdir():
        with suppress(FileNotFoundError):  # another worker does the same
            if path.stat().st_mtime < kept_since.timestamp():
                path.unlink()
    return ExportFile.objects.filter(created_at__lt=kept_since).delete()[0]


def _make(export: ExportFile, stop: Callable[[], bool]) -> bool:
    if export.attempts >= MAX_ATTEMPTS:
        return _fail(export, f"{MAX_ATTEMPTS} workers died while they made this file; the log may say why.")
    export.attempts += 1
    answers = exported_rankings(export.campaign, export.what).count()
    ExportFile.objects.filter(pk=export.pk).update(attempts=export.attempts, answers=answers, position=0)
    draft = path_of(export).with_suffix(".part")
    try:
        _write(export, draft, stop)
    except _Stopped:
        ExportFile.objects.filter(pk=export.pk).update(attempts=export.attempts - 1)
        return False
    except (OperationalError, InterfaceError):
        raise  # the database is away; the next one begins anew
    except OSError as error:
        logger.warning("Export %s could not be written: %s", export.pk, error)
        return _fail(export, f"The file could not be written: {error.strerror}.")
    except Exception:
        logger.exception("Export %s failed.", export.pk)
        return _fail(export, gettext_noop("The file could not be made; the log has the reason."))
    finally:
        draft.unlink(missing_ok=True)
    return True


def _write(export: ExportFile, draft: Path, stop: Callable[[], bool]) -> None:
    read = 0

    def note() -> None:
        nonlocal read
        read += 1

    looked = time.monotonic()
    with draft.open("wb") as file:
        for piece in export_lines(export.campaign, export.what, export.container, on_answer=note):
            file.write(piece)
            if time.monotonic() - looked > LOOK:
                if stop():
                    raise _Stopped
                ExportFile.objects.filter(pk=export.pk).update(position=read)
                looked = time.monotonic()
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    draft.replace(path_of(export))
    ExportFile.objects.filter(pk=export.pk).update(size=size, position=read, finished_at=timezone.now())
    _drop_older(export)


def _drop_older(export: ExportFile) -> None:
    """A newer file takes the place of those of its kind."""
    same = {"campaign": export.campaign, "what": export.what, "container": export.container}
    for older in ExportFile.objects.filter(pk__lt=export.pk, **same):
        path_of(older).unlink(missing_ok=True)
        older.delete()


def _fail(export: ExportFile, reason: str) -> bool:
    ExportFile.objects.filter(pk=export.pk).update(failure=reason)
    return False

"""Large files, stored in pieces and imported by a worker, so that no request waits for them; datasets likewise.

The pieces are in the database: any worker can read them, and there is no second place to look after. A worker holds an
advisory lock while it imports, which ends with its connection however it dies; the next one goes on behind the last
batch, whose transaction also stored how far it came. When all is read, the pieces are deleted.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_noop

from accounts.models import User
from labeling.campaigns import sizes_of
from labeling.data import files
from labeling.data.containers import read_rows
from labeling.data.formats import columns
from labeling.data.formats.base import Format
from labeling.data.formats.columns import Columns
from labeling.data.formats.registry import FORMATS, parse_rows
from labeling.data.hub import Dataset, dataset_rows
from labeling.data.importing import ImportFailed, continue_import, new_import
from labeling.data.locks import held
from labeling.models import Campaign, Import, UploadPiece
from labeling.webhooks import import_finished

logger = logging.getLogger(__name__)

LARGE = 2 * 1024 * 1024  # bytes from which a request does not wait
PACKING = 20  # times as much may be in a packed file
PIECE = 1024 * 1024
LOCK = 0x696D70  # of imports, among all advisory locks


def is_large(file: BinaryIO, size: int) -> bool:
    """Whether a file of this size is imported in the background."""
    start = file.read(4)
    file.seek(0)
    is_packed = start.startswith((files.GZIP, files.ZSTD, files.PARQUET))
    return size * (PACKING if is_packed else 1) > LARGE


@transaction.atomic
def store_upload(
    campaign: Campaign, file: BinaryIO, *, name: str, user: User | None = None, chosen: Format | None = None
) -> Import:
    """Keep a file for a worker. The report is there at once, and fills."""
    record = new_import(campaign, name=name, user=user)
    record.reading = chosen.stored() if chosen else {}
    record.save(update_fields=["reading"])
    for index, data in enumerate(iter(lambda: file.read(PIECE), b"")):
        UploadPiece.objects.create(source=record, index=index, data=data)
        record.size += len(data)
    record.save(update_fields=["size"])
    return record


def waits(record: Import) -> bool:
    """Whether a worker will go on with it."""
    return not (record.finished_at or record.failure) and (bool(record.dataset) or record.pieces.exists())


def import_waiting(stop: Callable[[], bool]) -> int:
    """Import what was stored, until `stop` says that this worker ends. How many files were finished."""
    pieces = Exists(UploadPiece.objects.filter(source=OuterRef("pk")))
    datasets = Q(finished_at=None, failure="") & ~Q(dataset={})
    done = 0
    for key in Import.objects.filter(pieces | datasets).order_by("pk").values_list("pk", flat=True):
        with held(LOCK, key) as is_mine:
            record = Import.objects.filter(pk=key).select_related("campaign").first()
            if is_mine and record and not stop():
                done += _import(record, stop)
    return done


def _import(record: Import, stop: Callable[[], bool]) -> bool:
    if record.finished_at or record.failure:  # a worker died before it had tidied up
        UploadPiece.objects.filter(source=record).delete()
        return False
    try:
        reading = _reading(record.reading)
        campaign = record.campaign
        rows = parse_rows(_rows(record), campaign.protocol, reading, sizes=sizes_of(campaign), skip=record.position)
        is_done = continue_import(record, rows, stop=stop)
    except ImportFailed as error:
        logger.warning("Import %s failed: %s", record.pk, error)
        is_done = True
        _fail(record, str(error))
    except (OperationalError, InterfaceError):
        raise  # the database is away; the next one goes on
    except Exception:
        logger.exception("Import %s failed.", record.pk)
        is_done = True
        _fail(record, gettext_noop("The file could not be read on; the log has the reason."))
    if is_done:
        UploadPiece.objects.filter(source=record).delete()
    return is_done


def _rows(record: Import) -> Iterator[tuple[int, Any]]:
    if record.dataset:
        return dataset_rows(Dataset(**record.dataset))
    return read_rows(io.BufferedReader(StoredFile(record), PIECE))


@transaction.atomic
def _fail(record: Import, reason: str) -> None:
    record.failure = reason
    record.save(update_fields=["failure"])
    import_finished(record)


def _reading(stored: dict[str, Any]) -> Format | None:
    if stored.get("name") != columns.NAME:
        return FORMATS.get(stored.get("name", ""))
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    del given["name"]
    return Columns(**given).as_format()


class StoredFile(io.RawIOBase):
    """The pieces of an upload as a file, one piece in memory at a time."""

    def __init__(self, record: Import) -> None:
        self.record, self.place = record, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.record.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        index, start = divmod(self.place, PIECE)
        if self.place >= self.record.size:
            return 0
        data = bytes(UploadPiece.objects.get(source=self.record, index=index).data)[start : start + len(buffer)]
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)

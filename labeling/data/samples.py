"""The first rows of a dataset, for somebody who wants to see what it would bring.

Only workers read datasets (`hub`), so a worker fetches the rows, and the web process shows them as it shows those of a
file. They are kept as texts: a database refuses what some rows hold, and the preview says why.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from itertools import islice
from typing import Any

from django.db import InterfaceError, OperationalError
from django.utils import timezone
from django.utils.translation import gettext_noop

from accounts.models import User
from labeling.data import files, previewing
from labeling.data.formats.base import Format
from labeling.data.hub import Dataset, check_dataset, dataset_rows
from labeling.data.importing import ImportFailed
from labeling.data.locks import held
from labeling.data.previewing import Preview, preview_file
from labeling.models import Campaign, DatasetSample

logger = logging.getLogger(__name__)

KEPT = timedelta(days=1)
MAX_ATTEMPTS = 3  # then something about this dataset kills workers
LOCK = 0x736D70  # of samples, among all advisory locks


def order_sample(campaign: Campaign, dataset: Dataset, *, user: User) -> DatasetSample:
    """Ask a worker for the first rows. Raises ImportFailed where it could not be one that this person may read."""
    check_dataset(dataset, user)
    return DatasetSample.objects.create(campaign=campaign, user=user, dataset=asdict(dataset))


def preview_sample(sample: DatasetSample, *, chosen: Format | None = None) -> Preview | None:
    """What they would bring. None while they are not here."""
    if sample.rows is None:
        return None
    lines = "\n".join(sample.rows).encode()
    return preview_file(io.BytesIO(lines), sample.campaign, chosen=chosen)


def read_waiting(stop: Callable[[], bool]) -> int:
    """Fetch what was asked for, until `stop` says that this worker ends. How many samples are here now."""
    waiting = DatasetSample.objects.filter(rows__isnull=True, failure="")
    done = 0
    for key in waiting.order_by("pk").values_list("pk", flat=True):
        with held(LOCK, key) as is_mine:
            sample = waiting.filter(pk=key).first()
            if is_mine and sample and not stop():
                done += _read(sample)
    return done


def forget_samples() -> int:
    """Delete what is too old. How many."""
    return DatasetSample.objects.filter(created_at__lt=timezone.now() - KEPT).delete()[0]


def _read(sample: DatasetSample) -> bool:
    mine = DatasetSample.objects.filter(pk=sample.pk)
    if sample.attempts >= MAX_ATTEMPTS:
        mine.update(
            failure=gettext_noop("{} workers died while they read this dataset; the log may say why.").format(
                MAX_ATTEMPTS
            )
        )
        return False
    mine.update(attempts=sample.attempts + 1)
    try:
        rows = list(_lines(dataset_rows(Dataset(**sample.dataset))))
    except ImportFailed as error:
        mine.update(failure=str(error))
        return False
    except (OperationalError, InterfaceError):
        raise  # the database is away; the next one begins anew
    except Exception:
        logger.exception("Sample %s could not be read.", sample.pk)
        mine.update(failure=gettext_noop("The dataset could not be read; the log has the reason."))
        return False
    mine.update(rows=rows)
    return True


def _lines(rows: Iterator[tuple[int, Any]]) -> Iterator[str]:
    """The first rows as JSON, as many as fit into the memory of a page."""
    size = 0
    for _, row in islice(rows, previewing.ROWS + 1):
        line = json.dumps(row)
        size += len(line)
        if size > files.MAX_LINE:
            return
        yield line

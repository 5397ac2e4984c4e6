"""Datasets of the Hugging Face hub by name, and those saved to a folder of the server, as rows for an import.

From the hub come the Parquet files that it makes of every public dataset itself. So no file that somebody wrote says
what to load or from where, and no code of a dataset ever runs. Only a worker reads, as a stream; the web process never
loads the library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils.translation import gettext_noop

from accounts.models import User
from config import outbound
from labeling.data.formats.base import Format
from labeling.data.importing import ImportFailed, new_import
from labeling.data.parquet import plain
from labeling.models import Campaign, Import

HUB = "https://huggingface.co"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
PART = re.compile(r"[\w.-]{1,100}")
MISSING = gettext_noop(
    "Datasets need the package datasets, version 4 or newer, where the worker runs (pip install datasets)."
)


@dataclass(frozen=True)
class Dataset:
    """A name on the hub, or the path of a folder that `Dataset.save_to_disk` wrote. `limit` 0 takes all rows."""

    name: str
    subset: str = "default"
    split: str = "train"
    limit: int = 0

    @property
    def is_local(self) -> bool:
        return self.name.startswith("/")


@transaction.atomic
def store_dataset(campaign: Campaign, dataset: Dataset, *, user: User, chosen: Format | None = None) -> Import:
    """Ask a worker to import a dataset. Raises ImportFailed where it could not be one that this person may read."""
    check_dataset(dataset, user)
    record = new_import(campaign, name=dataset.name, user=user)
    record.dataset = asdict(dataset)
    record.reading = chosen.stored() if chosen else {}
    record.save(update_fields=["dataset", "reading"])
    return record


def check_dataset(dataset: Dataset, user: User) -> None:
    """Raises ImportFailed where this cannot be a dataset, or not one that this person may read."""
    if not (PART.fullmatch(dataset.subset) and PART.fullmatch(dataset.split)):
        raise ImportFailed(gettext_noop("A subset and a split are named by letters, digits, dots and dashes."))
    if dataset.is_local:
        if not user.is_site_admin:
            raise ImportFailed(gettext_noop("Only admins can bring in folders of the server."))
        return
    if not NAME.fullmatch(dataset.name):
        raise ImportFailed(gettext_noop("Give a name on the hub such as Anthropic/hh-rlhf."))
    try:
        outbound.check_url(HUB)
    except outbound.NotAllowed as error:
        raise ImportFailed(f"The hub cannot be reached from here. {error}") from None


def dataset_rows(dataset: Dataset) -> Iterator[tuple[int, Any]]:
    """Its numbered rows, one after another. Raises ImportFailed with what is wrong."""
    try:
        rows = _local(dataset) if dataset.is_local else _streamed(dataset)
        for number, row in enumerate(islice(rows, dataset.limit or None), 1):
            yield number, plain(row)
    except ImportFailed:
        raise
    except Exception as error:  # the library raises whatever the network, the files or its helpers do
        lines = str(error).strip().splitlines() or [""]
        raise ImportFailed(f"The dataset could not be read: {type(error).__name__}: {lines[0][:300]}") from error


def _local(dataset: Dataset) -> Iterator[Any]:
    if not Path(dataset.name).is_dir():
        raise ImportFailed(gettext_noop("There is no such folder on the machine of the worker."))
    found = _library().load_from_disk(dataset.name)
    if hasattr(found, "keys"):  # several splits
        if dataset.split not in found:
            raise ImportFailed(f"There is no split {dataset.split}; there are {', '.join(found)}.")
        found = found[dataset.split]
    return iter(found)


def _streamed(dataset: Dataset) -> Iterator[Any]:
    library = _library()
    return iter(library.load_dataset("parquet", data_files=files_of(dataset), split="train", streaming=True))


def files_of(dataset: Dataset) -> str:
    """Where the hub keeps the Parquet files of a split."""
    return f"hf://datasets/{dataset.name}@refs/convert/parquet/{dataset.subset}/{dataset.split}/*.parquet"


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise ImportFailed(MISSING) from None
    if int(datasets.__version__.partition(".")[0]) < 4:  # older ones ran code that came with a dataset
        raise ImportFailed(MISSING)
    return datasets

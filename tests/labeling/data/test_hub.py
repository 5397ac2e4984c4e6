"""Datasets by name and from folders: a worker reads them as streams, and says what is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from accounts.models import User
from labeling.data import hub
from labeling.data.formats.registry import FORMATS
from labeling.data.hub import Dataset, dataset_rows, store_dataset
from labeling.data.importing import ImportFailed
from labeling.data.uploads import import_waiting
from labeling.models import Campaign, Import
from tests.conftest import client_for

datasets = pytest.importorskip("datasets", reason="the optional package datasets is not installed")

ROWS = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset with two splits, saved to disk."""
    splits = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:2])}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def work(record: Import) -> Import:
    assert import_waiting(lambda: False) == 1
    record.refresh_from_db()
    return record


def test_an_admin_brings_in_a_folder(campaign: Campaign, admin: User, folder: Path) -> None:
    record = work(store_dataset(campaign, Dataset(str(folder), split="test"), user=admin))
    assert (record.accepted, record.rankings, record.failure) == (2, 2, "")
    record = work(store_dataset(campaign, Dataset(str(folder), limit=5), user=admin))
    assert (record.accepted, record.duplicates) == (3, 2)
    assert import_waiting(lambda: False) == 0
    record = work(store_dataset(campaign, Dataset(str(folder)), user=admin, chosen=FORMATS["arena"]))
    assert record.rejected == 10
    record = work(store_dataset(campaign, Dataset(str(folder), split="dev"), user=admin))
    assert record.failure == "There is no split dev; there are train, test."


def test_a_name_on_the_hub_is_streamed_from_the_hubs_own_files(
    campaign: Campaign, manager: User, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OUTBOUND = ["huggingface.co"]
    dataset = Dataset("Anthropic/hh-rlhf")
    assert hub.files_of(dataset) == "hf://datasets/Anthropic/hh-rlhf@refs/convert/parquet/default/train/*.parquet"
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "0000.parquet")
    monkeypatch.setattr(hub, "files_of", lambda _: str(tmp_path / "*.parquet"))
    record = work(store_dataset(campaign, dataset, user=manager))
    assert (record.name, record.accepted, record.failure) == ("Anthropic/hh-rlhf", 10, "")


def test_a_worker_that_is_told_to_end_goes_on_later(
    campaign: Campaign, admin: User, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labeling.data.importing.BATCH_ROWS", 4)
    record = store_dataset(campaign, Dataset(str(folder)), user=admin)
    answers = iter([False, True])
    assert import_waiting(lambda: next(answers)) == 0
    record.refresh_from_db()
    assert (record.position, record.finished_at) == (4, None)
    assert work(record).accepted == 10


@pytest.mark.parametrize(
    ("dataset", "outbound", "problem"),
    [
        (Dataset("/srv/data"), ["*"], "Only admins"),
        (Dataset("https://evil.example/x"), ["*"], "a name on the hub"),
        (Dataset("a/b/c"), ["*"], "a name on the hub"),
        (Dataset("../etc"), ["*"], "a name on the hub"),
        (Dataset("a/b", subset="../x"), ["*"], "letters, digits"),
        (Dataset("a/b", split="train[:10]"), ["*"], "letters, digits"),
        (Dataset("a/b"), [], "cannot be reached from here"),
        (Dataset("a/b"), ["example.org"], "cannot be reached from here"),
    ],
)
def test_what_may_not_be_read_is_refused_at_once(
    campaign: Campaign, manager: User, settings: Settings, dataset: Dataset, outbound: list[str], problem: str
) -> None:
    settings.OUTBOUND = outbound
    with pytest.raises(ImportFailed, match=problem):
        store_dataset(campaign, dataset, user=manager)
    assert not campaign.imports.exists()


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImportFailed, match="no such folder"):
        list(dataset_rows(Dataset(str(tmp_path / "nowhere"))))
    with pytest.raises(ImportFailed, match="could not be read: FileNotFoundError"):
        list(dataset_rows(Dataset(str(tmp_path))))

    def offline(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ImportFailed, match="could not be read: ConnectionError: no network$"):
        list(dataset_rows(Dataset("a/b")))
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(ImportFailed, match="version 4"):
        list(dataset_rows(Dataset("a/b")))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportFailed, match="pip install datasets"):
        list(dataset_rows(Dataset("a/b")))


def test_the_page_and_the_api_ask_for_a_dataset(campaign: Campaign, manager: User, settings: Settings) -> None:
    client = client_for(manager)
    url = f"/api/campaigns/{campaign.public_id}/imports/dataset"
    refused = client.post(url, {"name": "a/b"}, content_type="application/json")
    assert (refused.status_code, "OUTBOUND" in refused.json()["detail"]) == (409, True)
    settings.OUTBOUND = ["*"]
    assert client.post(url, {"name": "a/b"}, content_type="application/json").status_code == 202
    page = f"/campaigns/{campaign.public_id}/import/dataset"
    fields = {"name": "a/b", "subset": "default", "split": "train", "limit": "100"}
    assert "Waiting for a worker" in client.post(page, fields, follow=True).text
    assert campaign.imports.latest("pk").dataset["limit"] == 100
    assert "This field is required" in client.post(page, {}, follow=True).text
    assert "a name on the hub" in client.post(page, {**fields, "name": "?"}, follow=True).text

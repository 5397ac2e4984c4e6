"""First rows of a dataset: fetched by a worker, looked at and read as chosen, then imported like that."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.data import files, samples
from labeling.data.hub import Dataset
from labeling.data.importing import ImportFailed
from labeling.data.samples import forget_samples, order_sample, preview_sample, read_waiting
from labeling.data.uploads import import_waiting
from labeling.models import Campaign, DatasetSample
from tests.conftest import client_for

datasets = pytest.importorskip("datasets", reason="the optional package datasets is not installed")

JSON = "application/json"
TABLE = [{"Q": f"Question {n}?", "one": f"yes {n}", "two": f"no {n}", "best": "one"} for n in range(40)]
MAPPED = {"prompt": "Q", "answers": ["one", "two"], "winner": "best"}
CHOSEN = {
    "form": "columns",
    "column-prompt": "Q",
    "column-answer_a": "one",
    "column-answer_b": "two",
    "column-winner": "best",
}


def never() -> bool:
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Dataset:
    datasets.Dataset.from_list(TABLE).save_to_disk(str(tmp_path / "saved"))
    return Dataset(str(tmp_path / "saved"))


def test_a_worker_fetches_the_first_rows_and_nothing_is_imported(
    campaign: Campaign, admin: User, folder: Dataset
) -> None:
    sample = order_sample(campaign, folder, user=admin)
    assert preview_sample(sample) is None
    assert read_waiting(never) == 1
    assert read_waiting(never) == 0
    sample.refresh_from_db()
    preview = preview_sample(sample)
    assert preview and (preview.rows, preview.columns, preview.items) == (20, ["Q", "one", "two", "best"], [])
    assert preview.refused
    assert not campaign.items.exists() and not campaign.imports.exists()
    DatasetSample.objects.update(created_at=timezone.now() - timedelta(days=1, minutes=1))
    assert forget_samples() == 1


def test_rows_that_no_database_keeps_are_shown_with_the_reason(
    campaign: Campaign, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": "Q\x00", "chosen": "a", "rejected": "b"}, {"prompt": "Q", "chosen": "a", "rejected": "b"}]
    monkeypatch.setattr(samples, "dataset_rows", lambda _: enumerate(rows, 1))
    sample = order_sample(campaign, Dataset("/srv/data"), user=admin)
    read_waiting(never)
    sample.refresh_from_db()
    preview = preview_sample(sample)
    assert preview and [one.line for one in preview.refused] == [1] and len(preview.items) == 1
    monkeypatch.setattr(files, "MAX_LINE", len(json.dumps(rows[0])))
    sample = order_sample(campaign, Dataset("/srv/data"), user=admin)
    read_waiting(never)
    sample.refresh_from_db()
    assert len(sample.rows) == 1  # the others would be too much for a page


def test_what_cannot_be_read_is_said(campaign: Campaign, admin: User, manager: User, tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="Only admins"):
        order_sample(campaign, Dataset("/srv/data"), user=manager)
    nowhere = order_sample(campaign, Dataset(str(tmp_path / "nowhere")), user=admin)
    deadly = order_sample(campaign, Dataset(str(tmp_path)), user=admin)
    DatasetSample.objects.filter(pk=deadly.pk).update(attempts=samples.MAX_ATTEMPTS)
    assert read_waiting(lambda: True) == 0
    assert read_waiting(never) == 0
    nowhere.refresh_from_db()
    deadly.refresh_from_db()
    assert "no such folder" in nowhere.failure
    assert "3 workers died" in deadly.failure
    page = client_for(admin).get(f"/campaigns/{campaign.public_id}/import/datasets/{nowhere.pk}/")
    assert "no such folder" in page.text and "hx-trigger" not in page.text


def test_the_page_shows_them_lets_columns_be_chosen_and_imports(
    campaign: Campaign, admin: User, folder: Dataset
) -> None:
    client = client_for(admin)
    fields = {"name": folder.name, "subset": "default", "split": "train", "limit": "30"}
    asked = client.post(f"/campaigns/{campaign.public_id}/import/dataset", {**fields, "preview": "1"}, follow=True)
    page = asked.redirect_chain[-1][0]
    assert 'hx-trigger="every 2s"' in asked.text
    read_waiting(never)
    assert "No item can be made of these rows." in client.get(page).text
    assert "column-answer_b" in client.post(page, {"form": "columns", "preview": "1"}).text
    refused = client.post(page, {"form": "columns"})
    assert (refused.status_code, "Say which columns" in refused.text) == (422, True)
    shown = client.post(page, {**CHOSEN, "preview": "1"})
    assert "yes 0" in shown.text and "A &gt; B" in shown.text
    assert not campaign.imports.exists()
    report = client.post(page, CHOSEN, follow=True)
    assert "Waiting for a worker" in report.text
    import_waiting(never)
    assert (campaign.items.count(), campaign.rankings.count()) == (30, 30)


def test_the_api_does_the_same(campaign: Campaign, admin: User, annotator: User, folder: Dataset) -> None:
    client, dataset = client_for(admin), f"/api/campaigns/{campaign.public_id}/imports/dataset"
    body = {"name": folder.name}
    assert client_for(annotator).post(f"{dataset}/samples", body, content_type=JSON).status_code == 404
    asked = client.post(f"{dataset}/samples", body, content_type=JSON)
    assert (asked.status_code, asked.json()["preview"]) == (202, None)
    read_waiting(never)
    address = f"{dataset}/samples/{asked.json()['id']}"
    assert client.get(address).json()["preview"]["items"] == []
    found: Any = client.get(address, {"columns": json.dumps(MAPPED)}).json()["preview"]
    assert [card["messages"][0]["content"] for card in found["items"][0]["completions"]] == ["yes 0", "no 0"]
    assert client.get(address, {"columns": "[]"}).status_code == 400
    wrong = client.post(dataset, {**body, "columns": {"prompt": "Q", "answers": ["one"]}}, content_type=JSON)
    assert "two answers" in wrong.json()["detail"]
    assert client.post(dataset, {**body, "columns": MAPPED}, content_type=JSON).status_code == 202
    import_waiting(never)
    assert campaign.items.count() == 40

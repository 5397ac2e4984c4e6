"""The kind of adapter in the run form, and its size on the pages of runs and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from labeling.models import Campaign
from rewardmodel.config import VARIANTS
from tests.conftest import client_for
from tests.training.test_pages import MakeRun, as_sent, finish, text_of
from training.models import ModelArtifact, TrainingRun
from training.sizes import size_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(researcher: User) -> Client:
    return client_for(researcher)


def write_card(model: ModelArtifact, card: Any) -> None:
    folder = Path(model.path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize("kind", ["reward", "ppo", "sft"])
def test_a_form_offers_every_kind_of_adapter(client: Client, labeled: Campaign, base: ModelArtifact, kind: str) -> None:
    page = text_of(client.get(f"/runs/new?kind={kind}"))
    for variant in VARIANTS:
        assert f'<option value="{variant}"' in page
    for label in ("Kind of adapter", "LoRA layers", "AdaLoRA target rank", "DyLoRA smallest rank", "LoRA+ ratio"):
        assert label in page


def test_what_does_not_go_together_is_said_in_the_form(client: Client, labeled: Campaign, base: ModelArtifact) -> None:
    path = f"/runs/new?kind=sft&campaign={labeled.public_id}"
    sent = as_sent(client.get(path).context["form"]) | {"campaign": labeled.public_id, "base": base.public_id}
    wrong = sent | {"setting_lora_variant": "adalora", "setting_lora_rank": 4, "setting_lora_target_rank": 4}
    assert "which must be the smaller" in text_of(client.post(path, wrong), 422)
    assert not TrainingRun.objects.exists()
    assert client.post(path, wrong | {"setting_lora_rank": 12}).status_code == 302
    assert TrainingRun.objects.get().config["lora_variant"] == "adalora"


def test_pages_say_how_large_an_adapter_is_and_how_to_export_it(client: Client, make_run: MakeRun) -> None:
    run = make_run("sft")
    model = finish(run, "policy")
    assert size_text(model) == ""
    write_card(model, {"size": {"bytes": 2_000_000, "base_bytes": 700_000_000}})
    size = "1.9\xa0MB, 1/350 of the base (667.6\xa0MB)"
    assert size_text(model) == size
    assert size in text_of(client.get(run.get_absolute_url()))
    page = text_of(client.get(model.get_absolute_url()))
    assert size in page
    assert f"python -m training.engine.merge {model.path} FOLDER" in page


@pytest.mark.parametrize(
    ("card", "text"),
    [
        ({"size": {"bytes": 300, "base_bytes": 400}}, "300\xa0bytes, 75 % of the base (400\xa0bytes)"),
        ({"size": {"bytes": 300, "base_bytes": 0}}, "300\xa0bytes, an unknown part of the base (0\xa0bytes)"),
        ({"size": {"bytes": "many"}}, ""),
        ({"size": 7}, ""),
        ([], ""),
        ({}, ""),
    ],
)
def test_sizes_are_said_where_they_are_known(make_run: MakeRun, card: Any, text: str) -> None:
    model = finish(make_run("sft"), "policy")
    write_card(model, card)
    assert size_text(model) == text

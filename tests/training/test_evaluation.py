"""The held-out report on the page of a reward run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accounts.models import User
from rewardmodel.data import Item, Label
from rewardmodel.report import held_out_report
from tests.conftest import client_for
from tests.security.payloads import PAYLOADS
from tests.training.test_pages import MakeRun, finish, text_of
from training.engine.rundir import EVALUATION
from training.evaluation import HEIGHT, WIDTH, diagram
from training.models import ModelArtifact

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(make_run: MakeRun) -> ModelArtifact:
    """A finished reward run with the report of two items; people, prompts and answers are hostile."""
    run = make_run()
    items = [
        Item(
            str(number),
            ({"role": "user", "content": PAYLOADS[0]},),
            tuple(({"role": "assistant", "content": text},) for text in (PAYLOADS[1], "An answer")),
            tuple(Label(((better,), (1 - better,)), person) for better, person in ((0, PAYLOADS[2]), (1, "bob"))),
            str(number),
        )
        for number in range(2)
    ]
    model = finish(run, "reward")
    folder = Path(model.path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EVALUATION).write_text(json.dumps(held_out_report(items, [[1.0, 0.0], [4.0, 0.0]])))
    return model


def test_the_page_shows_calibration_slices_ceiling_and_surprises(researcher: User, model: ModelArtifact) -> None:
    page = text_of(client_for(researcher).get(model.run.get_absolute_url()))
    for shown in ("Held-out comparisons", "too sure of itself", "people differ", "Two people agree on 0 %", "bob"):
        assert shown in page, shown
    assert page.count("<circle") == 2
    for payload in PAYLOADS[:3]:
        assert payload not in page


def test_a_model_without_a_report_has_a_page_without_it(researcher: User, model: ModelArtifact) -> None:
    for content in (None, "", "no json", "{}"):
        path = Path(model.path) / EVALUATION
        path.unlink() if content is None else path.write_text(content)
        assert "Held-out comparisons" not in text_of(client_for(researcher).get(model.run.get_absolute_url()))


def test_points_of_the_diagram_lie_in_it_and_the_sure_ones_right() -> None:
    bins = [{"predicted": 0.5, "observed": 0.0, "weight": 1.0}, {"predicted": 1.0, "observed": 1.0, "weight": 9.0}]
    unsure, sure = diagram(bins)["points"]
    assert 0 < unsure["x"] < sure["x"] < WIDTH and 0 < sure["y"] < unsure["y"] < HEIGHT
    assert unsure["radius"] < sure["radius"]

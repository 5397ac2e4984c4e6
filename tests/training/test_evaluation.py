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
from training.evaluation import HEIGHT, WIDTH, diagram, evaluation_of
from training.models import ModelArtifact, TrainingRun
from training.runs import RunNotPossible

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


def test_learned_reliabilities_say_whom_to_doubt_and_what_to_do(researcher: User, model: ModelArtifact) -> None:
    path = Path(model.path) / EVALUATION
    report = json.loads(path.read_text())
    page = text_of(client_for(researcher).get(model.run.get_absolute_url()))
    assert "Reliability is the share" not in page and "What to do" not in page
    learned = {PAYLOADS[2]: 0.31, "bob": 0.62}
    for one in report["people"]["labelers"]:
        one["reliability"] = learned[one["name"]]
    nobody = {"pairs": 0, "accuracy": {"value": None}, "reliability": 0.97}
    report["people"]["labelers"] += [nobody | {"name": "zoe"}, nobody | {"name": "two words", "reliability": 0.2}]
    path.write_text(json.dumps(report))
    run = model.run
    TrainingRun.objects.filter(pk=run.pk).update(data={"filters": {"without": ["ann"]}})
    page = text_of(client_for(researcher).get(run.get_absolute_url()))
    for shown in ("31 %", "62 %", "97 %", "not listened to", "believed a little", "<strong>bob</strong>"):
        assert shown in page, shown
    # Who was left out stays so; names with a space cannot be typed into the form.
    assert f"campaign={run.campaign.public_id}&amp;without=ann%20bob&quot;" in page.replace('"', "&quot;")
    assert PAYLOADS[2] not in page


def test_an_ensembles_page_says_whether_it_knows_what_it_does_not(researcher: User, model: ModelArtifact) -> None:
    address, client = model.run.get_absolute_url(), client_for(researcher)
    assert "Does it know" not in text_of(client.get(address))
    for area, said in ((0.91, "can keep PPO away"), (0.52, "will not keep PPO away")):
        ModelArtifact.objects.filter(pk=model.pk).update(metrics={"eval/disagreement_auc": area})
        page = text_of(client.get(address))
        assert said in page and f"{area:.0%}".replace("%", " %") in page


def test_turns_have_bars_with_their_numbers(researcher: User, model: ModelArtifact) -> None:
    path = Path(model.path) / EVALUATION
    turns = [{"said": PAYLOADS[3], "answer": PAYLOADS[0], "reward": -1.5}, {"said": "", "answer": "Bye", "reward": 0.5}]
    sides = {
        "chosen": {"score": -1.0, "turns": turns, "left_out": 3},
        "rejected": {"score": 3.0, "turns": [turns[1] | {"reward": 3.0}], "left_out": 0},
    }
    example = {"sort": "wrong", "labeler": PAYLOADS[2], "probability": 0.018, **sides}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"turns": [example]}))
    page = text_of(client_for(researcher).get(model.run.get_absolute_url()))
    for shown in ("What each turn adds", "\u22121.50", "+0.50", "+3.00", "And 3 more turns", "Surest of the opposite"):
        assert shown in page, shown
    assert page.count("<rect") == 3
    for payload in PAYLOADS[2:4]:
        assert payload not in page
    [chosen, rejected] = evaluation_of(model)["turns"][0]["sides"]
    bars = [(turn["x"], turn["width"]) for side in (chosen, rejected) for turn in side["turns"]]
    assert bars == [(25.0, 25.0), (50, 8.3), (50, 50.0)], "left of the middle below 0, one scale for both sides"


def test_ppo_is_not_offered_against_rewards_of_turns(researcher: User, model: ModelArtifact, make_run: MakeRun) -> None:
    client, run = client_for(researcher), model.run
    assert "Start PPO against" in text_of(client.get(run.get_absolute_url()))
    assert "Start PPO against" in text_of(client.get(model.get_absolute_url()))
    TrainingRun.objects.filter(pk=run.pk).update(config=run.config | {"rewards_of": "turns"})
    of_turns = ModelArtifact.objects.get(pk=model.pk)
    for page in (run.get_absolute_url(), model.get_absolute_url()):
        assert "Start PPO against" not in text_of(client.get(page))
    assert model.public_id not in text_of(client.get("/runs/new?kind=ppo"))
    with pytest.raises(RunNotPossible, match="rewards single turns"):
        make_run("ppo", reward=of_turns)
    before_there_was_a_choice = {name: value for name, value in run.config.items() if name != "rewards_of"}
    TrainingRun.objects.filter(pk=run.pk).update(config=before_there_was_a_choice)
    assert model.public_id in text_of(client.get("/runs/new?kind=ppo"))


def test_points_of_the_diagram_lie_in_it_and_the_sure_ones_right() -> None:
    bins = [{"predicted": 0.5, "observed": 0.0, "weight": 1.0}, {"predicted": 1.0, "observed": 1.0, "weight": 9.0}]
    unsure, sure = diagram(bins)["points"]
    assert 0 < unsure["x"] < sure["x"] < WIDTH and 0 < sure["y"] < unsure["y"] < HEIGHT
    assert unsure["radius"] < sure["radius"]

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from labeling.models import Campaign
from tests.conftest import client_for, make_member, make_user
from tests.security.payloads import PAYLOADS
from tests.training.conftest import rank
from training.charts import CHARTS, POINTS, charts_of, series
from training.events import progress_line
from training.models import DatasetSnapshot, ModelArtifact, RunEvent, TrainingRun
from training.process import offers_ray
from training.recording import storable
from training.runs import FILLED_IN

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., TrainingRun]


@pytest.fixture
def client(researcher: User) -> Client:
    return client_for(researcher)


def text_of(response: Any, status: int = 200) -> str:
    assert response.status_code == status, response.content[:2000]
    return str(response.content.decode())


def as_sent(form: Any) -> dict[str, Any]:
    """What a browser sends when nothing was changed."""
    return {field.html_name: field.value() for field in form if not (field.value() is None or field.value() is False)}


def finish(run: TrainingRun, kind: str, **metrics: float) -> ModelArtifact:
    TrainingRun.objects.filter(pk=run.pk).update(state="succeeded", step=4, total_steps=4)
    return ModelArtifact.objects.create(
        kind=kind,
        name=run.name,
        run=run,
        parent=run.base,
        reward=run.reward,
        snapshot=run.snapshot,
        base_model=run.config["base"],
        path=str(run.rundir.artifact),
        format="adapter",
        metrics=metrics,
    )


def metrics(run: TrainingRun, seq: int, step: int, **values: float | None) -> None:
    payload = {"metrics": {name.replace("__", "/"): value for name, value in values.items()}}
    RunEvent.objects.create(run=run, seq=seq, type="metrics", step=step, time=timezone.now(), payload=payload)
    TrainingRun.objects.filter(pk=run.pk).update(last_seq=seq, step=step)


def test_the_list_says_what_to_do_next(client: Client, labeled: Campaign, make_run: MakeRun) -> None:
    stranger = client_for(make_user("stranger", "researcher"))
    assert "Nothing to train on yet" in text_of(stranger.get("/runs/"))
    assert "No runs yet" in text_of(client.get("/runs/"))
    ModelArtifact.objects.all().delete()
    assert "No model to start from yet" in text_of(client.get("/runs/"))


def test_two_clicks_from_a_campaign_to_a_reward_run(client: Client, labeled: Campaign, base: ModelArtifact) -> None:
    path = f"/runs/new?kind=reward&campaign={labeled.public_id}"
    page = client.get(path)
    form = page.context["form"]
    sent = as_sent(form)
    sent |= {"campaign": labeled.public_id, "base": base.public_id}
    assert f'<option value="{labeled.public_id}" selected>' in text_of(page)
    assert f'<option value="{base.public_id}" selected>' in text_of(page)
    answer: Any = client.post(path, sent)
    run = TrainingRun.objects.get()
    assert answer.status_code == 302 and answer.url == run.get_absolute_url()
    assert run.name == "Reward model: Support replies" and run.config["epochs"] == 2.0
    assert "Waits for a worker" in text_of(client.get(answer.url))


def test_a_link_from_the_report_fills_in_whom_to_leave_out_and_to_weigh(
    client: Client, labeled: Campaign, base: ModelArtifact
) -> None:
    rank(labeled.items.first(), [[1], [0]], labeler="bob")
    path = f"/runs/new?kind=reward&campaign={labeled.public_id}"
    assert '<details class="fold">' in text_of(client.get(path))
    page = client.get(f"{path}&without=ann&weigh=on")
    assert '<details class="fold" open>' in text_of(page)
    sent = as_sent(page.context["form"]) | {"campaign": labeled.public_id, "base": base.public_id}
    assert (sent["data_without"], sent["data_weigh"]) == ("ann", True)
    refused = client.post(path, sent)
    assert refused.status_code == 422 and "Nobody&#x27;s reliability is known" in refused.content.decode()
    assert not TrainingRun.objects.exists()
    client.post(path, sent | {"data_weigh": ""})
    run = TrainingRun.objects.get()
    assert run.snapshot is not None and run.snapshot.counts["rankings"] == 1
    assert (run.data["filters"]["without"], run.data["filters"]["weigh"]) == (["ann"], False)


@pytest.mark.parametrize("kind", ["reward", "ppo", "sampling", "sft"])
def test_every_form_offers_every_setting_with_its_default(
    client: Client, labeled: Campaign, base: ModelArtifact, kind: str
) -> None:
    from training.engine.config import KINDS, parse_config

    form = client.get("/runs/new", {"kind": kind}).context["form"]
    initial = {
        name.removeprefix("setting_"): field.initial for name, field in form.fields.items() if "setting_" in name
    }
    hidden = {*FILLED_IN, "versus"} | (set() if offers_ray() else {"executor"})
    assert set(initial) == set(KINDS[kind].__dataclass_fields__) - hidden
    assert parse_config(kind, initial) == parse_config(kind, {})
    assert {field.name for field in form.shown} & {field.name for field in form.advanced} == set()
    grouped = [field.name for title, fields in form.groups for field in fields if title != "More"]
    assert sorted(grouped) == sorted(field.name for field in form.advanced)
    assert len(form.shown) < 10


def test_a_form_with_a_mistake_says_which(client: Client, labeled: Campaign, base: ModelArtifact) -> None:
    path = f"/runs/new?kind=reward&campaign={labeled.public_id}"
    page = text_of(client.post(path, {"campaign": labeled.public_id, "setting_lora_rank": "-1"}), 422)
    assert "greater than or equal to 0" in page and '<details class="fold" open>' in page
    labeled.rankings.update(status="withdrawn")
    form = client.get(path).context["form"]
    sent = as_sent(form)
    sent |= {"campaign": labeled.public_id, "base": base.public_id}
    assert "no accepted rankings that fit" in text_of(client.post(path, sent), 422)
    assert not TrainingRun.objects.exists() and not DatasetSnapshot.objects.exists()


def test_foreign_campaigns_and_models_cannot_be_chosen(client: Client, foreign_campaign: Campaign) -> None:
    page = text_of(client.get(f"/runs/new?kind=ppo&campaign={foreign_campaign.public_id}&reward=x%00"))
    assert foreign_campaign.public_id not in page and foreign_campaign.name not in page


def test_each_finished_kind_offers_the_next_step(client: Client, make_run: MakeRun) -> None:
    reward_run = make_run("reward")
    reward = finish(
        reward_run, "reward", **{"eval/accuracy": 0.84, "eval/accuracy_low": 0.71, "eval/accuracy_high": 0.92}
    )
    page = text_of(client.get(reward_run.get_absolute_url()))
    assert "84 % (71 to 92 %)" in page
    link = f"/runs/new?kind=ppo&amp;reward={reward.public_id}&amp;campaign={reward_run.campaign.public_id}"
    assert link in page
    form = client.get(link.replace("&amp;", "&")).context["form"]
    assert form.initial["reward"] == reward and form.initial["base"] == reward.parent

    ppo_run = make_run("ppo", reward=reward)
    assert ppo_run.config["reward_path"] == reward.path
    policy = finish(ppo_run, "policy")
    link = f"/runs/new?kind=sampling&base={policy.public_id}"
    assert link.replace("&", "&amp;") in text_of(client.get(ppo_run.get_absolute_url()))
    form = client.get(link).context["form"]
    assert (form.initial["base"], form.initial["versus"]) == (policy, "base")

    lineage = text_of(client.get(policy.get_absolute_url()))
    assert "Trained against" in lineage and "Learned from 16 rankings by 1 person" in lineage
    assert reward_run.campaign.name in lineage


def test_stop_and_resume_are_offered_to_those_who_may(client: Client, make_run: MakeRun, admin: User) -> None:
    run = make_run()
    assert ">Stop<" in text_of(client.get(run.get_absolute_url()))
    assert client.post(f"{run.get_absolute_url()}stop").status_code == 302
    assert ">Resume<" in text_of(client_for(admin).get(f"{run.get_absolute_url()}head"))
    assert client.get(f"{run.get_absolute_url()}stop").status_code == 405
    reviewer = make_user("reviewing", "researcher")
    run.campaign.memberships.create(user=reviewer, role="reviewer")
    looking = client_for(reviewer)
    assert ">Resume<" not in text_of(looking.get(run.get_absolute_url()))
    assert looking.post(f"{run.get_absolute_url()}resume").status_code == 403


def test_others_get_404_from_every_page(make_run: MakeRun, annotator: User, outsider: User) -> None:
    run = make_run()
    model = finish(run, "reward")
    for user in (annotator, outsider, make_user("colleague", "researcher")):
        client = client_for(user)
        for path in ("", "head", "samples", "series", "live"):
            assert client.get(f"{run.get_absolute_url()}{path}").status_code == 404
        for path in ("stop", "resume", "campaign"):
            assert client.post(f"{run.get_absolute_url()}{path}").status_code == 404
        assert client.get(model.get_absolute_url()).status_code == 404
    assert client_for(annotator).get("/runs/").status_code == 404
    assert client_for(annotator).get("/models/").status_code == 404


def test_what_a_model_writes_is_shown_as_text(client: Client, make_run: MakeRun, base: ModelArtifact) -> None:
    reward = finish(make_run("reward"), "reward")
    run = make_run("ppo", reward=reward)
    for seq, payload in enumerate(PAYLOADS, 1):
        text = payload.format(n=seq)
        sample = {"prompt": [{"role": "user", "content": text}], "completion": text, "reference": text, "score": 0.5}
        RunEvent.objects.create(run=run, seq=seq, type="sample", step=1, time=timezone.now(), payload=storable(sample))
    page = text_of(client.get(f"{run.get_absolute_url()}samples"))
    assert "&lt;script&gt;window.pwned(1)&lt;/script&gt;" in page
    assert "<script" not in page and "<img" not in page and "hx-disable" in page


def test_only_the_newest_samples_are_shown(client: Client, make_run: MakeRun) -> None:
    run = make_run("ppo", reward=finish(make_run("reward"), "reward"))
    for seq, step in ((1, 5), (2, 5), (3, 10)):
        payload = {"prompt": [{"role": "user", "content": "?"}], "completion": f"answer {seq}", "score": 1.0}
        RunEvent.objects.create(run=run, seq=seq, type="sample", step=step, time=timezone.now(), payload=payload)
    page = text_of(client.get(f"{run.get_absolute_url()}samples"))
    assert "After step 10" in page and "answer 3" in page and "answer 2" not in page


def test_series_hold_every_point_of_a_short_run(make_run: MakeRun) -> None:
    run = make_run()
    metrics(run, 1, 1, loss__train=0.5)
    metrics(run, 2, 2, loss__train=0.25, eval__loss=0.75, eval__accuracy=None)
    run.refresh_from_db()
    assert series(run) == {"last": 2, "series": {"eval/loss": ([2], [0.75]), "loss/train": ([1, 2], [0.5, 0.25])}}


def test_series_of_a_long_run_are_thinned_but_keep_rare_metrics(make_run: MakeRun) -> None:
    run = make_run()
    rows = [
        RunEvent(
            run=run,
            seq=step,
            type="metrics",
            step=step,
            time=timezone.now(),
            payload={"metrics": {"loss/train": float(step)} | ({"eval/loss": 1.0} if step % 100 == 0 else {})},
        )
        for step in range(1, 3001)
    ]
    RunEvent.objects.bulk_create(rows)
    TrainingRun.objects.filter(pk=run.pk).update(last_seq=3000, step=3000, total_steps=3000)
    run.refresh_from_db()
    found = series(run)["series"]
    assert found["eval/loss"][0] == list(range(100, 3001, 100))
    steps, values = found["loss/train"]
    assert len(steps) <= POINTS + 1 and steps[-1] == 3000 and values[0] < 10


def test_polling_gives_what_comes_after_a_number(client: Client, make_run: MakeRun) -> None:
    run = make_run()
    metrics(run, 1, 1, loss__train=0.5)
    metrics(run, 2, 2, loss__train=0.25)
    live = client.get(f"{run.get_absolute_url()}live", {"after": 1}).json()
    assert [event["seq"] for event in live["events"]] == [2] and live["last"] == 2
    assert live["run"]["state"] == "queued" and live["run"]["line"].startswith("Waits for a worker")
    assert client.get(f"{run.get_absolute_url()}live", {"after": "x"}).status_code == 404
    assert client.get("/runs/live").json()["runs"][0]["id"] == run.public_id


def test_the_line_of_a_run_says_where_it_stands() -> None:
    def line(**columns: Any) -> str:
        return progress_line(TrainingRun(**columns))

    assert line(state="running", step=3, total_steps=10, stage="train", eta_seconds=200.0) == (
        "Step 3 of 10, train, about 3 min left"
    )
    assert line(state="running", step=3, total_steps=10, stop_requested=True) == "Step 3 of 10, stops after this step"
    assert line(state="running", stage="load") == "Load"
    assert line(state="starting") == "The engine starts"
    assert line(state="queued", step=3, total_steps=10) == "Waits for a worker, step 3 of 10 done"
    assert line(state="stopped", step=3, total_steps=10) == "Ended at step 3 of 10"
    assert line(state="failed") == "Ended before the first step"
    began = timezone.now()
    for seconds, took in ((50, "50 s"), (185, "3 min 5 s"), (7830, "2 h 10 min")):
        times = {"started_at": began, "finished_at": began + timedelta(seconds=seconds)}
        assert (
            line(state="succeeded", step=9, total_steps=9, **times) == f"Ended at step 9 of 9, {took} after it started"
        )


def test_the_list_tells_results_and_can_be_that_of_one_campaign(
    client: Client, make_run: MakeRun, admin: User, foreign_campaign: Campaign
) -> None:
    run = make_run()
    finish(run, "reward", **{"eval/accuracy": 0.756, "loss/train": 0.3})
    page = text_of(client.get("/runs/"))
    assert "Held-out accuracy" in page and "75.6 %" in page and run.name in page
    assert run.campaign is not None
    assert run.name in text_of(client.get("/runs/", {"campaign": run.campaign.public_id}))
    empty = Campaign.objects.create(name="Without runs", protocol="pair", created_by=admin)
    make_member(empty, run.owner, "manager")
    page = text_of(client.get("/runs/", {"campaign": empty.public_id}))
    assert run.name not in page and "Runs of Without runs" in page
    for unknown in (foreign_campaign.public_id, "\x00"):  # as if it were not said
        assert run.name in text_of(client.get("/runs/", {"campaign": unknown}))


def test_a_model_is_registered_on_its_page(client: Client) -> None:
    assert "No models yet" in text_of(client.get("/models/"))
    assert "hub name" in text_of(client.post("/models/", {"path": "no such thing"}), 422)
    assert client.post("/models/", {"path": "org/small-model"}).status_code == 302
    assert "small-model" in text_of(client.get("/models/"))
    model = ModelArtifact.objects.get()
    assert "org/small-model" in text_of(client.get(model.get_absolute_url()))


def test_a_models_page_hides_what_one_may_not_see_any_more(
    make_run: MakeRun, foreign_campaign: Campaign, base: ModelArtifact
) -> None:
    reward = finish(make_run("reward"), "reward")
    policy = finish(make_run("ppo", reward=reward), "policy")
    colleague = make_user("colleague", "researcher")
    TrainingRun.objects.filter(pk=policy.run.pk).update(owner=colleague, campaign=None)
    page = text_of(client_for(colleague).get(policy.get_absolute_url()))
    assert "A model that you may not see." in page and "Support replies" not in page.replace(policy.name, "")


@pytest.mark.parametrize(
    ("settings", "shown", "left_out"),
    [
        ({}, {"value-loss", "phases"}, {"ptx", "kl-coef"}),
        ({"ptx_coef": 1.0, "kl_controller": "adaptive"}, {"ptx", "kl-coef"}, set()),
        ({"advantage": "rloo"}, {"score"}, {"value-loss", "ptx"}),
    ],
)
def test_charts_that_would_stay_empty_are_left_out(
    settings: dict[str, Any], shown: set[str], left_out: set[str]
) -> None:
    slugs = {chart["slug"] for chart in charts_of(TrainingRun(kind="ppo", config=settings))}
    assert shown <= slugs
    assert not left_out & slugs
    assert slugs <= {chart.slug for chart in CHARTS["ppo"]}

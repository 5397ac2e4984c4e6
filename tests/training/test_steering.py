"""What a reward ensemble finds out about a campaign's items comes back into its queue."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from labeling.campaigns import update_campaign
from labeling.models import Campaign, ItemGain, Slot, Steering
from labeling.queue.steering import order_queues, standing, take_gains
from tests.training.conftest import Worker, fresh, label, until
from tests.training.test_supervisor import run_now
from training import steering
from training.engine.rundir import CANDIDATES, read_jsonl
from training.models import TrainingRun

pytestmark = pytest.mark.django_db(transaction=True)
MakeRun = Callable[..., TrainingRun]


@pytest.mark.slow
def test_a_worker_orders_queues(labeled: Campaign, start_worker: Callable[[], Worker]) -> None:
    update_campaign(labeled, order="informative")
    take_gains(labeled, {item.public_id: 1.0 for item in labeled.items.all()}, model="Ensemble")
    start_worker()
    until(lambda: labeled.slots.filter(priority__lt=0).count() == 16, what="the order")


@pytest.mark.slow
def test_an_ensembles_disagreement_orders_the_queue(labeled: Campaign, make_run: MakeRun) -> None:
    update_campaign(labeled, order="informative")
    labeled.refresh_from_db()
    done = labeled.slots.first()
    Slot.objects.filter(pk=done.pk).update(state="void")
    run = make_run(settings={"members": 2, "epochs": 1.0})
    asked = {row["item"]: row for row in read_jsonl(run.rundir.data / CANDIDATES)}
    assert len(asked) == 15 and done.item.public_id not in asked
    item = labeled.items.last()
    assert asked[item.public_id]["messages"] == item.messages
    assert asked[item.public_id]["completions"] == [one.messages for one in item.completions.all()]
    assert asked[item.public_id].keys() == {"item", "messages", "completions"}  # no sources
    assert order_queues() == 0

    assert run_now(run).state == "succeeded"
    gains = {row["item"]: row["gain"] for row in read_jsonl(run.rundir.artifact / CANDIDATES)}
    assert gains.keys() == asked.keys()
    kept = dict(ItemGain.objects.values_list("item__public_id", "gain"))
    assert kept == gains
    assert order_queues() == 1  # nobody has answered, but something is known
    assert standing(labeled).judge == fresh(run).name
    queue = labeled.slots.filter(state="open").order_by("priority").values_list("item__public_id", "propensity")
    best = next(item for item, propensity in queue if propensity > 0.5)  # the first that was not drawn at random
    assert gains[best] == max(gains[item] for item, _ in list(queue)[[i for i, _ in queue].index(best) :])


def test_only_ensembles_of_campaigns_that_want_it_judge_items(
    labeled: Campaign, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not (make_run(settings={"members": 2}).rundir.data / CANDIDATES).exists()
    update_campaign(labeled, order="informative")
    labeled.refresh_from_db()
    assert not (make_run().rundir.data / CANDIDATES).exists()
    label(labeled, items=30)
    monkeypatch.setattr(steering, "MOST", 20)
    run = make_run(settings={"members": 2})
    assert len(list(read_jsonl(run.rundir.data / CANDIDATES))) == 20
    assert run.rundir.verify_manifest()["files"][CANDIDATES]["rows"] == 20


def test_a_file_that_cannot_be_read_leaves_the_queue_as_it_is(labeled: Campaign, make_run: MakeRun) -> None:
    run = make_run()
    run.rundir.artifact.mkdir()
    path = run.rundir.artifact / CANDIDATES
    for text in ("{", "[1]\n", '{"item": "x"}\n', '{"item": "x", "gain": null}\n'):
        path.write_text(text)
        steering.hand_over(run)
    assert not Steering.objects.exists()
    rows = [{"item": "somebody else's", "gain": 1}, {"item": labeled.items.first().public_id, "gain": math.nan}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    steering.hand_over(run)
    assert Steering.objects.get().model == run.name and not ItemGain.objects.exists()

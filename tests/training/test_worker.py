"""`manage.py worker` as it runs in production, and what is left when something is killed with -9."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from labeling.models import Campaign, CampaignStatistics
from tests.training.conftest import Worker, fresh, until
from tests.training.test_supervisor import check_events, engine_pid, files_of, metrics_in, run_now
from training import queue
from training.comparisons import make_campaign
from training.models import TrainingRun
from training.runs import stop_run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
MakeRun = Callable[..., TrainingRun]
StartWorker = Callable[[], Worker]
LONG = {"epochs": 60.0, "checkpoint_every": 2}


def state_of(run: TrainingRun) -> str:
    try:
        return fresh(run).state
    except OperationalError:
        connection.close()
        return ""


def forget_heartbeat(run: TrainingRun) -> None:
    """As if half a minute had passed."""
    long_ago = timezone.now() - queue.HEARTBEAT_TIMEOUT - timedelta(seconds=1)
    TrainingRun.objects.filter(pk=run.pk).update(heartbeat_at=long_ago)


def test_worker_postgresql_and_engine_killed_in_one_run_leave_the_same_bytes(
    make_run: MakeRun, start_worker: StartWorker
) -> None:
    undisturbed = run_now(make_run(settings=LONG))
    run = make_run(settings=LONG)

    first = start_worker()
    until(lambda: metrics_in(run.rundir) >= 2)
    pid = engine_pid(run.rundir)
    first.kill()
    assert psutil.Process(pid).is_running()  # it goes on without a supervisor
    forget_heartbeat(run)
    start_worker()
    until(lambda: state_of(run) in ("running", "succeeded"))
    assert engine_pid(run.rundir) == pid  # adopted, no second one was started

    if not os.environ.get("DATABASE_URL"):  # the embedded PostgreSQL is ours to kill
        until(lambda: metrics_in(run.rundir) >= 20)
        postmaster = int((Path(settings.VAR) / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGKILL)
        connection.close()

    until(lambda: metrics_in(run.rundir) >= 40)
    os.kill(pid, signal.SIGKILL)
    until(lambda: state_of(run) == "succeeded")
    assert engine_pid(run.rundir) != pid
    assert "Resuming after step" in run.rundir.log.read_text(encoding="utf-8")
    check_events(fresh(run))
    assert files_of(fresh(run).artifact) == files_of(undisturbed.artifact)


def test_a_worker_told_to_end_hands_its_run_back_and_the_next_one_resumes(
    make_run: MakeRun, start_worker: StartWorker
) -> None:
    run = make_run(settings={"epochs": 200.0})
    first = start_worker()
    until(lambda: metrics_in(run.rundir) >= 2)
    assert first.terminate() == 0
    assert fresh(run).state == "queued" and not psutil.pid_exists(engine_pid(run.rundir))
    done = fresh(run).step
    second = start_worker()
    until(lambda: fresh(run).step > done)
    stop_run(run)
    until(lambda: fresh(run).state == "stopped")
    assert second.terminate() == 0
    assert "Resuming after step" in run.rundir.log.read_text(encoding="utf-8")
    assert not ProcrastinateJob.objects.filter(args__run_id=run.pk).exists()


def test_runs_of_dead_workers_are_queued_again_once(make_run: MakeRun) -> None:
    lost, alive = make_run(), make_run()
    TrainingRun.objects.update(state="running", worker="gone:1:x", heartbeat_at=timezone.now())
    assert queue.requeue_abandoned_runs() == 0
    forget_heartbeat(lost)
    assert (queue.requeue_abandoned_runs(), queue.requeue_abandoned_runs()) == (1, 0)
    assert (fresh(lost).state, fresh(lost).worker, fresh(alive).state) == ("queued", "", "running")
    assert ProcrastinateJob.objects.filter(args__run_id=lost.pk, status="todo").count() == 2


def test_a_waiting_run_without_a_job_is_woken(make_run: MakeRun) -> None:
    run = make_run()
    assert queue.wake_forgotten_runs() == 0
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs WHERE args->>'run_id' = %s", [str(run.pk)])
    assert (queue.wake_forgotten_runs(), queue.wake_forgotten_runs()) == (1, 0)


def test_a_run_and_its_job_are_stored_together_or_not_at_all(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(Path(settings.RUNS_DIR).iterdir())

    def fail(run: TrainingRun) -> None:
        raise RuntimeError("the queue is away")

    monkeypatch.setattr(queue, "enqueue", fail)
    with pytest.raises(RuntimeError):
        make_run()
    assert not TrainingRun.objects.exists() and set(Path(settings.RUNS_DIR).iterdir()) == before


def test_the_whole_loop_of_runs(make_run: MakeRun, start_worker: StartWorker) -> None:
    """Reward, PPO against it, sampling of the policy beside its start, a campaign of the answers."""
    start_worker()
    reward = make_run("reward")
    until(lambda: fresh(reward).state == "succeeded", what=fresh(reward).error or "success")
    ppo = make_run("ppo", reward=fresh(reward).artifact)
    until(lambda: fresh(ppo).state in ("succeeded", "failed"))
    assert fresh(ppo).error == ""
    policy = fresh(ppo).artifact
    assert (policy.kind, policy.reward, policy.parent) == ("policy", fresh(reward).artifact, ppo.base)
    assert policy.reward.snapshot.campaign == ppo.campaign
    sampling = make_run("sampling", base=policy, settings={"versus": "base"})
    until(lambda: fresh(sampling).state in ("succeeded", "failed"))
    assert fresh(sampling).error == ""
    campaign = make_campaign(fresh(sampling), sampling.owner, protocol="pair")
    assert campaign.state == "draft" and campaign.slot_count > 0
    item = campaign.items.order_by("id").first()
    assert [one.source for one in item.completions.all()] == [policy.name, policy.parent.name]
    assert fresh(sampling).made_campaign == campaign


def test_a_worker_computes_the_reports_that_somebody_looks_at(labeled: Campaign, start_worker: StartWorker) -> None:
    CampaignStatistics.objects.create(campaign=labeled, wanted=True)
    start_worker()
    row = until(lambda: CampaignStatistics.objects.filter(made_at__isnull=False).first(), what="the report")
    assert (row.wanted, row.answers, row.payload["rankings"]) == (False, 16, 0)

"""The job queue: Procrastinate in the same PostgreSQL, so a run and its job are stored together or not at all.

A job is only a wake-up. Whether a run may start is decided by the conditional update in `supervisor.claim`, so a job
that comes twice, or too late, does nothing. A run whose worker died is found by its old heartbeat and queued again.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.jobs import Status

from config.push import notify
from training.models import TrainingRun

logger = logging.getLogger(__name__)

RUNS = "runs"  # the queue
HEARTBEAT_TIMEOUT = timedelta(seconds=30)
State = TrainingRun.State

shutting_down = threading.Event()
"""Set in a worker that was told to end: engines save and stop, their runs go back to the queue."""


@app.task(name="training.supervise_run", queue=RUNS)
def supervise_run(*, run_id: int) -> None:
    """Supervise a run from claim to end. Returns at once when somebody else has it."""
    from training.supervisor import supervise

    supervise(run_id, shutting_down=shutting_down)


def enqueue(run: TrainingRun) -> None:
    """Wake a worker for this run when the current transaction commits."""
    supervise_run.defer(run_id=run.pk)


def requeue_abandoned_runs() -> int:
    """Queue runs again whose worker has not been heard of for a while; they resume from their newest checkpoint."""
    count = 0
    silent = Q(heartbeat_at=None) | Q(heartbeat_at__lt=Now() - HEARTBEAT_TIMEOUT)
    for run in TrainingRun.objects.filter(silent, state__in=(State.STARTING, State.RUNNING)):
        with transaction.atomic():
            abandoned = TrainingRun.objects.filter(silent, pk=run.pk, state=run.state, worker=run.worker)
            if abandoned.update(state=State.QUEUED, worker="", eta_seconds=None):
                logger.warning("Run %s lost its worker %s; it is queued again.", run.public_id, run.worker)
                enqueue(run)
                notify(run.topic)
                notify("runs")
                count += 1
    return count


def wake_forgotten_runs() -> int:
    """Enqueue waiting runs without a job: a worker died between fetching the job and claiming the run."""
    jobs = ProcrastinateJob.objects.filter(task_name=supervise_run.name, status__in=("todo", "doing"))
    known = set(jobs.values_list("args__run_id", flat=True))
    forgotten = [run for run in TrainingRun.objects.filter(state=State.QUEUED) if run.pk not in known]
    for run in forgotten:
        enqueue(run)
    return len(forgotten)


def look_after_runs() -> None:
    """What every worker does now and then, for all workers: nothing may wait for somebody who is dead."""
    async_to_sync(_drop_dead_jobs)()
    requeue_abandoned_runs()
    wake_forgotten_runs()


async def _drop_dead_jobs() -> None:
    """A job is no more than a wake-up, so one whose worker died is not done again, but dropped."""
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=HEARTBEAT_TIMEOUT.seconds):
        await app.job_manager.finish_job(job=job, status=Status.FAILED, delete_job=True)

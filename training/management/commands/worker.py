"""`manage.py worker`: take runs from the queue and supervise their engines.

Each run that may go on at once has a lane, a Procrastinate worker of its own, so that a lane which lost PostgreSQL
while its run went on does not keep the idle ones from connecting again.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

import psycopg
from channels.db import database_sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import InterfaceError, OperationalError
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import ConnectorException

from labeling.data.export_files import forget_files, make_waiting
from labeling.data.samples import forget_samples, read_waiting
from labeling.data.uploads import import_waiting
from labeling.quality.statistics import refresh_wanted
from labeling.quality.watch import look_after_people
from labeling.queue.adaptive import adapt_overlaps
from labeling.queue.steering import order_queues
from labeling.webhooks import deliver_waiting, forget_old
from training import queue
from training.serving import serve_chats

logger = logging.getLogger(__name__)

UPKEEP_EVERY = 10.0  # seconds
REPORTS_EVERY = 2.0
QUEUES_EVERY = 2.0
PEOPLE_EVERY = 5.0
IMPORTS_EVERY = 1.0
EXPORTS_EVERY = 1.0
SAMPLES_EVERY = 1.0
WEBHOOKS_EVERY = 2.0
FORGET_EVERY = 3600.0
POLL_EVERY = 2.0  # NOTIFY is quicker; this finds out that the database is gone
FIRST_DELAY, LAST_DELAY = 0.5, 10.0
AWAY = (ConnectorException, InterfaceError, OperationalError, psycopg.OperationalError, OSError)


class Command(BaseCommand):
    help = "Fetch queued runs, start and supervise their engines; serve live chats."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--concurrency",
            type=int,
            default=settings.WORKER_CONCURRENCY,
            help="Runs supervised at once (default: WORKER_CONCURRENCY).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(work(max(options["concurrency"], 1)))


async def work(concurrency: int) -> None:
    """Work until SIGTERM or SIGINT; then engines save and stop, and their runs go back to the queue."""
    tasks = [asyncio.create_task(lane(f"lane {number + 1}")) for number in range(concurrency)]
    tasks.append(asyncio.create_task(now_and_then(queue.look_after_runs, UPKEEP_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(refresh_wanted, REPORTS_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(order_queues, QUEUES_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(look_after_people, PEOPLE_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(adapt_overlaps, PEOPLE_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(import_files, IMPORTS_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(send_webhooks, WEBHOOKS_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(export_files, EXPORTS_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(read_samples, SAMPLES_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(forget_old, FORGET_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(forget_files, FORGET_EVERY)))
    tasks.append(asyncio.create_task(now_and_then(forget_samples, FORGET_EVERY)))
    tasks.append(asyncio.create_task(serve_chats()))

    def shut_down() -> None:
        logger.info("Shutting down: engines save their state, runs go back to the queue.")
        queue.shutting_down.set()
        for task in tasks:
            task.cancel()  # a lane waits for its run

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shut_down)
    logger.info("The worker is ready, for %d runs at once.", concurrency)
    await asyncio.gather(*tasks, return_exceptions=True)


def import_files() -> None:
    """Import large files that were uploaded."""
    import_waiting(stop=queue.shutting_down.is_set)


def export_files() -> None:
    """Make the files of answers that were asked for."""
    make_waiting(stop=queue.shutting_down.is_set)


def read_samples() -> None:
    """Fetch the first rows of datasets that somebody wants to see."""
    read_waiting(stop=queue.shutting_down.is_set)


def send_webhooks() -> None:
    """Send what happened to who wants to hear it."""
    deliver_waiting(stop=queue.shutting_down.is_set)


async def lane(name: str) -> None:
    """One Procrastinate worker, started again whenever it lost the database."""
    delay = FIRST_DELAY
    clock = asyncio.get_running_loop().time
    while not queue.shutting_down.is_set():  # a cancellation can come out as the error of a lost connection
        started = clock()
        try:
            await _fetch_and_work(name)
        except AWAY as error:
            logger.warning("%s lost the database (%s).", name, type(error).__name__)
        except Exception:
            logger.exception("%s failed; it starts again.", name)
        if clock() - started > 2 * LAST_DELAY:
            delay = FIRST_DELAY  # it had worked well
        await asyncio.sleep(delay)
        delay = min(2 * delay, LAST_DELAY)


async def now_and_then(duty: Callable[[], object], every: float) -> None:
    """Find runs whose worker died; compute reports that somebody looks at; put in front what teaches most; import."""
    while True:
        try:
            await database_sync_to_async(duty, thread_sensitive=False)()
        except AWAY as error:
            logger.warning("%s waits for the database (%s).", duty.__name__, type(error).__name__)
        except Exception:
            logger.exception("%s failed.", duty.__name__)
        await asyncio.sleep(every)


async def _fetch_and_work(name: str) -> None:
    connector = app.connector
    assert isinstance(connector, DjangoConnector)
    # An app of its own: tasks keep enqueueing through Django's connection, and so in Django's transactions.
    own_app = app.with_connector(await asyncio.to_thread(connector.get_worker_connector))
    async with own_app.open_async():
        await own_app.run_worker_async(
            queues=[queue.RUNS],
            name=name,
            concurrency=1,
            fetch_job_polling_interval=POLL_EVERY,
            install_signal_handlers=False,
            delete_jobs="always",  # the row of the run says how it went
        )

"""A labeled campaign, a small real language model, a worker as it runs in production."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from accounts.models import User
from labeling.data.importing import import_rows
from labeling.models import Campaign, Item, Ranking
from tests.conftest import child_environment, make_member
from training.models import ModelArtifact, TrainingRun
from training.runs import Inputs, create_run

MODEL = Path(settings.BASE_DIR) / "demo" / "model"
THINGS = ("lamp", "kettle", "chair", "radio", "carpet", "mirror", "bicycle", "heater")

QUICK: dict[str, dict[str, Any]] = {
    "reward": {"epochs": 2.0, "batch_size": 4, "lora_rank": 2, "threads": 1, "checkpoint_every": 2},
    "sft": {"epochs": 1.0, "batch_size": 4, "lora_rank": 2, "threads": 1},
    "ppo": {"iterations": 3, "batch_size": 8, "max_new_tokens": 8, "lora_rank": 2, "threads": 1, "sample_every": 1},
    "sampling": {"completions": 2, "max_new_tokens": 8, "threads": 1},
}
"""Settings with which a run of the demo's model takes seconds."""


def label(campaign: Campaign, *, items: int = 16, labeler: str = "ann") -> None:
    """Import items of two answers with a clear favourite, each ranked once."""

    def row(number: int) -> dict[str, Any]:
        thing = THINGS[number % len(THINGS)]
        good = f"I am sorry about your {thing}. We will send you a new one. Thank you."
        return {
            "prompt": f"Hello, my {thing} from order {number} arrived broken.",
            "completions": [{"text": good, "source": "desk"}, {"text": "No.", "source": "bot"}],
            "ranking": [0, 1],
            "labeler": labeler,
        }

    import_rows(campaign, map(row, range(items)), name="labels.jsonl")


def rank(item: Item, tiers: list[list[int]], *, labeler: str = "ann", user: User | None = None) -> Ranking:
    return Ranking.objects.create(
        item=item,
        campaign=item.campaign,
        user=user,
        labeler=labeler,
        origin="person" if user else "imported",
        tiers=tiers,
        protocol="pair",
        guidelines_version=1,
    )


@pytest.fixture
def labeled(campaign: Campaign, researcher: User) -> Campaign:
    """The campaign with sixteen rankings; the researcher manages it."""
    make_member(campaign, researcher, "manager")
    label(campaign)
    return campaign


@pytest.fixture
def base(db: None) -> ModelArtifact:
    return ModelArtifact.objects.create(kind="base", name="Support desk", base_model=str(MODEL))


@pytest.fixture
def make_run(labeled: Campaign, base: ModelArtifact, researcher: User) -> Callable[..., TrainingRun]:
    """A quick run of a kind, from the labeled campaign and the base model unless told otherwise."""

    def make(kind: str = "reward", **changes: Any) -> TrainingRun:
        own = changes.pop("settings", {})
        inputs = Inputs(**({"campaign": labeled, "base": base} | changes))
        return create_run(researcher, kind=kind, inputs=inputs, settings=QUICK[kind] | own)

    return make


class Worker:
    """`manage.py worker` as a process."""

    def __init__(self) -> None:
        command = [sys.executable, "manage.py", "worker"]
        self.log = (Path(settings.VAR) / "worker.log").open("ab")
        self.process = subprocess.Popen(
            command, cwd=settings.BASE_DIR, env=child_environment(), stdout=self.log, stderr=self.log
        )

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.terminate()
        self.log.close()


@pytest.fixture
def start_worker(transactional_db: None) -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker())
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def until(condition: Callable[[], Any], *, seconds: float = 120, what: str = "it") -> Any:
    """Wait until `condition()` is true and return it; the limit only keeps a broken test from hanging."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, f"{what} did not happen"
        time.sleep(0.05)
    return value


def fresh(run: TrainingRun) -> TrainingRun:
    return TrainingRun.objects.get(pk=run.pk)

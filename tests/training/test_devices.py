"""Runs that ask for several devices, or for a cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import psutil
import pytest

from accounts.models import User
from labeling.models import Campaign
from tests.training.conftest import fresh
from tests.training.test_supervisor import check_events, engine_pid, metrics_in, run_now, when
from training.forms import RunForm
from training.models import ModelArtifact, TrainingRun
from training.runs import Inputs, RunNotPossible, resolve_config

MakeRun = Callable[..., TrainingRun]


def kill_second_process(run: TrainingRun) -> None:
    places = {child.environ()["RANK"]: child.pid for child in psutil.Process(engine_pid(run.rundir)).children()}
    os.kill(places["1"], signal.SIGKILL)


@pytest.mark.django_db(transaction=True)
def test_a_run_on_two_devices_loses_a_process_and_is_started_again(make_run: MakeRun) -> None:
    run = make_run("sft", settings={"devices": 2, "epochs": 6.0, "checkpoint_every": 2})
    killer = when(lambda: metrics_in(run.rundir) >= 5, lambda: kill_second_process(run))
    run = run_now(run)
    killer.join()
    assert (run.state, run.error) == ("succeeded", "")
    assert run.device.startswith("2 x ")
    assert run.rundir.log.read_text(encoding="utf-8").count("Resuming after step") == 1
    assert run.artifact.kind == "policy"
    check_events(fresh(run))


@pytest.fixture
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not Ray is installed where the tests run: here it is not."""
    found = find_spec
    monkeypatch.setattr("training.process.find_spec", lambda name: None if name == "ray" else found(name))


def config_of(labeled: Campaign, base: ModelArtifact, **settings: Any) -> Any:
    return resolve_config("sft", Inputs(campaign=labeled, base=base), settings)


@pytest.mark.usefixtures("nowhere_else")
def test_without_ray_it_is_not_offered_and_refused(labeled: Campaign, base: ModelArtifact, researcher: User) -> None:
    assert "setting_executor" not in RunForm(kind="sft", user=researcher).fields
    assert config_of(labeled, base).executor == "local"
    with pytest.raises(RunNotPossible, match="Ray is not installed here: set executor to local"):
        config_of(labeled, base, executor="ray")


@pytest.mark.usefixtures("nowhere_else")
def test_an_operator_may_make_ray_the_usual_executor(
    labeled: Campaign, base: ModelArtifact, researcher: User, settings: Any
) -> None:
    settings.EXECUTOR = "ray"
    assert RunForm(kind="sft", user=researcher).fields["setting_executor"].initial == "ray"
    assert RunForm(kind="reward", user=researcher).fields["setting_executor"].initial == "ray"
    assert config_of(labeled, base).executor == "ray"
    assert config_of(labeled, base, executor="local").executor == "local"

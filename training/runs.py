"""Make, stop and resume runs. The run directory is complete before anybody can know of the run.

State changes are conditional updates: of two people who press stop and resume at once, each press either finds the
state it needs or does nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from accounts.ids import new_public_id
from accounts.models import User
from config.push import notify
from labeling.models import Campaign
from labeling.webhooks import emit
from training import queue
from training.engine.config import KINDS, LOCAL, RAY, CommonConfig, ConfigError, ParallelConfig, parse_config
from training.engine.config import to_json as config_to_json
from training.engine.rundir import RunDir, read_jsonl, write_atomic, write_jsonl
from training.models import DatasetSnapshot, ModelArtifact, TrainingRun
from training.process import offers_ray
from training.selection import NoPrompts, PromptOptions, best_completion_rows, prompt_rows
from training.snapshots import NothingToFreeze, SnapshotFilters, freeze
from training.steering import write_candidates

Kind = TrainingRun.Kind
State = TrainingRun.State

FILLED_IN = ("base", "adapter", "reward_path", "more_reward_paths")
"""Settings that follow from the chosen models. They are paths on the server, so nobody may type them."""


class RunNotPossible(ValueError):
    """The run cannot be made like this; the message says why, and what to change."""


@dataclass(frozen=True)
class Inputs:
    """What a run works with. Which of them a kind needs is checked by `create_run`."""

    campaign: Campaign | None = None
    base: ModelArtifact | None = None
    reward: ModelArtifact | None = None
    more_rewards: tuple[ModelArtifact, ...] = ()
    versus: ModelArtifact | None = None
    filters: SnapshotFilters = field(default_factory=SnapshotFilters)
    prompts: PromptOptions = field(default_factory=PromptOptions)


def create_run(
    owner: User, *, kind: str, inputs: Inputs, name: str = "", settings: Mapping[str, Any] | None = None
) -> TrainingRun:
    """Check the settings, freeze the data into a new run directory, then store and enqueue the run in one transaction.

    Raises RunNotPossible.
    """
    try:
        kind = Kind(kind)
    except ValueError:
        raise RunNotPossible(
            _("kind must be one of {values}, not {kind!r}.").format(values=", ".join(Kind.values), kind=kind)
        ) from None
    config = resolve_config(kind, inputs, dict(settings or {}))
    assert inputs.campaign is not None and inputs.base is not None  # resolve_config has checked
    public_id = new_public_id()
    rundir = RunDir(Path(django_settings.RUNS_DIR) / public_id)
    try:
        rundir.create()
        snapshot = _write_data(rundir, kind, inputs, config, owner)
        write_atomic(rundir.config, json.dumps(config_to_json(kind, config), indent=1, sort_keys=True))
        with transaction.atomic():
            if snapshot is not None:
                snapshot.save()
            run = TrainingRun.objects.create(
                public_id=public_id,
                kind=kind,
                name=name.strip()[:120] or _name(kind, inputs.campaign),
                owner=owner,
                campaign=inputs.campaign,
                snapshot=snapshot,
                base=inputs.base,
                reward=inputs.reward,
                config=asdict(config),
                data=_data_record(kind, inputs),
            )
            queue.enqueue(run)
            notify(run.topic)
            notify("runs")
    except (NothingToFreeze, NoPrompts) as error:
        shutil.rmtree(rundir.path, ignore_errors=True)
        raise RunNotPossible(str(error)) from error
    except BaseException:
        shutil.rmtree(rundir.path, ignore_errors=True)
        raise
    return run


def resolve_config(kind: str, inputs: Inputs, settings: dict[str, Any]) -> CommonConfig:
    """The engine's config for these inputs and the settings a person chose. Raises RunNotPossible."""
    typed = sorted(set(settings) & set(FILLED_IN))
    if typed:
        raise RunNotPossible(
            _("{names} cannot be set by hand; choose a registered model instead.").format(names=", ".join(typed))
        )
    _check_inputs(kind, inputs)
    assert inputs.base is not None
    settings |= weights_of(inputs.base)
    if inputs.reward is not None and kind in (Kind.PPO, Kind.SAMPLING):
        settings["reward_path"] = inputs.reward.path
        settings["more_reward_paths"] = "\n".join(model.path for model in inputs.more_rewards)
    if kind == Kind.SAMPLING:
        settings["versus"] = _versus(inputs, settings.get("versus", ""))
    if issubclass(KINDS[kind], ParallelConfig):
        settings.setdefault("executor", django_settings.EXECUTOR)
    try:
        config = parse_config(kind, settings)
    except ConfigError as error:
        raise RunNotPossible(str(error)) from error
    if getattr(config, "executor", LOCAL) == RAY and not offers_ray():
        raise RunNotPossible(_("Ray is not installed here: set executor to {local}.").format(local=LOCAL))
    if kind == Kind.SAMPLING and getattr(config, "best_of", 1) > 1 and inputs.reward is None:
        raise RunNotPossible(_("Choose the reward model that says which of several answers is the best."))
    if inputs.filters.weigh and getattr(config, "reliability", False):
        raise RunNotPossible(
            _(
                "Choose one of the two: weigh annotators by the reliability that the report shows, or learn it in "
                "training."
            )
        )
    return config


def stop_run(run: TrainingRun) -> bool:
    """Ask an active run to stop; one that only waits in the queue stops at once. False if it was not active."""
    with transaction.atomic():
        runs = TrainingRun.objects.filter(pk=run.pk)
        asked = runs.filter(state__in=TrainingRun.ACTIVE).update(stop_requested=True)
        if runs.filter(state=State.QUEUED).update(state=State.STOPPED, finished_at=Now()):
            emit("run.finished", {"run": run.public_id, "kind": run.kind, "state": State.STOPPED})
        if asked:
            notify(run.topic)
            notify("runs")
    return bool(asked)


def resume_run(run: TrainingRun) -> bool:
    """Queue a stopped or failed run again, to go on from its newest checkpoint. False if it is in another state."""
    with transaction.atomic():
        queued = TrainingRun.objects.filter(pk=run.pk, state__in=(State.STOPPED, State.FAILED)).update(
            state=State.QUEUED, stop_requested=False, error="", attempts=0, eta_seconds=None, finished_at=None
        )
        if queued:
            queue.enqueue(run)
            notify(run.topic)
            notify("runs")
    return bool(queued)


def _name(kind: TrainingRun.Kind, campaign: Campaign) -> str:
    """“PPO 2: Support replies”. A hint for people, so two runs made at once may share one."""
    earlier = TrainingRun.objects.filter(kind=kind, campaign=campaign).count()
    return f"{kind.label}{f' {earlier + 1}' if earlier else ''}: {campaign.name}"[:120]


def _check_inputs(kind: str, inputs: Inputs) -> None:
    if inputs.campaign is None:
        raise RunNotPossible(_("Choose the campaign whose rankings or prompts the run reads."))
    if inputs.base is None:
        raise RunNotPossible(_("Choose the model to start from. A base model is registered on the models page."))
    for model in filter(None, (inputs.base, inputs.versus)):
        if model.kind not in (ModelArtifact.Kind.BASE, ModelArtifact.Kind.POLICY):
            raise RunNotPossible(
                _("“{model}” is no language model to start from: choose a base model or a policy.").format(model=model)
            )
    if kind == Kind.PPO and inputs.reward is None:
        raise RunNotPossible(_("Choose the reward model that PPO trains against."))
    if inputs.more_rewards and inputs.reward is None:
        raise RunNotPossible(_("Choose the reward model that the further ones are added to."))
    for model in filter(None, (inputs.reward, *inputs.more_rewards)):
        if model.kind != ModelArtifact.Kind.REWARD:
            raise RunNotPossible(_("“{model}” is no reward model: choose one that scores answers.").format(model=model))
        if model.rewards_turns:
            raise RunNotPossible(
                _("“{model}” rewards single turns, read alone; the run needs one of whole conversations.").format(
                    model=model
                )
            )


def weights_of(model: ModelArtifact) -> dict[str, str]:
    """The engine's `base` and `adapter`."""
    if model.format == "adapter":
        return {"base": model.base_model, "adapter": model.path}
    return {"base": model.path or model.base_model, "adapter": ""}


def _versus(inputs: Inputs, choice: str) -> str:
    """The engine's `versus`: the folder of the second adapter, "base" for the bare base model, or empty."""
    other, base = inputs.versus, inputs.base
    assert base is not None
    if other is None:
        if choice not in ("", "base"):
            raise RunNotPossible(_("versus must be empty, base, or the id of a policy."))
        return choice
    mine, theirs = weights_of(base), weights_of(other)
    if mine["base"] != theirs["base"]:
        raise RunNotPossible(
            _("“{other}” stands on another base model than “{base}”, so they cannot share a run.").format(
                other=other, base=base
            )
        )
    if mine == theirs:
        raise RunNotPossible(_("Choose two different models to compare."))
    return theirs["adapter"] or "base"


def _write_data(rundir: RunDir, kind: str, inputs: Inputs, config: CommonConfig, owner: User) -> DatasetSnapshot | None:
    """Freeze the run's rows and their manifest. Rankings, and what derives from them, go by a snapshot."""
    assert inputs.campaign is not None
    snapshot, more = None, {}
    if kind in (Kind.REWARD, Kind.SFT):
        snapshot = freeze(inputs.campaign, by=owner, filters=inputs.filters)
        if kind == Kind.REWARD:
            name, count = "rankings.jsonl", snapshot.counts["rankings"]
            _link_or_copy(snapshot.path, rundir.data / name)
            more = write_candidates(inputs.campaign, rundir) if getattr(config, "members", 1) > 1 else {}
        else:
            name = "sft.jsonl"
            count = write_jsonl(rundir.data / name, best_completion_rows(read_jsonl(snapshot.path)))
    else:
        name = "prompts.jsonl"
        count = write_jsonl(rundir.data / name, prompt_rows(inputs.campaign, inputs.prompts))
    if getattr(config, "ptx_coef", 0):
        snapshot = freeze(inputs.campaign, by=owner, filters=inputs.filters)
        more["sft.jsonl"] = write_jsonl(rundir.data / "sft.jsonl", best_completion_rows(read_jsonl(snapshot.path)))
    rundir.write_manifest({name: count} | more)
    return snapshot


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # frozen on both sides, so one copy on the disk is enough
    except OSError:
        shutil.copyfile(source, target)


def _data_record(kind: str, inputs: Inputs) -> dict[str, Any]:
    if kind in (Kind.REWARD, Kind.SFT):
        return {"filters": asdict(inputs.filters)}
    record: dict[str, Any] = {"prompts": asdict(inputs.prompts)}
    if inputs.more_rewards:
        record["more_rewards"] = [model.public_id for model in inputs.more_rewards]
    if inputs.versus is not None:
        record["versus"] = inputs.versus.public_id
    return record

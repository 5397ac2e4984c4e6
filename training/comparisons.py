"""Turn what a sampling run drew into a campaign, so that people compare the models' answers: the loop closes here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from config.push import notify
from labeling.campaigns import create_campaign
from labeling.data.importing import import_rows
from labeling.models import Campaign
from labeling.protocols.basics import COMPLETIONS
from training.engine.rundir import read_jsonl
from training.models import ModelArtifact, TrainingRun

Row = dict[str, Any]


class NoCampaign(ValueError):
    """The run cannot become a campaign (again); the message says why."""


def make_campaign(
    run: TrainingRun, user: User, *, name: str = "", protocol: str = "pair", overlap: int = 1
) -> Campaign:
    """A draft campaign of the run's completions, once per run. Raises NoCampaign.

    Every completion carries the name of its model as its source, which annotators do not see.
    """
    with transaction.atomic():
        run = TrainingRun.objects.select_for_update(of=("self",), no_key=True).select_related("artifact").get(pk=run.pk)
        if run.kind != TrainingRun.Kind.SAMPLING or run.state != TrainingRun.State.SUCCEEDED:
            raise NoCampaign(_("Only a sampling run that has succeeded can become a campaign."))
        if run.made_campaign is not None:
            raise NoCampaign(
                _("This run has become the campaign “{made_campaign}” already.").format(made_campaign=run.made_campaign)
            )
        old = run.campaign
        campaign = create_campaign(
            user,
            name=name.strip()[:120] or _("Comparison: {name}").format(name=run.base or run.name)[:120],
            guidelines=old.guidelines if old else "",
            protocol=protocol,
            overlap=overlap,
        )
        rows = read_jsonl(run.rundir.artifact / "completions.jsonl")
        report = import_rows(campaign, comparison_rows(rows, protocol, source_names(run)), name=run.name, user=user)
        if not report.accepted:
            raise NoCampaign(_("There is nothing to compare: each prompt got only one answer, or the same one again."))
        TrainingRun.objects.filter(pk=run.pk).update(made_campaign=campaign)
        notify(run.topic)
    campaign.refresh_from_db()  # the import has counted slots
    return campaign


def comparison_rows(rows: Iterator[Row], protocol: str, names: dict[str, str]) -> Iterator[Row]:
    """Import rows: pairs (one answer of each model, if there are two) where a protocol takes two, else all answers."""
    most = COMPLETIONS[protocol][1]
    for row in rows:
        answers = [
            {"messages": one["messages"], "source": names[one["source"]], "finished": one["finished"]}
            for one in row["completions"]
        ]
        for group in _pairs(answers) if most == 2 else [_distinct(answers)[:most]]:
            if len(group) > 1:
                yield {"messages": row["messages"], "completions": group, "sampled_for": row["id"]}


def source_names(run: TrainingRun) -> dict[str, str]:
    """Names of the models behind "policy" and "versus", told apart by their ids where the names are the same."""
    assert run.base is not None
    bases = ModelArtifact.objects.filter(kind=ModelArtifact.Kind.BASE, base_model=run.base.base_model)
    other = ModelArtifact.objects.filter(public_id=run.data.get("versus", "")).first()
    other = other or bases.exclude(pk=run.base.pk).first()
    policy, versus = run.base.name, other.name if other else run.base.base_model.rstrip("/").rpartition("/")[2]
    if policy == versus:
        policy, versus = f"{policy} ({run.base.public_id})", f"{versus} ({other.public_id if other else 'base'})"
    return {"policy": policy[:200], "versus": versus[:200]}


def _pairs(answers: list[Row]) -> list[list[Row]]:
    by_source = _by_source(answers)
    if len(by_source) == 2:
        return [list(pair) for pair in zip(*by_source, strict=False)]
    return [answers[i : i + 2] for i in range(0, len(answers) - 1, 2)]


def _distinct(answers: list[Row]) -> list[Row]:
    """One of several equal answers is enough to rank. The models take turns, so that a limit cuts off both."""
    turns = [answer for turn in zip_longest(*_by_source(answers)) for answer in turn if answer]
    return list({json.dumps(answer["messages"]): answer for answer in reversed(turns)}.values())[::-1]


def _by_source(answers: list[Row]) -> list[list[Row]]:
    sources: dict[str, list[Row]] = {}
    for answer in answers:
        sources.setdefault(answer["source"], []).append(answer)
    return list(sources.values())

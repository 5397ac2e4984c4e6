"""The way back from any model to the labels it learned from, and on to the models before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.models import DatasetSnapshot, ModelArtifact, TrainingRun

DEEPEST = 50


@dataclass(frozen=True)
class Step:
    """One model on the way: how it was made and from what. `role` says what the model below took it for."""

    model: ModelArtifact
    role: str
    depth: int
    run: TrainingRun | None
    snapshot: DatasetSnapshot | None
    sampled_from: ModelArtifact | None
    """The policy whose answers people ranked, when the campaign was made by a sampling run."""


def lineage(model: ModelArtifact) -> list[Step]:
    """The model and everything it stands on, nearest first. A model that is reached twice is told once."""
    seen: set[int] = set()
    return list(_walk(model, "", 0, seen))


def _walk(model: ModelArtifact, role: str, depth: int, seen: set[int]) -> Iterator[Step]:
    if model.pk in seen or depth > DEEPEST:
        return
    seen.add(model.pk)
    run, snapshot = model.run, model.snapshot
    source = TrainingRun.objects.filter(made_campaign=snapshot.campaign).first() if snapshot else None
    sampled_from = source.base if source else None
    yield Step(model, role, depth, run, snapshot, sampled_from)
    for parent, its_role in (
        (model.reward, "trained against"),
        (model.parent, "started from"),
        (sampled_from, "wrote the answers that people ranked"),
    ):
        if parent is not None:
            yield from _walk(parent, its_role, depth + 1, seen)

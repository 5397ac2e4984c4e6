"""The way back from any model to the labels it learned from, and on to the models before it."""

from __future__ import annotations

from dataclasses import dataclass

from training.models import ModelArtifact, TrainingRun


@dataclass(frozen=True)
class Step:
    """One model on the way and what it came from. Parents have steps of their own, further down."""

    model: ModelArtifact
    sampled_by: TrainingRun | None
    """The sampling run whose answers people ranked, when the campaign of the snapshot was made by one."""

    @property
    def parents(self) -> list[ModelArtifact]:
        asked = self.sampled_by.base if self.sampled_by else None
        return [model for model in (self.model.reward, self.model.parent, asked) if model is not None]


def lineage(model: ModelArtifact) -> list[Step]:
    """The model and everything it stands on, nearest first, each model once."""
    steps: list[Step] = []
    seen = {model.pk}
    waiting = [model]
    while waiting:
        step = _step(waiting.pop(0))
        steps.append(step)
        for parent in step.parents:
            if parent.pk not in seen:
                seen.add(parent.pk)
                waiting.append(parent)
    return steps


def _step(model: ModelArtifact) -> Step:
    source = None
    if model.snapshot is not None:
        source = TrainingRun.objects.filter(made_campaign=model.snapshot.campaign).select_related("base").first()
    return Step(model, source)

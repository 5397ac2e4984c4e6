"""JSON of runs and models. Ids are public ids."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from labeling.models import Campaign, Ranking
from training.models import ModelArtifact, TrainingRun


def link() -> Any:
    return serializers.SlugRelatedField(slug_field="public_id", read_only=True, allow_null=True)


class RunSerializer(serializers.ModelSerializer):
    id = serializers.CharField(source="public_id", read_only=True)
    campaign = link()
    snapshot = link()
    base = link()
    reward = link()
    made_campaign = link()
    owner = serializers.CharField(source="owner.username", read_only=True)
    artifact = serializers.SerializerMethodField()
    metrics = serializers.SerializerMethodField()
    settings = serializers.JSONField(source="config", read_only=True)
    selection = serializers.JSONField(source="data", read_only=True)

    class Meta:
        model = TrainingRun
        fields = (
            *("id", "kind", "name", "state", "stage", "step", "total_steps", "eta_seconds", "device", "error"),
            *("stop_requested", "last_seq", "owner", "campaign", "snapshot", "base", "reward", "artifact", "metrics"),
            *("made_campaign", "settings", "selection", "created_at", "started_at", "finished_at"),
        )
        read_only_fields = fields

    def get_artifact(self, run: TrainingRun) -> str | None:
        """Id of what the run made."""
        return run.artifact.public_id if hasattr(run, "artifact") else None

    def get_metrics(self, run: TrainingRun) -> dict[str, float]:
        """The final numbers of what the run made."""
        return run.artifact.metrics if hasattr(run, "artifact") else {}


class DataSerializer(serializers.Serializer):
    """What a run takes from its campaign."""

    origin = serializers.ChoiceField(choices=Ranking.Origin.choices, required=False, allow_blank=True)
    labelers = serializers.ListField(child=serializers.CharField(max_length=120), required=False)
    without = serializers.ListField(child=serializers.CharField(max_length=120), required=False)
    weigh = serializers.BooleanField(required=False, help_text="Weigh rankings by their labeler's reliability.")
    limit = serializers.IntegerField(min_value=0, required=False)
    eval_fraction = serializers.FloatField(min_value=0, max_value=0.9, required=False)


class NewRunSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(choices=TrainingRun.Kind.choices)
    name = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")
    campaign = serializers.CharField(max_length=12)
    base = serializers.CharField(max_length=12, required=False)
    reward = serializers.CharField(max_length=12, required=False)
    more_rewards = serializers.ListField(child=serializers.CharField(max_length=12), required=False, max_length=8)
    settings = serializers.DictField(required=False, default=dict)
    selection = DataSerializer(source="data", required=False)


class EventSerializer(serializers.Serializer):
    """One event; further keys depend on the type: `metrics`; `prompt`, `completion`, `score` ...; `message`."""

    seq = serializers.IntegerField()
    time = serializers.DateTimeField()
    step = serializers.IntegerField()
    type = serializers.ChoiceField(choices=["metrics", "sample", "stage", "warning"])


class EventPageSerializer(serializers.Serializer):
    results = EventSerializer(many=True)
    last = serializers.IntegerField(help_text="Pass it as `after` to get what follows.")
    more = serializers.BooleanField()


class SeriesSerializer(serializers.Serializer):
    last = serializers.IntegerField(help_text="Number of the last event that is in it.")
    series = serializers.DictField(
        child=serializers.ListField(child=serializers.ListField(child=serializers.FloatField())),
        help_text="By metric: steps and values.",
    )


class ArtifactSerializer(serializers.ModelSerializer):
    id = serializers.CharField(source="public_id", read_only=True)
    parent = link()
    reward = link()
    run = link()
    snapshot = link()

    class Meta:
        model = ModelArtifact
        fields = (
            *("id", "kind", "name", "base_model", "format", "parent", "reward", "run", "snapshot", "sha256"),
            *("metrics", "created_at"),
        )
        read_only_fields = fields


class NewArtifactSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")
    path = serializers.CharField(max_length=500, help_text="Hub name or absolute path.")


class NewCampaignSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")
    protocol = serializers.ChoiceField(choices=Campaign.Protocol.choices, required=False, default="pair")
    overlap = serializers.IntegerField(min_value=1, max_value=50, required=False, default=1)


class MadeCampaignSerializer(serializers.Serializer):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    state = serializers.CharField()
    protocol = serializers.CharField()
    overlap = serializers.IntegerField()

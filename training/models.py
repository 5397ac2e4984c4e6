"""Runs, what they reported, the frozen data they read and the models they made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.ids import new_public_id
from accounts.models import User
from labeling.models import Campaign
from training.engine.config import TURNS

if TYPE_CHECKING:
    from training.engine.rundir import RunDir


class DatasetSnapshot(models.Model):
    """A campaign's accepted rankings, frozen: same SHA-256, same bytes. The file lies in `SNAPSHOTS_DIR`."""

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.PROTECT, related_name="snapshots")
    filters = models.JSONField(default=dict)
    counts = models.JSONField(default=dict)
    sha256 = models.CharField(max_length=64)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    @property
    def path(self) -> Path:
        return Path(settings.SNAPSHOTS_DIR) / f"{self.sha256}.jsonl"


class RunQuerySet(models.QuerySet["TrainingRun"]):
    def visible_to(self, user: User) -> RunQuerySet:
        """All for an admin; for a researcher their own and those of campaigns they manage or review."""
        if user.is_site_admin:
            return self
        if not user.is_researcher:
            return self.none()
        roles = ("manager", "reviewer")
        campaigns = Campaign.objects.filter(memberships__user=user, memberships__role__in=roles)
        return self.filter(Q(owner=user) | Q(campaign__in=campaigns))


class TrainingRun(models.Model):
    class Kind(models.TextChoices):
        SFT = "sft", _("Supervised fine-tuning")
        REWARD = "reward", _("Reward model")
        PPO = "ppo", "PPO"
        SAMPLING = "sampling", _("Sampling")

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        STARTING = "starting", _("Starting")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        STOPPED = "stopped", _("Stopped")

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    kind = models.CharField(max_length=10, choices=Kind)
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    config = models.JSONField(default=dict, help_text="Resolved engine settings, as in config.json.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="runs")
    campaign = models.ForeignKey(Campaign, null=True, blank=True, on_delete=models.PROTECT, related_name="runs")
    snapshot = models.ForeignKey(DatasetSnapshot, null=True, on_delete=models.PROTECT, related_name="runs")
    base = models.ForeignKey("ModelArtifact", null=True, on_delete=models.PROTECT, related_name="runs_from")
    reward = models.ForeignKey("ModelArtifact", null=True, on_delete=models.PROTECT, related_name="runs_against")
    data = models.JSONField(default=dict, help_text="What was taken from the campaign: see `training.selection`.")
    made_campaign = models.ForeignKey(
        Campaign, null=True, blank=True, on_delete=models.SET_NULL, related_name="made_by_runs"
    )
    stage = models.CharField(max_length=60, blank=True)
    step = models.PositiveIntegerField(default=0)
    total_steps = models.PositiveIntegerField(default=0)
    eta_seconds = models.FloatField(null=True)
    device = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    stop_requested = models.BooleanField(default=False)
    attempts = models.PositiveIntegerField(default=0)
    events_offset = models.BigIntegerField(default=0)
    last_seq = models.PositiveBigIntegerField(default=0)
    worker = models.CharField(max_length=120, blank=True, help_text="Host and process id of the supervising worker.")
    heartbeat_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    ACTIVE = (State.QUEUED, State.STARTING, State.RUNNING)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("run_detail", args=[self.public_id])

    @property
    def topic(self) -> str:
        """The push topic on which a change of this run is told."""
        return f"run.{self.public_id}"

    @property
    def rundir(self) -> RunDir:
        from training.engine.rundir import RunDir

        return RunDir(Path(settings.RUNS_DIR) / self.public_id)

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE


class RunEvent(models.Model):
    """One line of a run's `events.jsonl`. Unique on run and seq, so that reading a line twice is harmless."""

    run = models.ForeignKey(TrainingRun, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    type = models.CharField(max_length=10)
    step = models.PositiveIntegerField(default=0)
    time = models.DateTimeField()
    payload = models.JSONField(default=dict)

    class Meta:
        ordering = ["run_id", "seq"]
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="one_event_per_seq")]
        indexes = [models.Index(fields=["run", "type", "seq"], name="run_event_type_idx")]


class ArtifactQuerySet(models.QuerySet["ModelArtifact"]):
    def visible_to(self, user: User) -> ArtifactQuerySet:
        """Base models are seen by every researcher; what a run made, by those who may see the run."""
        if user.is_site_admin:
            return self
        if not user.is_researcher:
            return self.none()
        return self.filter(Q(run=None) | Q(run__in=TrainingRun.objects.visible_to(user)))

    def for_ppo(self) -> ArtifactQuerySet:
        """Reward models that PPO can train against: not those that reward turns."""
        of_turns = TrainingRun.objects.filter(config__rewards_of=TURNS)
        return self.filter(kind=ModelArtifact.Kind.REWARD).exclude(run__in=of_turns)


class ModelArtifact(models.Model):
    """A model that can be started from or compared: a registered base model, or what a run made.

    `parent` is the policy it was trained from, `reward` the reward model it was trained against, `run` and `snapshot`
    the rest of the way back to the labels.
    """

    class Kind(models.TextChoices):
        BASE = "base", _("Base model")
        POLICY = "policy", _("Policy")
        REWARD = "reward", _("Reward model")
        COMPLETIONS = "completions", _("Completions")

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    kind = models.CharField(max_length=12, choices=Kind)
    name = models.CharField(max_length=120)
    base_model = models.CharField(max_length=500, help_text="Hub name or local path of the base weights.")
    path = models.CharField(max_length=500, blank=True, help_text="Folder of the adapter or model; empty for a base.")
    format = models.CharField(
        max_length=12,
        default="model",
        choices=[("model", _("Model")), ("adapter", _("Adapter")), ("completions", _("Completions"))],
    )
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    reward = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="policies")
    run = models.OneToOneField(TrainingRun, null=True, on_delete=models.PROTECT, related_name="artifact")
    snapshot = models.ForeignKey(DatasetSnapshot, null=True, on_delete=models.PROTECT, related_name="artifacts")
    sha256 = models.CharField(max_length=64, blank=True, help_text="Over the names and hashes of its files.")
    metrics = models.JSONField(default=dict)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ArtifactQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("model_detail", args=[self.public_id])

    @property
    def rewards_turns(self) -> bool:
        """Whether this is a reward model whose rewards are those of single turns."""
        return self.kind == self.Kind.REWARD and self.run is not None and self.run.config.get("rewards_of") == TURNS

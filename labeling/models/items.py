"""What is compared: items, their completions, and the files that they came in with."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.ids import new_public_id
from labeling.models.campaigns import Campaign


class Import(models.Model):
    """One file brought in, with the reasons of the first refused lines; `RefusedLines` has all of them."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="imports")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(max_length=255)
    accepted = models.PositiveIntegerField(default=0)
    duplicates = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    rankings = models.PositiveIntegerField(default=0)
    errors = models.JSONField(default=list)
    position = models.PositiveIntegerField(default=0, db_default=0, help_text="Parsed rows that were dealt with.")
    size = models.PositiveBigIntegerField(default=0, db_default=0, help_text="Bytes stored for a worker.")
    reading = models.JSONField(default=dict, db_default={}, help_text="The format or the columns that were chosen.")
    dataset = models.JSONField(default=dict, db_default={}, help_text="Of a dataset: its name, subset, split.")
    failure = models.TextField(default="", db_default="", help_text="Why a worker could not go on.")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)


class RefusedLines(models.Model):
    """The refused lines of a few batches, packed: all of them, while the import itself names only the first."""

    source = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="refused")
    data = models.BinaryField(help_text="JSON lines, as zlib packs them.")


class UploadPiece(models.Model):
    """A mebibyte of a file that a worker shall import; gone once it has."""

    source = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="pieces")
    index = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "index"], name="one_piece_per_index")]


class DatasetSample(models.Model):
    """The first rows of a dataset, fetched by a worker for somebody who wants to see them. Gone after a day."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="dataset_samples")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    dataset = models.JSONField(help_text="Its name, subset, split and limit.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Workers that began to read it.")
    rows = models.JSONField(null=True, help_text="Each as JSON text; null until they are here.")
    failure = models.TextField(blank=True, help_text="Why it could not be read.")
    created_at = models.DateTimeField(auto_now_add=True)


class Item(models.Model):
    """One prompt and its completions to compare. `messages` may be empty when whole conversations are compared."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="items")
    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    messages = models.JSONField()
    content_hash = models.CharField(max_length=64, help_text="SHA-256 of prompt and completions: no item twice.")
    meta = models.JSONField(default=dict)
    overlap = models.PositiveSmallIntegerField(
        null=True, help_text="Answers wanted for this item; null: as many as the campaign wants."
    )
    source_import = models.ForeignKey(Import, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(null=True, editable=False, help_text="Nobody's work since; see `removal`.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "content_hash"], name="no_item_twice")]
        indexes = [
            models.Index(fields=["campaign", "id"], condition=Q(removed_at__isnull=False), name="item_removed_idx")
        ]


class Completion(models.Model):
    """One answer: the messages that continue the item's prompt, and who or what wrote them."""

    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="completions")
    index = models.PositiveSmallIntegerField()
    messages = models.JSONField()
    source = models.CharField(max_length=200, blank=True)
    meta = models.JSONField(default=dict)

    class Meta:
        ordering = ["item_id", "index"]
        constraints = [models.UniqueConstraint(fields=["item", "index"], name="one_completion_per_index")]

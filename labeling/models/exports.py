"""Answers as files, made by a worker because they are many."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from labeling.models.campaigns import Campaign


class ExportFile(models.Model):
    """A file that somebody asked for; `data.export_files` makes it and says where it lies. Gone after some days."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="export_files")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    what = models.CharField(max_length=20)
    container = models.CharField(max_length=10)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Workers that began to make it.")
    answers = models.PositiveIntegerField(default=0, help_text="To be read, counted when it was begun.")
    position = models.PositiveIntegerField(default=0, help_text="Answers that were read.")
    size = models.PositiveBigIntegerField(default=0, help_text="Bytes of the finished file.")
    failure = models.TextField(blank=True, help_text="Why it could not be made.")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["campaign", "what", "container"],
                condition=Q(finished_at=None, failure=""),
                name="one_export_of_a_kind_waits",
            )
        ]

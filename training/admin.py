"""Runs and models in Django's admin: to look at. They are changed by their pages, which keep the files in step."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from training.models import DatasetSnapshot, ModelArtifact, TrainingRun


class ReadOnly(admin.ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(TrainingRun)
class TrainingRunAdmin(ReadOnly):
    list_display = ("name", "kind", "state", "owner", "campaign", "step", "total_steps", "created_at")
    list_filter = ("kind", "state")
    search_fields = ("name", "public_id")


@admin.register(ModelArtifact)
class ModelArtifactAdmin(ReadOnly):
    list_display = ("name", "kind", "base_model", "run", "created_at")
    list_filter = ("kind",)
    search_fields = ("name", "public_id")


@admin.register(DatasetSnapshot)
class DatasetSnapshotAdmin(ReadOnly):
    list_display = ("public_id", "campaign", "counts", "sha256", "created_at")

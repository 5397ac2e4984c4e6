"""Who did what."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from labeling.models.campaigns import Campaign


class AuditEntry(models.Model):
    """One act of a person, or of the system where there is no actor. The database refuses to change or delete one.

    Names are kept as they were, so that an entry can be read when its campaign or its actor is gone.
    """

    campaign = models.ForeignKey(Campaign, null=True, on_delete=models.SET_NULL, related_name="audit", db_index=False)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    actor_name = models.CharField(max_length=150)
    verb = models.CharField(max_length=40)
    target = models.CharField(max_length=200, blank=True)
    facts = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "-id"], name="audit_campaign_idx")]

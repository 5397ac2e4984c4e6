"""What newcomers answered while they trained."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from labeling.models.campaigns import Campaign
from labeling.models.items import Item


class PracticeAnswer(models.Model):
    """An answer to an explained gold item, given before the real ones. It tells about the person only."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="practice_answers", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="+")
    tiers = models.JSONField()
    right = models.BooleanField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["item", "user"], name="one_practice_answer_per_person")]
        indexes = [models.Index(fields=["campaign", "user", "id"], name="practice_idx")]

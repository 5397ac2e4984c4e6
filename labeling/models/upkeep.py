"""What workers keep up to date: statistics of the answers, and the order of the queue."""

from __future__ import annotations

from django.db import models

from labeling.models.campaigns import Campaign
from labeling.models.items import Item


class CampaignStatistics(models.Model):
    """Statistics of a campaign's answers, kept by `statistics.py`. Which answers, `newest` and `answers` say."""

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="+", primary_key=True)
    newest = models.BigIntegerField(default=0, help_text="Largest id among the accepted answers.")
    answers = models.PositiveIntegerField(default=0)
    made_at = models.DateTimeField(null=True)
    payload = models.JSONField(default=dict)
    wanted = models.BooleanField(default=False, help_text="Somebody looks at the report; a worker shall compute it.")


class Steering(models.Model):
    """Of a campaign whose queue is ordered by what teaches most: what was chosen last, kept by `steering.py`."""

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="steering", primary_key=True)
    turn = models.PositiveIntegerField(default=0, help_text="Counts up; a choice of an older turn is thrown away.")
    wanted = models.BooleanField(default=True, help_text="Choose again as soon as anything is known.")
    answers = models.PositiveIntegerField(default=0, help_text="People's answers when this turn began.")
    made_at = models.DateTimeField(null=True)
    candidates = models.PositiveIntegerField(default=0, help_text="Items that were chosen from.")
    chosen = models.PositiveIntegerField(default=0, help_text="Slots put in front; none where the order is random.")
    judge = models.CharField(max_length=120, blank=True, help_text="The reward model chosen by; blank: by sources.")
    model = models.CharField(max_length=120, blank=True, help_text="The reward model that the kept gains are of.")


class ItemGain(models.Model):
    """How far the members of a campaign's newest reward ensemble disagree about an item."""

    item = models.OneToOneField(Item, on_delete=models.CASCADE, related_name="+", primary_key=True)
    gain = models.FloatField()

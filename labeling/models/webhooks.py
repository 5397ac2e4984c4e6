"""Programs elsewhere that want to hear what happens, and what was sent to them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.ids import new_public_id
from labeling.models.campaigns import Campaign


class Webhook(models.Model):
    """An address that events of one campaign, or of the whole site, are sent to.

    Its secret is made of the site's key and of `salt`, so the database alone tells nobody how to sign.
    """

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    campaign = models.ForeignKey(Campaign, null=True, on_delete=models.CASCADE, related_name="webhooks")
    url = models.URLField(max_length=500)
    events = models.JSONField(default=list, help_text="Names of `webhooks.EVENTS`; empty stands for all.")
    salt = models.CharField(max_length=12, default=new_public_id, editable=False)
    is_active = models.BooleanField(default=True)
    stopped = models.TextField(default="", db_default="", help_text="Why nothing is sent any more.")
    answers_after = models.BigIntegerField(default=0, help_text="The last answer it was told of.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.url


class Delivery(models.Model):
    """One event for one webhook, sent until it is taken or given up."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Given up")

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=40)
    payload = models.JSONField()
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(help_text="Not before this; while one worker sends it, others leave it alone.")
    status = models.PositiveSmallIntegerField(null=True, help_text="What the other side answered last.")
    outcome = models.TextField(blank=True, help_text="The beginning of that answer, or what went wrong.")
    created_at = models.DateTimeField(auto_now_add=True)
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["next_at"], condition=Q(state="waiting"), name="delivery_due_idx"),
            models.Index(fields=["webhook", "-id"], name="delivery_log_idx"),
        ]

"""A campaign and who works in it."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.ids import new_public_id
from accounts.models import CampaignRole
from labeling.querysets import CampaignQuerySet


class Campaign(models.Model):
    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        OPEN = "open", _("Open")
        PAUSED = "paused", _("Paused")
        CLOSED = "closed", _("Closed")

    class Protocol(models.TextChoices):
        PAIR = "pair", _("Pair: which of two answers is better")
        RANKING = "ranking", _("Ranking: put 2 to 9 answers in order")
        CONVERSATION = "conversation", _("Conversation: which of two whole conversations is better")

    class Order(models.TextChoices):
        RANDOM = "random", _("At random")
        INFORMATIVE = "informative", _("What teaches most first")

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    name = models.CharField(max_length=120)
    guidelines = models.TextField(blank=True, help_text="Markdown, shown to annotators beside every item.")
    guidelines_version = models.PositiveIntegerField(default=1)
    protocol = models.CharField(max_length=16, choices=Protocol, default=Protocol.PAIR)
    form = models.JSONField(default=dict, db_default={}, help_text="What is asked, see `questionnaire`; empty: plain.")
    form_version = models.PositiveIntegerField(default=1, db_default=1)
    overlap = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(50)],
        help_text="How many people rank each item.",
    )
    order = models.CharField(
        max_length=12,
        choices=Order,
        default=Order.RANDOM,
        db_default=Order.RANDOM,
        help_text=_("In which order items are given out."),
    )
    slot_count = models.PositiveIntegerField(
        default=0, editable=False, help_text="Slots that are not void; kept here so that progress needs no counting."
    )
    edit_minutes = models.PositiveSmallIntegerField(
        _("Answers can be changed for so many minutes"),
        default=60,
        db_default=60,
        blank=True,
        validators=[MaxValueValidator(10_080)],
        help_text=_("By whoever gave them, from the list of their answers. 0: never."),
    )
    state = models.CharField(max_length=8, choices=State, default=State.DRAFT)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, editable=False, help_text="Hidden since; see `retention`.")

    objects = CampaignQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.name


class PastForm(models.Model):
    """What a campaign asked in an earlier version: answers say which one they were given to. Never changed."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="past_forms")
    version = models.PositiveIntegerField()
    form = models.JSONField()
    replaced_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "version"], name="one_form_per_version")]


class Membership(models.Model):
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=CampaignRole, default=CampaignRole.ANNOTATOR)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "user"], name="one_membership_per_person")]

"""Who works on what: slots, leases and skips."""

from __future__ import annotations

import random

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.ids import new_public_id
from labeling.models.campaigns import Campaign
from labeling.models.items import Item


def new_random_key() -> float:
    return random.random()


def new_pseudonym() -> str:
    """What stands for a person in exports; another one in every campaign."""
    return f"annotator-{new_public_id()[:8]}"


class Kind(models.TextChoices):
    """Why somebody was asked: for an answer, or (which they do not see) to check them; `checks.py` does that."""

    NORMAL = "normal", "Normal"
    GOLD = "gold", "Gold: the answer is known"
    REPEAT = "repeat", "Repeat: they answered it before"
    ADJUDICATED = "adjudicated", "Adjudicated: a reviewer decided"


class Slot(models.Model):
    """One unit of overlap. An item with overlap N has N slots; LABELING section 3 has the rules.

    A check (`kind`) is a slot beside these, made for one person; it is never open, and gone when they put it back.
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        LEASED = "leased", "Leased"
        DONE = "done", "Done"
        VOID = "void", "Void"

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="slots")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="slots")
    state = models.CharField(max_length=6, choices=State, default=State.OPEN)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="slots")
    lease = models.UUIDField(null=True, unique=True)
    leased_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    priority = models.IntegerField(default=0, help_text="Lower first.")
    random_key = models.FloatField(default=new_random_key, help_text="Order within a priority; drawn again on release.")
    propensity = models.FloatField(
        null=True, help_text="How likely its item was to be chosen when `steering` chose it; null in random order."
    )
    shown_order = models.JSONField(default=list, help_text="Completion indices as shown to the lease holder.")
    kind = models.CharField(max_length=11, choices=Kind, default=Kind.NORMAL, db_default=Kind.NORMAL)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["item", "user"],
                condition=Q(state__in=("leased", "done")) & ~Q(kind="repeat"),
                name="nobody_gets_an_item_twice",
            ),
            models.UniqueConstraint(fields=["item", "user"], condition=Q(kind="repeat"), name="one_repeat_per_person"),
            models.CheckConstraint(
                condition=Q(kind="normal") | Q(kind__in=("gold", "repeat"), state__in=("leased", "done")),
                name="a_check_is_somebodys",
            ),
            models.CheckConstraint(
                condition=Q(state__in=("open", "void"), user=None, lease=None)
                | Q(state__in=("leased", "done"), user__isnull=False, lease__isnull=False, expires_at__isnull=False),
                name="slot_holder_fits_state",
            ),
        ]
        indexes = [
            # The queue. Leased slots stay in it, because an expired one is free again at its old place.
            models.Index(
                fields=["campaign", "priority", "random_key"],
                condition=Q(state__in=("open", "leased")),
                name="slot_queue_idx",
            ),
            models.Index(fields=["user", "campaign"], condition=Q(state="leased"), name="slot_held_idx"),
        ]


class LapsedLease(models.Model):
    """A lease that its slot no longer knows: taken over, released, skipped, undone or voided.

    It remembers what was on the person's screen, so that an answer which arrives after all is kept.
    """

    lease = models.UUIDField(primary_key=True)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="+")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    shown_order = models.JSONField()
    kind = models.CharField(max_length=11, choices=Kind, default=Kind.NORMAL, db_default=Kind.NORMAL)


class Contribution(models.Model):
    """One person's work in one campaign: their pseudonym and running counts.

    Everything that gives a person a slot or takes an answer locks this row first. So one person's requests come one
    after another, other people's never wait, and progress is a sum over people instead of a count over slots.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="contributions")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    labeler = models.CharField(max_length=40, default=new_pseudonym, editable=False)
    done = models.PositiveIntegerField(default=0, db_default=0, help_text="Slots this person filled.")
    extra = models.PositiveIntegerField(default=0, db_default=0, help_text="Late answers beyond the overlap.")
    checks = models.PositiveIntegerField(default=0, db_default=0, help_text="Answers to gold and repeated items.")
    next_check = models.PositiveIntegerField(null=True, help_text="With so many answers the next check is due.")
    practised = models.BooleanField(default=True, db_default=True, help_text="Not: to be trained before any work.")
    paused_at = models.DateTimeField(null=True, help_text="Since then this person is given nothing.")
    resumed_at = models.DateTimeField(null=True, help_text="What they gave before does not pause them again.")
    paused_because = models.TextField(blank=True, default="", db_default="", help_text="Read by managers.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["campaign", "user"], name="one_contribution_per_person"),
            models.UniqueConstraint(fields=["campaign", "labeler"], name="one_person_per_pseudonym"),
        ]

    @property
    def given(self) -> int:
        """All answers of the person that stand."""
        return self.done + self.extra + self.checks


class Skip(models.Model):
    """A person passed an item by; they do not get it again, others do."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="skips", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="skips")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    reason = models.CharField(max_length=40)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "user"], name="skip_campaign_idx")]
        constraints = [models.UniqueConstraint(fields=["item", "user"], name="one_skip_per_person")]

"""Campaigns, their items and slots, and the rankings people gave.

State and invariants of one row live here and in database constraints; reads in `querysets.py`; writes over several
rows in `assignment.py` (slots), `annotation.py` (rankings), `importing.py` (items) and `campaigns.py` (the rest).
"""

from __future__ import annotations

import random

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.ids import new_public_id
from accounts.models import CampaignRole
from labeling.querysets import CampaignQuerySet, RankingQuerySet


def new_random_key() -> float:
    return random.random()


def new_pseudonym() -> str:
    """What stands for a person in exports; another one in every campaign."""
    return f"annotator-{new_public_id()[:8]}"


class Campaign(models.Model):
    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        OPEN = "open", "Open"
        PAUSED = "paused", "Paused"
        CLOSED = "closed", "Closed"

    class Protocol(models.TextChoices):
        PAIR = "pair", "Pair: which of two answers is better"
        RANKING = "ranking", "Ranking: put 2 to 9 answers in order"
        CONVERSATION = "conversation", "Conversation: which of two whole conversations is better"

    class Order(models.TextChoices):
        RANDOM = "random", "At random"
        INFORMATIVE = "informative", "What teaches most first"

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    name = models.CharField(max_length=120)
    guidelines = models.TextField(blank=True, help_text="Markdown, shown to annotators beside every item.")
    guidelines_version = models.PositiveIntegerField(default=1)
    protocol = models.CharField(max_length=16, choices=Protocol, default=Protocol.PAIR)
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
        help_text="In which order items are given out.",
    )
    slot_count = models.PositiveIntegerField(
        default=0, editable=False, help_text="Slots that are not void; kept here so that progress needs no counting."
    )
    state = models.CharField(max_length=8, choices=State, default=State.DRAFT)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CampaignQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=CampaignRole, default=CampaignRole.ANNOTATOR)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "user"], name="one_membership_per_person")]


class Import(models.Model):
    """One file brought in, with the reason of every line that was refused (the first thousand of them)."""

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
    failure = models.TextField(default="", db_default="", help_text="Why a worker could not go on.")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)


class UploadPiece(models.Model):
    """A mebibyte of a file that a worker shall import; gone once it has."""

    source = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="pieces")
    index = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "index"], name="one_piece_per_index")]


class Item(models.Model):
    """One prompt and its completions to compare. `messages` may be empty when whole conversations are compared."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="items")
    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    messages = models.JSONField()
    content_hash = models.CharField(max_length=64, help_text="SHA-256 of prompt and completions: no item twice.")
    meta = models.JSONField(default=dict)
    source_import = models.ForeignKey(Import, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "content_hash"], name="no_item_twice")]


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


class Slot(models.Model):
    """One unit of overlap. An item with overlap N has N slots; LABELING section 3 has the rules."""

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

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["item", "user"],
                condition=Q(state__in=("leased", "done")),
                name="nobody_gets_an_item_twice",
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

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["campaign", "user"], name="one_contribution_per_person"),
            models.UniqueConstraint(fields=["campaign", "labeler"], name="one_person_per_pseudonym"),
        ]


class Skip(models.Model):
    """A person passed an item by; they do not get it again, others do."""

    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="skips")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    reason = models.CharField(max_length=40)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["item", "user"], name="one_skip_per_person")]


class Ranking(models.Model):
    """What a person gave: ordered tiers of completion indices, best first; ties share a tier; unranked ones are absent.

    Who looked and cannot tell gives an answer as well: it has no tiers, and is neither a tie nor a skip.
    Append-only: an edit is a new row whose `previous` is the old one, and only `status` of a row ever changes.
    """

    class Status(models.TextChoices):
        ACCEPTED = "accepted", "Accepted"
        SUPERSEDED = "superseded", "Superseded"
        WITHDRAWN = "withdrawn", "Withdrawn"

    class Origin(models.TextChoices):
        PERSON = "person", "Person"
        IMPORTED = "imported", "Imported"

    public_id = models.CharField(max_length=12, unique=True, default=new_public_id, editable=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="rankings")
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="rankings")
    slot = models.ForeignKey(Slot, null=True, on_delete=models.SET_NULL, related_name="rankings")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="rankings")
    labeler = models.CharField(max_length=120, help_text="Pseudonym used in exports, or the imported labeler.")
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.PERSON)
    status = models.CharField(max_length=10, choices=Status, default=Status.ACCEPTED)
    tiers = models.JSONField()
    cannot_tell = models.BooleanField(default=False, db_default=False)
    shown_order = models.JSONField(default=list)
    flags = models.JSONField(default=list)
    rationale = models.TextField(blank=True)
    active_ms = models.PositiveIntegerField(default=0, help_text="Time with the tab visible, in milliseconds.")
    protocol = models.CharField(max_length=16)
    guidelines_version = models.PositiveIntegerField()
    lease = models.UUIDField(null=True, unique=True, help_text="Idempotency key: the same lease gives one ranking.")
    late = models.BooleanField(default=False, help_text="Arrived after the lease had passed on; an extra annotation.")
    previous = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RankingQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["campaign", "status", "id"], name="ranking_campaign_idx"),
            models.Index(fields=["user", "campaign", "-id"], name="ranking_user_idx"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(origin="imported") | Q(user__isnull=False), name="a_person_or_an_import"
            ),
            models.CheckConstraint(
                condition=Q(cannot_tell=True, tiers=[]) | (Q(cannot_tell=False) & ~Q(tiers=[])),
                name="tiers_unless_cannot_tell",
            ),
        ]


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

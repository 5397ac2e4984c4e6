"""What people gave."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.ids import new_public_id
from labeling.models.campaigns import Campaign
from labeling.models.items import Item
from labeling.models.queue import Kind, Slot
from labeling.querysets import RankingQuerySet


class Ranking(models.Model):
    """What a person gave: ordered tiers of completion indices, best first; ties share a tier; unranked ones are absent.

    Who looked and cannot tell gives an answer as well: it has no tiers, and is neither a tie nor a skip.
    Append-only: an edit is a new row whose `previous` is the old one, and only `status` of a row ever changes.
    """

    class Status(models.TextChoices):
        ACCEPTED = "accepted", _("Accepted")
        SUPERSEDED = "superseded", _("Superseded")
        WITHDRAWN = "withdrawn", _("Withdrawn")
        RETURNED = "returned", _("Returned by a reviewer")
        REPLACED = "replaced", _("Replaced by a reviewer")
        REMOVED = "removed", _("Accepted, of an item that was taken out")

    class Origin(models.TextChoices):
        PERSON = "person", _("Person")
        IMPORTED = "imported", _("Imported")

    # Every index is a page more that an answer dirties, so there is none that another one makes useless; and a foreign
    # key locks what it points to: the campaign's row, for all its annotators at once, though the item's says the same.
    public_id = models.CharField(max_length=12, default=new_public_id, editable=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="rankings", db_index=False)
    campaign = models.ForeignKey(
        Campaign, on_delete=models.CASCADE, related_name="rankings", db_index=False, db_constraint=False
    )
    slot = models.ForeignKey(Slot, null=True, on_delete=models.SET_NULL, related_name="rankings")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="rankings", db_index=False
    )
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
    form_version = models.PositiveIntegerField(default=1, db_default=1)
    details = models.JSONField(default=dict, db_default={}, help_text="See `questionnaire`: strength, ratings, texts.")
    lease = models.UUIDField(null=True, unique=True, help_text="Idempotency key: the same lease gives one ranking.")
    kind = models.CharField(max_length=11, choices=Kind, default=Kind.NORMAL, db_default=Kind.NORMAL)
    late = models.BooleanField(default=False, help_text="Arrived after the lease had passed on; an extra annotation.")
    previous = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RankingQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["item", "user"], name="ranking_item_idx"),
            models.Index(fields=["campaign", "status", "id"], name="ranking_campaign_idx"),
            models.Index(fields=["user", "campaign", "-id"], name="ranking_user_idx"),
            models.Index(
                fields=["user", "campaign", "-id"],
                condition=Q(kind__in=("gold", "repeat"), status="accepted"),
                name="ranking_check_idx",
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["public_id"], name="ranking_public_id_is_unique"),
            models.CheckConstraint(
                condition=Q(origin="imported") | Q(user__isnull=False), name="a_person_or_an_import"
            ),
            models.CheckConstraint(
                condition=Q(cannot_tell=True, tiers=[]) | (Q(cannot_tell=False) & ~Q(tiers=[])),
                name="tiers_unless_cannot_tell",
            ),
        ]

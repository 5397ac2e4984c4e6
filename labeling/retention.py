"""Deleting a campaign closes and hides it. Nothing that anybody gave is destroyed, and a manager can restore it.

The database itself keeps answers: a trigger (migration `0011_retention`) refuses to delete a ranking, and to change
anything of it but its status.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.models import CampaignRole, User
from labeling.audit import record
from labeling.campaigns import change_state
from labeling.models import Campaign
from labeling.querysets import CampaignQuerySet


@transaction.atomic
def delete_campaign(campaign: Campaign, *, now: datetime, by: User | None = None) -> Campaign:
    """Nobody finds it any more."""
    campaign = change_state(campaign, Campaign.State.CLOSED, by=by)
    campaign.deleted_at = now
    campaign.save(update_fields=["deleted_at"])
    record(by, "campaign.delete", campaign)
    return campaign


@transaction.atomic
def restore_campaign(campaign: Campaign, *, by: User | None = None) -> Campaign:
    """It is there again, closed. One that is not deleted stays as it is."""
    if campaign.deleted_at is not None:
        campaign.deleted_at = None
        campaign.save(update_fields=["deleted_at"])
        record(by, "campaign.restore", campaign)
    return campaign


def deleted_campaigns(user: User) -> CampaignQuerySet:
    """Those that this person can restore, the last deleted first."""
    managed = Campaign.objects.with_role(user, CampaignRole.MANAGER, even_deleted=True)
    return managed.exclude(deleted_at=None).order_by("-deleted_at")

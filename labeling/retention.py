"""Deleting a campaign closes and hides it. Nothing that anybody gave is destroyed, and a manager can restore it.

The database itself keeps answers: a trigger (migration `0011_retention`) refuses to delete a ranking, and to change
anything of it but its status.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.models import CampaignRole, User
from labeling.campaigns import change_state
from labeling.models import Campaign
from labeling.querysets import CampaignQuerySet


@transaction.atomic
def delete_campaign(campaign: Campaign, *, now: datetime) -> Campaign:
    """Nobody finds it any more. Answers to items that people hold are still kept, as after closing."""
    campaign = change_state(campaign, Campaign.State.CLOSED)
    campaign.deleted_at = campaign.deleted_at or now
    campaign.save(update_fields=["deleted_at"])
    return campaign


def restore_campaign(campaign: Campaign) -> Campaign:
    """It is there again, closed."""
    campaign.deleted_at = None
    campaign.save(update_fields=["deleted_at"])
    return campaign


def deleted_campaigns(user: User) -> CampaignQuerySet:
    """Those that this person can restore, the last deleted first."""
    managed = Campaign.objects.with_role(user, CampaignRole.MANAGER, even_deleted=True)
    return managed.exclude(deleted_at=None).order_by("-deleted_at")

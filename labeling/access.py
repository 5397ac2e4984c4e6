"""The only door to a campaign on behalf of a person. Not a member: 404, as if it did not exist."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404
from django.http.response import HttpResponseBase

from accounts.access import AuthenticatedRequest, View, mark
from accounts.models import CampaignRole, User
from config.api import ApiView
from labeling.models import Campaign, LapsedLease, Slot

ANY_ROLE = tuple(CampaignRole)
LABELING_ROLES = (CampaignRole.ANNOTATOR, CampaignRole.REVIEWER, CampaignRole.MANAGER)
MANAGER = (CampaignRole.MANAGER,)
REPORT_ROLES = (CampaignRole.REVIEWER, CampaignRole.MANAGER)


def get_campaign(user: User, public_id: str, *roles: CampaignRole) -> Campaign:
    """The campaign, if `user` holds one of `roles` in it. Raises Http404."""
    campaigns = Campaign.objects.with_role(user, *(roles or ANY_ROLE)).filter(public_id=public_id)
    # PostgreSQL refuses a NUL in a text with an error; an id never has one.
    campaign = campaigns.first() if public_id.isalnum() else None
    if campaign is None:
        raise Http404
    return campaign


def get_lease(user: User, lease: UUID, campaign: Campaign | None = None) -> Slot | LapsedLease:
    """The person's own lease, held or lapsed, in a campaign they label in (or in this one). Raises Http404."""
    for model in (Slot, LapsedLease):
        leases = model.objects.filter(lease=lease, user=user)
        if campaign is None:
            labeled = Campaign.objects.with_role(user, *LABELING_ROLES)
            found = leases.select_related("campaign").filter(campaign__in=labeled).first()
        elif found := leases.filter(campaign=campaign).first():
            found.campaign = campaign  # not read again
        if found is not None:
            return found
    raise Http404


def campaign_role(*roles: CampaignRole) -> Callable[[View], View]:
    """Policy of a view with a `campaign_id` in its route; the view gets the campaign instead."""

    def decorator(view: View) -> View:
        @wraps(view)
        def wrapper(request: AuthenticatedRequest, campaign_id: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return view(request, get_campaign(request.user, campaign_id, *roles), *args, **kwargs)

        return mark(login_required(wrapper), "campaign:" + ",".join(roles or ANY_ROLE))

    return decorator


class CampaignView(ApiView):
    """An API view of one campaign, for people with one of `roles` for the method."""

    policy: ClassVar[str] = "campaign"
    roles: ClassVar[dict[str, tuple[CampaignRole, ...]]]

    def campaign(self, campaign_id: str) -> Campaign:
        return get_campaign(self.user, campaign_id, *self.roles[self.request.method or ""])

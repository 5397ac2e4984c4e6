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
from labeling.models import Campaign, LapsedLease, Slot, Webhook

ANY_ROLE = tuple(CampaignRole)
LABELING_ROLES = (CampaignRole.ANNOTATOR, CampaignRole.REVIEWER, CampaignRole.MANAGER)
MANAGER = (CampaignRole.MANAGER,)
REPORT_ROLES = (CampaignRole.REVIEWER, CampaignRole.MANAGER)


def get_campaign(user: User, public_id: str, *roles: CampaignRole, even_deleted: bool = False) -> Campaign:
    """The campaign, if `user` holds one of `roles` in it. Raises Http404."""
    campaigns = Campaign.objects.with_role(user, *(roles or ANY_ROLE), even_deleted=even_deleted)
    campaigns = campaigns.filter(public_id=public_id)
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


def get_webhook(user: User, public_id: str) -> Webhook:
    """A webhook of a campaign this person manages; any, for an admin. Raises Http404."""
    hooks = Webhook.objects.select_related("campaign")
    if not user.is_site_admin:
        hooks = hooks.filter(campaign__in=Campaign.objects.with_role(user, CampaignRole.MANAGER))
    hook = hooks.filter(public_id=public_id).first() if public_id.isalnum() else None
    if hook is None:
        raise Http404
    return hook


def webhook_access(view: View) -> View:
    """Policy of a page with a `webhook_id` in its route; the view gets the webhook instead."""

    @wraps(view)
    def wrapper(request: AuthenticatedRequest, webhook_id: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(request, get_webhook(request.user, webhook_id), *args, **kwargs)

    return mark(login_required(wrapper), "webhook")


def campaign_role(*roles: CampaignRole, even_deleted: bool = False) -> Callable[[View], View]:
    """Policy of a view with a `campaign_id` in its route; the view gets the campaign instead."""

    def decorator(view: View) -> View:
        @wraps(view)
        def wrapper(request: AuthenticatedRequest, campaign_id: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            campaign = get_campaign(request.user, campaign_id, *roles, even_deleted=even_deleted)
            return view(request, campaign, *args, **kwargs)

        return mark(login_required(wrapper), "campaign:" + ",".join(roles or ANY_ROLE))

    return decorator


class CampaignView(ApiView):
    """An API view of one campaign, for people with one of `roles` for the method."""

    policy: ClassVar[str] = "campaign"
    roles: ClassVar[dict[str, tuple[CampaignRole, ...]]]

    def campaign(self, campaign_id: str) -> Campaign:
        return get_campaign(self.user, campaign_id, *self.roles[self.request.method or ""])

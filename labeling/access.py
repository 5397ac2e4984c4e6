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
from config.postgres.rows import columns, read_one
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


LEASE = """
SELECT {columns} FROM {table} lease JOIN labeling_campaign campaign ON campaign.id = lease.campaign_id
WHERE lease.lease = %(lease)s AND lease.user_id = %(user)s AND campaign.deleted_at IS NULL
  AND (%(admin)s OR EXISTS (SELECT FROM labeling_membership
                            WHERE campaign_id = campaign.id AND user_id = %(user)s AND role = ANY(%(roles)s)))
"""


def get_lease(user: User, lease: UUID) -> Slot | LapsedLease:
    """The person's own lease, held or lapsed, in a campaign they label in. Raises Http404."""
    parameters = {"lease": lease, "user": user.pk, "admin": user.is_site_admin, "roles": list(LABELING_ROLES)}
    for model in (Slot, LapsedLease):
        shown = f"{columns(model, 'lease')}, {columns(Campaign, 'campaign')}"
        statement = LEASE.format(columns=shown, table=model._meta.db_table)
        if user.is_active and (row := read_one(statement, parameters, model, Campaign)):
            found: Slot | LapsedLease = row[0]
            found.campaign = row[1]
            return found
    raise Http404


def lease_holder(view: View) -> View:
    """Policy of a page with a campaign and a lease of the person's in its route; the view gets both."""

    @wraps(view)
    def wrapper(request: AuthenticatedRequest, campaign_id: str, lease_id: UUID) -> HttpResponseBase:
        lease = get_lease(request.user, lease_id)
        if lease.campaign.public_id != campaign_id:
            raise Http404
        return view(request, lease.campaign, lease)

    return mark(login_required(wrapper), "lease")


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

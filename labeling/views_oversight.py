"""The work as a whole: the audit log of a campaign and of the site."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import AuthenticatedRequest, site_admin
from accounts.models import CampaignRole
from labeling import audit
from labeling.access import campaign_role
from labeling.models import Campaign
from labeling.views_campaigns import campaign_context


@campaign_role(CampaignRole.MANAGER)
@require_safe
def campaign_log(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Who did what in this campaign."""
    context = campaign_context(request, campaign, "log") | _log(request, campaign)
    return render(request, "labeling/campaign_log.html", context)


@site_admin
@require_safe
def site_log(request: AuthenticatedRequest) -> HttpResponse:
    """Who did what on the site."""
    return render(request, "labeling/site_log.html", _log(request, None))


def _log(request: AuthenticatedRequest, campaign: Campaign | None) -> dict[str, Any]:
    verb, actor, before = (request.GET.get(name, "") for name in ("verb", "actor", "before"))
    known = before.isascii() and before.isdigit() and len(before) < 19
    rows, following = audit.entries(
        campaign,
        verb=verb if verb in audit.VERBS else "",
        actor=actor.replace("\x00", ""),
        before=int(before) if known else None,
    )
    return {
        "rows": [(row, audit.VERBS.get(row.verb, row.verb)) for row in rows],
        "next": following,
        "verb": verb,
        "actor": actor,
        "verbs": audit.VERBS.items(),
    }

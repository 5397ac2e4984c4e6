"""The work as a whole: how it goes and what it costs, items that give their source away, the audit log."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import AuthenticatedRequest, site_admin
from accounts.models import CampaignRole
from config.paging import page_of
from labeling import audit
from labeling.access import REPORT_ROLES, campaign_role
from labeling.models import Campaign
from labeling.pages.campaigns import campaign_context
from labeling.quality import leaks
from labeling.quality.charts import bar_chart
from labeling.quality.health import health_of, pay_lines


@campaign_role(*REPORT_ROLES)
@require_safe
def campaign_health(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Answers a day, what is left, when it will be done, what is stuck, what it costs."""
    health = health_of(campaign, today=timezone.localdate())
    labels = [date_format(day.day, _("j M")) for day in health.days]
    charts = [
        bar_chart(_("Answers a day"), _("Answers"), labels, [day.answers for day in health.days]),
        bar_chart(_("Still to be answered"), _("Answers"), labels, [day.left for day in health.days]),
    ]
    changes = campaign.overlap_changes.select_related("item").order_by("-pk")[:10]
    context = campaign_context(request, campaign, "health")
    context |= {"health": health, "charts": charts, "changes": changes}
    return render(request, "labeling/campaign_health.html", context)


@campaign_role(CampaignRole.MANAGER)
@require_safe
def campaign_pay(request: AuthenticatedRequest, campaign: Campaign) -> StreamingHttpResponse:
    """Everybody's time and pay as CSV."""
    audit.record(request.user, "pay.export", campaign)
    response = StreamingHttpResponse(list(pay_lines(campaign)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="pay-{campaign.public_id}.csv"'
    return response


@campaign_role(*REPORT_ROLES)
@require_safe
def campaign_leaks(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Places that may give away who wrote a completion; items that are held back come first."""
    page = page_of(leaks.shown(campaign), request.GET.get("after", ""), "-held", "pk")
    context = campaign_context(request, campaign, "leaks") | {"page": page}
    return render(request, "labeling/campaign_leaks.html", context)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def leaks_scan(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    count = leaks.scan_again(campaign, by=request.user)
    messages.success(
        request, _("Looked through the items: {count} more may show who wrote an answer.").format(count=count)
    )
    return redirect("campaign_leaks", campaign.public_id)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def leak_release(request: AuthenticatedRequest, campaign: Campaign, item_id: str) -> HttpResponse:
    item = get_object_or_404(campaign.items.select_related("campaign"), public_id=item_id)
    leaks.release(item, by=request.user)
    messages.success(request, _("This item can be answered now."))
    return redirect("campaign_leaks", campaign.public_id)


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

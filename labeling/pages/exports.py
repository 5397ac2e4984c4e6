"""Answers out: what there is to get, and files that workers make where there are many."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.access import AuthenticatedRequest
from labeling.access import REPORT_ROLES, campaign_role
from labeling.data.export_files import KEPT, is_large, is_there, order_export
from labeling.data.exporting import EXPORTS, NoSuchExport
from labeling.models import Campaign
from labeling.pages.campaigns import campaign_context

SHOWN = 30


@campaign_role(*REPORT_ROLES)
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_exports(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """All forms, at once or (many answers) as a file that is asked for with `what` and `container`."""
    if request.method == "POST":
        kind = {name: request.POST.get(name, "") for name in ("what", "container")}
        try:
            order_export(campaign, **kind, user=request.user)
        except NoSuchExport as problem:
            messages.error(request, str(problem))
        return redirect("campaign_exports", campaign.public_id)
    files = list(campaign.export_files.select_related("user").order_by("-pk")[:SHOWN])
    context = campaign_context(request, campaign, "exports") | {
        "exports": EXPORTS.items(),
        "large": is_large(campaign),
        "files": [(file, EXPORTS[file.what].title, is_there(file)) for file in files],
        "waits": any(not (file.finished_at or file.failure) for file in files),
        "days": KEPT.days,
    }
    return render(request, "labeling/campaign_exports.html", context)

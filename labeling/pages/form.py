"""The editor of a campaign's questions: one form, whose buttons work with and without htmx."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.access import AuthenticatedRequest
from accounts.models import CampaignRole
from labeling import campaigns
from labeling.access import campaign_role
from labeling.display.screen import Screen
from labeling.models import Campaign
from labeling.pages.campaigns import campaign_context
from labeling.protocols import editing as form_editing
from labeling.protocols.questions import InvalidForm

PAGE = "labeling/campaign_form.html"


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_form(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Edit, preview (what htmx asks for by its target) and save."""
    action, problem = request.POST.get("action", ""), ""
    if request.method != "POST":
        document = campaigns.form_of(campaign).document()
    else:
        document = form_editing.changed(form_editing.document_of(request.POST), action)
    screen, invalid = _preview(document, campaign.protocol)
    if action == "save":
        problem = invalid or _save(campaign, document)
        if not problem:
            messages.success(request, _("Saved. New answers are asked for like this."))
            return _back(request, campaign)
    context = campaign_context(request, campaign, "form") | {
        "document": document,
        "questions": form_editing.rows(document),
        "skip_reasons": form_editing.option_lines(document["skip_reasons"]),
        "addable": form_editing.addable(document),
        "added": action.startswith("add:"),
        "presets": form_editing.presets_for(campaign.protocol),
        "screen": screen,
        "invalid": invalid,
        "problem": problem,
    }
    part = {"preview": "#preview", "form-editor": "#editor"}.get(request.htmx.target or "", "")
    return render(request, PAGE + part, context, status=200 if request.htmx or not problem else 422)


def _preview(document: form_editing.Document, protocol: str) -> tuple[Screen | None, str]:
    try:
        return form_editing.preview_of(document, protocol), ""
    except InvalidForm as refusal:
        return None, str(refusal)


def _save(campaign: Campaign, document: form_editing.Document) -> str:
    """Returns why not, if not."""
    try:
        campaigns.update_campaign(campaign, form=document)
    except (InvalidForm, campaigns.CampaignChangeRefused) as refusal:
        return str(refusal)
    return ""


def _back(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    response = redirect("campaign_form", campaign.public_id)
    if request.htmx:
        response.status_code = 204
        response["HX-Redirect"] = response["Location"]
    return response

"""Campaign pages: list, create, overview, settings, opening and closing."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Case, OuterRef, QuerySet, Subquery, Sum, When
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import AuthenticatedRequest, researcher, signed_in
from accounts.models import CampaignRole, User
from config.paging import page_of, wanted
from labeling import campaigns, retention
from labeling.access import ANY_ROLE, REPORT_ROLES, campaign_role
from labeling.models import Campaign, Contribution, Membership
from labeling.pages.forms import MAX_GUIDELINES, CampaignForm, NewCampaignForm
from labeling.pages.tabs import tabs_of
from labeling.protocols.presets import PRESETS
from labeling.protocols.questions import InvalidForm
from labeling.quality import reports
from labeling.queue.progress import progress, why_empty
from labeling.queue.steering import standing

STATE_ORDER = [Campaign.State.OPEN, Campaign.State.PAUSED, Campaign.State.DRAFT, Campaign.State.CLOSED]
DELETED_SHOWN = 20


def campaign_context(request: AuthenticatedRequest, campaign: Campaign, page: str) -> dict[str, Any]:
    """What the head of every campaign page shows: who I am here, and the tabs that follow from it."""
    role = "manager" if request.user.is_site_admin else campaign.memberships.get(user=request.user).role
    tabs, below = tabs_of(campaign, role, page, request.path)
    return {
        "campaign": campaign,
        "tabs": tabs,
        "tabs_below": below,
        "role": role,
        "can_review": role in REPORT_ROLES,
        "can_manage": role == CampaignRole.MANAGER,
        "next_states": sorted(campaigns.TRANSITIONS[campaign.state]),
        "obstacle": campaigns.obstacle_of(campaign),
    }


@signed_in
@require_safe
def campaign_list(request: AuthenticatedRequest) -> HttpResponse:
    """Open ones first, then the newest."""
    find = wanted(request.GET)
    found = _with_counts(request.user).filter(name__icontains=find)
    context = {
        "find": find,
        "page": page_of(found, request.GET.get("after", ""), "place", "-pk"),
        "deleted": retention.deleted_campaigns(request.user)[:DELETED_SHOWN],
    }
    return render(request, "labeling/campaign_list.html", context)


def _with_counts(user: User) -> QuerySet[Campaign, Any]:
    given = Contribution.objects.filter(campaign=OuterRef("pk")).order_by().values("campaign")
    mine = Contribution.objects.filter(campaign=OuterRef("pk"), user=user)
    membership = Membership.objects.filter(campaign=OuterRef("pk"), user=user)
    return (
        Campaign.objects.visible_to(user)
        .select_related("live_chat")
        .annotate(
            place=Case(*[When(state=state, then=place) for place, state in enumerate(STATE_ORDER)]),
            done=Coalesce(Subquery(given.annotate(sum=Sum("done")).values("sum")), 0),
            mine=Coalesce(Subquery(mine.values("done")), 0),
            my_role=Subquery(membership.values("role")),
        )
    )


@researcher
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_new(request: AuthenticatedRequest) -> HttpResponse:
    form = NewCampaignForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        campaign = campaigns.create_campaign(request.user, **form.cleaned_data)
        messages.success(request, _("The campaign is a draft. Bring in what is to be compared, then open it."))
        return redirect("campaign_import", campaign.public_id)
    context = {"form": form, "presets": PRESETS}
    return render(request, "labeling/campaign_new.html", context, status=422 if form.errors else 200)


@signed_in
@require_POST
def guidelines_preview(request: AuthenticatedRequest) -> HttpResponse:
    """What somebody is writing, as annotators will see it."""
    text = request.POST.get("guidelines", "")[:MAX_GUIDELINES]
    return render(request, "labeling/_guidelines.html", {"guidelines": text})


@campaign_role(*ANY_ROLE)
@require_safe
def campaign_detail(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """The overview: numbers for managers and reviewers, what is asked for everybody."""
    context = campaign_context(request, campaign, "overview") | {"progress": progress(request.user, campaign)}
    if context["can_review"]:
        context |= _work(campaign)
        context["has_rankings"] = campaign.rankings.accepted().exists()
    else:
        context["why"] = why_empty(request.user, campaign, now=timezone.now()) if campaign.state != "open" else ""
    return render(request, "labeling/campaign_detail.html", context)


@campaign_role(*REPORT_ROLES)
@require_safe
def campaign_live(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """The part of the overview that changes while people work."""
    context = campaign_context(request, campaign, "overview")
    context |= _work(campaign)
    context["progress"] = progress(request.user, campaign)
    return render(request, "labeling/campaign_detail.html#live", context)


def _work(campaign: Campaign) -> dict[str, Any]:
    """What changes on the overview while people work."""
    people = reports.leading_people(campaign)
    return {"people": people, "count": reports.people_count(campaign), "standing": standing(campaign)}


@campaign_role(*REPORT_ROLES)
@require_safe
def campaign_report(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Whose answers are preferred, how far people agree, how well each answers."""
    context = campaign_context(request, campaign, "report") | {"report": reports.campaign_report(campaign)}
    return render(request, "labeling/campaign_report.html", context)


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_settings(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    form = CampaignForm(request.POST or None, instance=campaign)
    if request.method == "POST" and form.is_valid():
        try:
            campaigns.update_campaign(Campaign.objects.get(pk=campaign.pk), by=request.user, **form.cleaned_data)
            messages.success(request, _("Saved."))
            return redirect("campaign_settings", campaign.public_id)
        except (campaigns.CampaignChangeRefused, InvalidForm) as refusal:
            form.add_error(None, str(refusal))
    shown = Campaign.objects.get(pk=campaign.pk)  # a ModelForm writes into the instance even when it is refused
    context = campaign_context(request, shown, "settings") | {"form": form}
    return render(request, "labeling/campaign_settings.html", context, status=422 if form.errors else 200)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def campaign_state(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    try:
        changed = campaigns.change_state(campaign, request.POST.get("state", ""), by=request.user)
        messages.success(request, _("The campaign is {state}.").format(state=changed.get_state_display().lower()))
    except campaigns.CampaignChangeRefused as refusal:
        messages.error(request, str(refusal))
    return redirect("campaign_detail", campaign.public_id)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def campaign_delete(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    retention.delete_campaign(campaign, now=timezone.now(), by=request.user)
    messages.success(
        request, _("{campaign} is deleted. You find it below, should you want it back.").format(campaign=campaign)
    )
    return redirect("campaign_list")


@campaign_role(CampaignRole.MANAGER, even_deleted=True)
@require_POST
def campaign_restore(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    retention.restore_campaign(campaign, by=request.user)
    messages.success(request, _("{campaign} is back, closed. Open it when it shall go on.").format(campaign=campaign))
    return redirect("campaign_detail", campaign.public_id)

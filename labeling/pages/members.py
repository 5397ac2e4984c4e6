"""Who works in a campaign: members, their roles, and invitations to it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import invitations
from accounts.access import AuthenticatedRequest
from accounts.forms import CampaignInviteForm
from accounts.models import CampaignRole
from config.paging import page_of, wanted
from labeling import campaigns
from labeling.access import campaign_role
from labeling.models import Campaign
from labeling.pages.campaigns import campaign_context
from labeling.pages.forms import MemberForm, RoleForm


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_members(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    form = MemberForm(request.POST or None, initial={"role": CampaignRole.ANNOTATOR})
    if request.method == "POST" and form.is_valid():
        member = campaigns.set_member(
            campaign, form.cleaned_data["username"], form.cleaned_data["role"], by=request.user
        )
        messages.success(
            request,
            _("{user} has the role “{role}” in this campaign.").format(
                user=member.user, role=member.get_role_display()
            ),
        )
        return redirect("campaign_members", campaign.public_id)
    find = wanted(request.GET)
    members = campaign.memberships.select_related("user").filter(user__username__icontains=find)
    context = campaign_context(request, campaign, "members") | {
        "form": form,
        "find": find,
        "page": page_of(members, request.GET.get("after", ""), "user__username"),
        "roles": CampaignRole.choices,
    }
    return render(request, "labeling/campaign_members.html", context, status=422 if form.errors else 200)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def member_role(request: AuthenticatedRequest, campaign: Campaign, user_id: int) -> HttpResponse:
    membership = get_object_or_404(campaign.memberships.select_related("user"), user=user_id)
    form = RoleForm(request.POST)
    if form.is_valid():
        changed = campaigns.set_member(campaign, membership.user, form.cleaned_data["role"], by=request.user)
        messages.success(
            request, _("{user} has the role “{role}” now.").format(user=changed.user, role=changed.get_role_display())
        )
    return _back_to_members(request, campaign)


@campaign_role(CampaignRole.MANAGER)
@require_POST
def member_remove(request: AuthenticatedRequest, campaign: Campaign, user_id: int) -> HttpResponse:
    membership = get_object_or_404(campaign.memberships.select_related("user"), user=user_id)
    campaigns.remove_member(campaign, membership.user, by=request.user)
    messages.success(request, _("{user} is no longer a member. Their answers stay.").format(user=membership.user))
    return _back_to_members(request, campaign)


def _back_to_members(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """The members page, or the list of campaigns for a manager who took the role from themselves."""
    managed = Campaign.objects.with_role(request.user, CampaignRole.MANAGER).filter(pk=campaign.pk).exists()
    return redirect(reverse("campaign_members", args=[campaign.public_id]) if managed else reverse("campaign_list"))


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def campaign_invitations(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """A manager invites annotators, reviewers and managers."""
    form, link, status = CampaignInviteForm(request.POST or None), "", 200
    if request.method == "POST":
        if form.is_valid():
            _invitation, token = invitations.create_invitation(request.user, campaign=campaign, **form.cleaned_data)
            # Rendered rather than redirected to: the link is nowhere stored, so it can be shown now or never.
            form, link = CampaignInviteForm(), request.build_absolute_uri(reverse("invitation_accept", args=[token]))
        else:
            status = 422
    open_ones = invitations.open_ones().filter(campaign=campaign)
    context = campaign_context(request, campaign, "invitations") | {
        "page": page_of(open_ones, request.GET.get("after", ""), "-pk"),
        "form": form,
        "link": link,
    }
    return render(request, "labeling/campaign_invitations.html", context, status=status)

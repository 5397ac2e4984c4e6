"""The JSON API of campaigns; the contract is the OpenAPI schema. Items are in `items`, work in `tasks`.

Every view says which roles may call it (`roles`, per method) and gets its campaign or lease through the doors in
`labeling.access`: what a person may not know of is 404.
"""

from __future__ import annotations

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from config.api import CURSOR, ApiView, OldestFirst, page_of
from labeling import access, campaigns
from labeling.access import ANY_ROLE, MANAGER, REPORT_ROLES, get_campaign
from labeling.api import serializers
from labeling.data.importing import ImportFailed
from labeling.models import Campaign
from labeling.protocols.basics import InvalidRanking
from labeling.protocols.questions import InvalidForm
from labeling.quality.reports import campaign_report
from labeling.queue.annotation import CannotUndo
from labeling.queue.assignment import LeaseLost
from labeling.queue.progress import progress
from labeling.retention import delete_campaign, restore_campaign


class LabelingView(ApiView):
    refusals = {
        InvalidRanking: 400,
        InvalidForm: 400,
        LeaseLost: 409,
        CannotUndo: 409,
        ImportFailed: 409,
        campaigns.CampaignChangeRefused: 409,
    }


class CampaignView(LabelingView, access.CampaignView):
    """A view of one campaign, as the others here."""


class CampaignList(LabelingView):
    policy = "signed_in"

    @extend_schema(
        operation_id="campaigns_list", parameters=[CURSOR], responses=page_of(serializers.CampaignSerializer)
    )
    def get(self, request: Request) -> Response:
        """The campaigns you are a member of, newest first."""
        return self.page(Campaign.objects.visible_to(self.user), serializers.CampaignSerializer)

    @extend_schema(request=serializers.CampaignSerializer, responses={201: serializers.CampaignSerializer})
    def post(self, request: Request) -> Response:
        """Create a draft (researchers and admins)."""
        if not self.user.is_researcher:
            raise Http404
        campaign = campaigns.create_campaign(self.user, **self.valid(serializers.CampaignSerializer))
        return Response(serializers.CampaignSerializer(campaign).data, status=201)


class CampaignDetail(CampaignView):
    roles = {"GET": ANY_ROLE, "PATCH": MANAGER, "DELETE": MANAGER}

    @extend_schema(responses=serializers.CampaignDetailSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """One campaign with its progress."""
        return self._response(self.campaign(campaign_id))

    @extend_schema(request=serializers.CampaignSerializer, responses=serializers.CampaignDetailSerializer)
    def patch(self, request: Request, campaign_id: str) -> Response:
        """Change name, guidelines, overlap, order, or (before the first import) the protocol."""
        campaign = self.campaign(campaign_id)
        return self._response(
            campaigns.update_campaign(
                campaign, by=self.user, **self.valid(serializers.CampaignSerializer, partial=True)
            )
        )

    @extend_schema(responses={204: None})
    def delete(self, request: Request, campaign_id: str) -> Response:
        """Hide the campaign. Its answers are kept, and it can be restored."""
        delete_campaign(self.campaign(campaign_id), now=timezone.now(), by=self.user)
        return Response(status=204)

    def _response(self, campaign: Campaign) -> Response:
        shown = serializers.CampaignSerializer(campaign).data
        numbers = serializers.ProgressSerializer(progress(self.user, campaign)).data
        return Response({**shown, "progress": numbers})


class CampaignRestored(CampaignView):
    roles = {"POST": MANAGER}

    @extend_schema(request=None, responses=serializers.CampaignSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """Bring a deleted campaign back. It is closed then."""
        campaign = get_campaign(self.user, campaign_id, *MANAGER, even_deleted=True)
        return Response(serializers.CampaignSerializer(restore_campaign(campaign, by=self.user)).data)


class CampaignState(CampaignView):
    roles = {"POST": MANAGER}

    @extend_schema(request=serializers.StateSerializer, responses=serializers.CampaignSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """Open, pause or close."""
        campaign = self.campaign(campaign_id)
        changed = campaigns.change_state(campaign, self.valid(serializers.StateSerializer)["state"], by=self.user)
        return Response(serializers.CampaignSerializer(changed).data)


class CampaignForm(CampaignView):
    roles = {"GET": ANY_ROLE}

    @extend_schema(responses=serializers.FormSerializer)
    def get(self, request: Request, campaign_id: str, version: int) -> Response:
        """What the campaign asks, or asked in an earlier version: answers name theirs as `form_version`."""
        campaign = self.campaign(campaign_id)
        try:
            form = campaigns.form_of(campaign, version)
        except InvalidRanking:
            raise Http404 from None
        return Response({"version": version, "form": form.document()})


class CampaignMembers(CampaignView):
    roles = {"GET": MANAGER, "POST": MANAGER}

    @extend_schema(operation_id="members_list", parameters=[CURSOR], responses=page_of(serializers.MemberSerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """Who works in the campaign, in the order in which they came."""
        members = self.campaign(campaign_id).memberships.select_related("user")
        return self.page(members, serializers.MemberSerializer, OldestFirst())

    @extend_schema(request=serializers.MemberSerializer, responses={201: serializers.MemberSerializer})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Add somebody who has an account, or change their role."""
        campaign, data = self.campaign(campaign_id), self.valid(serializers.MemberSerializer)
        person = User.objects.filter(username=data["user"]["username"], is_active=True).first()
        if person is None:
            raise ValidationError({"username": "There is no such person."})
        member = campaigns.set_member(campaign, person, data["role"], by=self.user)
        return Response(serializers.MemberSerializer(member).data, status=201)


class CampaignMember(CampaignView):
    roles = {"PATCH": MANAGER, "DELETE": MANAGER}

    @extend_schema(request=serializers.RoleSerializer, responses=serializers.MemberSerializer)
    def patch(self, request: Request, campaign_id: str, user_id: int) -> Response:
        """Change what somebody may do in the campaign."""
        campaign = self.campaign(campaign_id)
        membership = get_object_or_404(campaign.memberships.select_related("user"), user=user_id)
        role = self.valid(serializers.RoleSerializer)["role"]
        member = campaigns.set_member(campaign, membership.user, role, by=self.user)
        return Response(serializers.MemberSerializer(member).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, campaign_id: str, user_id: int) -> Response:
        """Remove somebody. What they answered stays."""
        campaign = self.campaign(campaign_id)
        membership = get_object_or_404(campaign.memberships.select_related("user"), user=user_id)
        campaigns.remove_member(campaign, membership.user, by=self.user)
        return Response(status=204)


class CampaignReport(CampaignView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(responses=serializers.ReportSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """Who gave how much, how fast and how well, how far people agree, and whose completions they prefer."""
        campaign = self.campaign(campaign_id)
        report = {**vars(campaign_report(campaign)), "progress": progress(self.user, campaign)}
        return Response(serializers.ReportSerializer(report).data)

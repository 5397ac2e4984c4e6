"""People over HTTP: who I am, everybody (admins), invitations, my tokens."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import invitations, people, privacy, tokens
from accounts.models import ApiToken, Invitation, User
from accounts.serializers import (
    CampaignInviteSerializer,
    InvitationSerializer,
    InviteSerializer,
    MadeInvitationSerializer,
    MadeTokenSerializer,
    MeSerializer,
    NewTokenSerializer,
    PersonChangeSerializer,
    PersonSerializer,
    TokenSerializer,
)
from config.api import CURSOR, ApiView, IsSiteAdmin, page_of
from labeling.access import MANAGER, CampaignView
from labeling.models import Campaign


class Me(ApiView):
    policy = "signed_in"

    @extend_schema(responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Who you are here, and in which campaigns."""
        return Response(MeSerializer(self.user).data)


class MyData(ApiView):
    policy = "signed_in"

    @extend_schema(responses={(200, "application/x-ndjson"): OpenApiTypes.BINARY})
    def get(self, request: Request) -> HttpResponse:
        """All that is stored about you, as JSON lines."""
        return HttpResponse(privacy.personal_data(self.user), "application/x-ndjson")


class AdminView(ApiView):
    policy = "site_admin"
    permission_classes = (IsSiteAdmin,)
    refusals = {people.LastAdmin: 409, invitations.InvitationRefused: 409}


class People(AdminView):
    @extend_schema(operation_id="people_list", parameters=[CURSOR], responses=page_of(PersonSerializer))
    def get(self, request: Request) -> Response:
        """Everybody with an account, newest first."""
        return self.page(User.objects.all(), PersonSerializer)


class Person(AdminView):
    @extend_schema(responses=PersonSerializer)
    def get(self, request: Request, user_id: int) -> Response:
        """One person."""
        return Response(PersonSerializer(get_object_or_404(User, pk=user_id)).data)

    @extend_schema(request=PersonChangeSerializer, responses=PersonSerializer)
    def patch(self, request: Request, user_id: int) -> Response:
        """Change somebody's role, deactivate or reactivate them. 409 for the last active admin."""
        person, changes = get_object_or_404(User, pk=user_id), self.valid(PersonChangeSerializer)
        with transaction.atomic():
            if "role" in changes:
                people.change_role(person, changes["role"], by=self.user)
            if "is_active" in changes:
                people.set_active(person, changes["is_active"], by=self.user)
        return Response(PersonSerializer(person).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, user_id: int) -> Response:
        """Take the person out of their account for good; answers stay. 409 for the last active admin."""
        privacy.erase(get_object_or_404(User, pk=user_id), by=self.user)
        return Response(status=204)


def _made(request: Request, invitation: Invitation, token: str) -> Response:
    link = request.build_absolute_uri(reverse("invitation_accept", args=[token]))
    return Response({**InvitationSerializer(invitation).data, "link": link}, status=201)


class Invitations(AdminView):
    @extend_schema(operation_id="invitations_list", parameters=[CURSOR], responses=page_of(InvitationSerializer))
    def get(self, request: Request) -> Response:
        """Invitations that can still be used."""
        return self.page(invitations.open_ones(), InvitationSerializer)

    @extend_schema(request=InviteSerializer, responses={201: MadeInvitationSerializer})
    def post(self, request: Request) -> Response:
        """Invite somebody to the site and, if wanted, to a campaign. The link is shown only now."""
        data = self.valid(InviteSerializer)
        if wanted := data.pop("campaign", ""):
            data["campaign"] = get_object_or_404(Campaign, public_id=wanted)
        return _made(request, *invitations.create_invitation(self.user, **data))


class InvitationDetail(ApiView):
    policy = "signed_in"

    @extend_schema(responses={204: None})
    def delete(self, request: Request, invitation_id: int) -> Response:
        """Revoke: by an admin, or by a manager of the campaign it invites to."""
        invitation = get_object_or_404(invitations.revocable_by(self.user), pk=invitation_id)
        invitations.revoke(invitation, by=self.user)
        return Response(status=204)


class CampaignInvitations(CampaignView):
    roles = {"GET": MANAGER, "POST": MANAGER}

    @extend_schema(parameters=[CURSOR], responses=page_of(InvitationSerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """Invitations to this campaign that can still be used."""
        return self.page(invitations.open_ones().filter(campaign=self.campaign(campaign_id)), InvitationSerializer)

    @extend_schema(request=CampaignInviteSerializer, responses={201: MadeInvitationSerializer})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Invite somebody to this campaign. The link is shown only now."""
        campaign, data = self.campaign(campaign_id), self.valid(CampaignInviteSerializer)
        return _made(request, *invitations.create_invitation(self.user, campaign=campaign, **data))


class Tokens(ApiView):
    policy = "signed_in"

    def mine(self) -> QuerySet[ApiToken]:
        return ApiToken.objects.filter(user=self.user, revoked_at=None).order_by("-pk")

    @extend_schema(operation_id="tokens_list", parameters=[CURSOR], responses=page_of(TokenSerializer))
    def get(self, request: Request) -> Response:
        """Your tokens, newest first."""
        return self.page(self.mine(), TokenSerializer)

    @extend_schema(request=NewTokenSerializer, responses={201: MadeTokenSerializer})
    def post(self, request: Request) -> Response:
        """Make a token; it is shown only now. Needs a session: a token makes no other tokens."""
        if isinstance(request.auth, ApiToken):
            raise PermissionDenied(_("A token cannot make tokens. Sign in to make one."))
        data = self.valid(NewTokenSerializer)
        if self.mine().filter(name=data["name"]).exists():
            raise ValidationError({"name": _("You have a token of this name. Revoke it or choose another name.")})
        row, token = tokens.create_token(self.user, **data)
        return Response({**TokenSerializer(row).data, "token": token}, status=201)


class Token(ApiView):
    policy = "signed_in"

    @extend_schema(responses={204: None})
    def delete(self, request: Request, token_id: int) -> Response:
        """Revoke one of your tokens."""
        if not tokens.revoke_token(self.user, token_id):
            raise Http404
        return Response(status=204)

"""The shapes of people, invitations and tokens in the API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.models import ApiToken, CampaignRole, Invitation, Scope, SiteRole, User


class PersonSerializer(serializers.ModelSerializer[User]):
    email = serializers.CharField(help_text="May be empty.")

    class Meta:
        model = User
        fields = ["id", "username", "email", "role", "is_active", "date_joined", "last_login"]
        read_only_fields = fields


class PersonChangeSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=SiteRole.choices, required=False)
    is_active = serializers.BooleanField(required=False)


class MembershipSerializer(serializers.Serializer[Any]):
    campaign = serializers.CharField(source="campaign.public_id")
    name = serializers.CharField(source="campaign.name")
    role = serializers.ChoiceField(choices=CampaignRole.choices)


class MeSerializer(serializers.ModelSerializer[User]):
    email = serializers.CharField(help_text="May be empty.")
    memberships = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = ["id", "username", "email", "role", "memberships"]
        read_only_fields = fields

    def get_memberships(self, user: User) -> list[Any]:
        """Campaigns you work in."""
        rows = user.memberships.select_related("campaign").order_by("campaign__name")
        return list(MembershipSerializer(rows, many=True).data)


class InvitationSerializer(serializers.ModelSerializer[Invitation]):
    email = serializers.CharField(help_text="May be empty.")
    campaign = serializers.CharField(source="campaign.public_id", read_only=True, default=None, allow_null=True)
    created_by = serializers.CharField(source="created_by.username")

    class Meta:
        model = Invitation
        fields = ["id", "email", "role", "campaign", "campaign_role", "created_by", "created_at", "expires_at"]
        read_only_fields = fields


class MadeInvitationSerializer(InvitationSerializer):
    link = serializers.URLField()

    class Meta(InvitationSerializer.Meta):
        fields = [*InvitationSerializer.Meta.fields, "link"]
        read_only_fields = fields


class CampaignInviteSerializer(serializers.Serializer[Any]):
    campaign_role = serializers.ChoiceField(choices=CampaignRole.choices, default=CampaignRole.ANNOTATOR)
    email = serializers.EmailField(default="", allow_blank=True, max_length=254)
    days = serializers.IntegerField(min_value=1, max_value=90, default=7)


class InviteSerializer(CampaignInviteSerializer):
    role = serializers.ChoiceField(choices=SiteRole.choices, default=SiteRole.ANNOTATOR)
    campaign = serializers.CharField(default="", allow_blank=True, max_length=12)


class NewTokenSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80)
    days = serializers.IntegerField(min_value=1, max_value=365, default=90)
    scope = serializers.ChoiceField(choices=Scope.choices, default=Scope.MANAGE)


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    class Meta:
        model = ApiToken
        fields = ["id", "name", "hint", "scope", "created_at", "expires_at", "last_used_at"]
        read_only_fields = fields


class MadeTokenSerializer(TokenSerializer):
    token = serializers.CharField()

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "token"]
        read_only_fields = fields

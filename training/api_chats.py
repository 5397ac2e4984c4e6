"""The live chat of a campaign over HTTP, for its managers: which models take part, and how."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from labeling.access import MANAGER, CampaignView
from labeling.chats.requests import standing
from labeling.chats.setup import NoLiveChat, set_up
from labeling.models import Campaign, LiveChat
from labeling.protocols.questions import InvalidForm
from training.chats import contestants_of, models_for, participants_of

SETTINGS = ["is_on", "temperature", "max_new_tokens", "max_turns", "target"]


class ContestantSerializer(serializers.Serializer):
    model = serializers.CharField()
    name = serializers.CharField()
    standing = serializers.ChoiceField(choices=["off", "wanted", "loading", "ready", "failed"])
    failure = serializers.CharField(allow_blank=True)


class NewLiveChatSerializer(serializers.ModelSerializer):
    """What is left out stays as it is, or takes its default."""

    models = serializers.ListField(child=serializers.CharField(max_length=12), max_length=50)

    class Meta:
        model = LiveChat
        fields = ["models", *SETTINGS]


class LiveChatSerializer(serializers.ModelSerializer):
    contestants = serializers.SerializerMethodField()

    class Meta:
        model = LiveChat
        fields = ["contestants", *SETTINGS, "votes"]
        read_only_fields = ["votes"]

    @extend_schema_field(ContestantSerializer(many=True))
    def get_contestants(self, live_chat: LiveChat) -> list[dict[str, Any]]:
        now = timezone.now()
        return [
            {
                "model": one.model,
                "name": one.name,
                "standing": standing(one.server, now=now),
                "failure": one.server.failure,
            }
            for one in contestants_of(live_chat).select_related("server")
        ]


class CampaignLiveChat(CampaignView):
    roles = {"GET": MANAGER, "PUT": MANAGER}
    refusals = {NoLiveChat: 400, InvalidForm: 400}

    @extend_schema(responses=LiveChatSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """The models people chat with, and which of them are in memory."""
        return self._shown(self.campaign(campaign_id))

    @extend_schema(request=NewLiveChatSerializer, responses=LiveChatSerializer)
    def put(self, request: Request, campaign_id: str) -> Response:
        """Let people chat with two or more models."""
        campaign = self.campaign(campaign_id)
        data: dict[str, Any] = self.valid(NewLiveChatSerializer)
        wanted = set(data.pop("models"))
        chosen = list(models_for(self.user, campaign).filter(public_id__in=wanted))
        if missing := wanted - {model.public_id for model in chosen}:
            raise ValidationError({"models": f"There is no language model {min(missing)!r} that you may use."})
        set_up(campaign, participants_of(chosen), by=self.user, **data)
        return self._shown(campaign)

    def _shown(self, campaign: Campaign) -> Response:
        live_chat = LiveChat.objects.filter(pk=campaign.pk).first()
        return Response(LiveChatSerializer(live_chat or LiveChat(campaign=campaign, is_on=False)).data)

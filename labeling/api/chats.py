"""The live chat over HTTP: one's own chat in a campaign. Every step answers with the chat as it is then."""

from __future__ import annotations

import random
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Scope
from labeling.access import LABELING_ROLES, CampaignView
from labeling.chats import sessions
from labeling.chats.screen import ChatScreen, open_chat
from labeling.chats.sessions import CHOICES, MAX_MESSAGE, ChatRefused, TooFast
from labeling.models import Campaign, Chat, ChatReply, LiveChat
from labeling.protocols.basics import MAX_RATIONALE, InvalidRanking

STATES = ("new", "loading", "writing", "failed", "answered", "voted")


class ChatReplySerializer(serializers.ModelSerializer):
    class Meta:
        model = ChatReply
        fields = ["side", "state", "text", "is_cut"]


class ChatTurnSerializer(serializers.Serializer):
    message = serializers.CharField()
    replies = ChatReplySerializer(many=True)
    voted = serializers.BooleanField()


class ChatSerializer(serializers.Serializer):
    """`state` is what the chat waits for; nothing tells which models answer."""

    id = serializers.CharField()
    state = serializers.ChoiceField(choices=STATES)
    turns = ChatTurnSerializer(many=True)


class OwnChatSerializer(serializers.Serializer):
    """`chat` is null when there is no open one; `why` says why none can be begun, empty when one can."""

    chat = ChatSerializer(allow_null=True)
    why = serializers.CharField(allow_blank=True)
    votes = serializers.IntegerField()
    target = serializers.IntegerField()


class WhichChatSerializer(serializers.Serializer):
    chat = serializers.CharField(max_length=12, help_text="Id of the chat that you see.")


class ChatMessageSerializer(WhichChatSerializer):
    turn = serializers.IntegerField(min_value=0, max_value=999, help_text="From 0; the same turn again is no new one.")
    message = serializers.CharField(max_length=MAX_MESSAGE)


class ChatVoteSerializer(WhichChatSerializer):
    choice = serializers.ChoiceField(choices=CHOICES)
    rationale = serializers.CharField(max_length=MAX_RATIONALE, required=False, allow_blank=True)
    active_ms = serializers.IntegerField(min_value=0, max_value=10**9, required=False)


class ChatView(CampaignView):
    """A view of the caller's chat in a campaign."""

    scope = Scope.LABEL
    refusals = {TooFast: 429, ChatRefused: 409, InvalidRanking: 400}

    def own_chat(self, campaign: Campaign, data: dict[str, Any]) -> Chat:
        """Takes the chat out of the request's data."""
        return sessions.own_chat(self.user, campaign, data.pop("chat"))

    def shown(self, campaign: Campaign) -> Response:
        """The chat as it is."""
        live_chat = LiveChat.objects.filter(pk=campaign.pk).first()
        screen = open_chat(self.user, campaign, now=timezone.now())
        body = {
            "chat": _shown(screen) if screen else None,
            "why": sessions.why_not(self.user, campaign, live_chat),
            "votes": live_chat.votes if live_chat else 0,
            "target": live_chat.target if live_chat else 0,
        }
        return Response(OwnChatSerializer(body).data)


def _shown(screen: ChatScreen) -> dict[str, Any]:
    turns = [
        {"message": turn.message, "replies": list(turn.replies.all()), "voted": bool(turn.vote_id)}
        for turn in screen.turns
    ]
    return {"id": screen.chat.public_id, "state": screen.state, "turns": turns}


class CampaignChat(ChatView):
    roles = {"GET": LABELING_ROLES, "POST": LABELING_ROLES, "DELETE": LABELING_ROLES}

    @extend_schema(responses=OwnChatSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """Your chat with two hidden models. Ask again while it is `loading` or `writing`."""
        return self.shown(self.campaign(campaign_id))

    @extend_schema(request=None, responses=OwnChatSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """Begin a chat; the one you had ends."""
        campaign = self.campaign(campaign_id)
        sessions.begin_chat(self.user, campaign, now=timezone.now(), chance=random.SystemRandom())
        return self.shown(campaign)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, campaign_id: str) -> Response:
        """Leave your chat."""
        if chat := sessions.newest_chat(self.user, self.campaign(campaign_id)):
            sessions.end_chat(chat, now=timezone.now())
        return Response(status=204)


class CampaignChatSay(ChatView):
    roles = {"POST": LABELING_ROLES}

    @extend_schema(request=ChatMessageSerializer, responses=OwnChatSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """Say something to both."""
        campaign, data = self.campaign(campaign_id), self.valid(ChatMessageSerializer)
        sessions.say(self.own_chat(campaign, data), **data, now=timezone.now())
        return self.shown(campaign)


class CampaignChatAgain(ChatView):
    roles = {"POST": LABELING_ROLES}

    @extend_schema(request=WhichChatSerializer, responses=OwnChatSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """Ask who did not answer again."""
        campaign, data = self.campaign(campaign_id), self.valid(WhichChatSerializer)
        sessions.ask_again(self.own_chat(campaign, data), now=timezone.now())
        return self.shown(campaign)


class CampaignChatVote(ChatView):
    roles = {"POST": LABELING_ROLES}

    @extend_schema(request=ChatVoteSerializer, responses=OwnChatSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """Say which conversation goes better, once a turn."""
        campaign, data = self.campaign(campaign_id), self.valid(ChatVoteSerializer)
        sessions.vote(self.own_chat(campaign, data), **data, now=timezone.now())
        return self.shown(campaign)

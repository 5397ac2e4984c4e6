"""The shapes of webhooks and deliveries in the API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from labeling.models import Delivery, Webhook
from labeling.webhooks import SITE_EVENTS


class NewWebhookSerializer(serializers.Serializer[Any]):
    url = serializers.URLField(max_length=500)
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=list(SITE_EVENTS)),
        default=list,
        help_text="None stands for all. Runs and models are for the webhooks of the site only.",
    )


class WebhookChangeSerializer(serializers.Serializer[Any]):
    is_active = serializers.BooleanField()


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    id = serializers.CharField(source="public_id")
    campaign = serializers.CharField(source="campaign.public_id", read_only=True, default=None, allow_null=True)
    events = serializers.ListField(child=serializers.CharField())
    stopped = serializers.CharField(allow_blank=True, help_text="Why nothing is sent any more.")

    class Meta:
        model = Webhook
        fields = ["id", "url", "campaign", "events", "is_active", "stopped", "created_at"]
        read_only_fields = fields


class MadeWebhookSerializer(WebhookSerializer):
    secret = serializers.CharField(help_text="What signatures are made with; shown only now.")

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]
        read_only_fields = fields


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    id = serializers.CharField(source="public_id", help_text="As in the header `webhook-id`.")
    payload = serializers.DictField(help_text="What is sent.")

    class Meta:
        model = Delivery
        fields = [
            *("id", "event", "payload", "state", "attempts", "next_at", "status", "outcome", "created_at", "done_at"),
        ]
        read_only_fields = fields

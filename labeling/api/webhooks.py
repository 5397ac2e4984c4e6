"""Webhooks over HTTP: of a campaign by its managers, of the site by admins."""

from __future__ import annotations

from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import CURSOR, ApiView, IsSiteAdmin, OldestFirst, page_of
from labeling.access import MANAGER, CampaignView, get_webhook
from labeling.api.serializers_webhooks import (
    DeliverySerializer,
    MadeWebhookSerializer,
    NewWebhookSerializer,
    WebhookChangeSerializer,
    WebhookSerializer,
)
from labeling.models import Webhook
from labeling.webhooks import (
    WebhookRefused,
    create_webhook,
    deliveries_of,
    renew_secret,
    secret_of,
    send_again,
    send_test,
    set_active,
)

REFUSALS: dict[type[Exception], int] = {WebhookRefused: 400}


def _with_secret(webhook: Webhook, secret: str) -> dict[str, Any]:
    return {**WebhookSerializer(webhook).data, "secret": secret}


class CampaignWebhooks(CampaignView):
    roles = {"GET": MANAGER, "POST": MANAGER}
    refusals = REFUSALS

    @extend_schema(operation_id="campaign_webhooks_list", parameters=[CURSOR], responses=page_of(WebhookSerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """Who is told of what happens in this campaign."""
        return self.page(self.campaign(campaign_id).webhooks.all(), WebhookSerializer, OldestFirst())

    @extend_schema(request=NewWebhookSerializer, responses={201: MadeWebhookSerializer})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Tell an address what happens in this campaign."""
        campaign = self.campaign(campaign_id)
        webhook = create_webhook(self.user, campaign=campaign, **self.valid(NewWebhookSerializer))
        return Response(_with_secret(webhook, secret_of(webhook)), status=201)


class SiteWebhooks(ApiView):
    policy = "site_admin"
    permission_classes = (IsSiteAdmin,)
    refusals = REFUSALS

    @extend_schema(operation_id="webhooks_list", parameters=[CURSOR], responses=page_of(WebhookSerializer))
    def get(self, request: Request) -> Response:
        """Who is told of what happens anywhere on the site."""
        return self.page(Webhook.objects.filter(campaign=None), WebhookSerializer, OldestFirst())

    @extend_schema(request=NewWebhookSerializer, responses={201: MadeWebhookSerializer})
    def post(self, request: Request) -> Response:
        """Tell an address what happens on the site."""
        webhook = create_webhook(self.user, **self.valid(NewWebhookSerializer))
        return Response(_with_secret(webhook, secret_of(webhook)), status=201)


class WebhookView(ApiView):
    """A webhook of a campaign one manages; any, for an admin."""

    policy: ClassVar[str] = "webhook"


class WebhookDetail(WebhookView):
    @extend_schema(responses=WebhookSerializer)
    def get(self, request: Request, webhook_id: str) -> Response:
        """One webhook."""
        return Response(WebhookSerializer(get_webhook(self.user, webhook_id)).data)

    @extend_schema(request=WebhookChangeSerializer, responses=WebhookSerializer)
    def patch(self, request: Request, webhook_id: str) -> Response:
        """Turn it off or on. What happens meanwhile is not sent later."""
        webhook = get_webhook(self.user, webhook_id)
        set_active(webhook, self.valid(WebhookChangeSerializer)["is_active"])
        return Response(WebhookSerializer(webhook).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, webhook_id: str) -> Response:
        """Remove it, with its log."""
        get_webhook(self.user, webhook_id).delete()
        return Response(status=204)


class WebhookSecret(WebhookView):
    @extend_schema(request=None, responses=MadeWebhookSerializer)
    def post(self, request: Request, webhook_id: str) -> Response:
        """Another secret; the old one signs nothing any more."""
        webhook = get_webhook(self.user, webhook_id)
        return Response(_with_secret(webhook, renew_secret(webhook)))


class WebhookTest(WebhookView):
    @extend_schema(request=None, responses={201: DeliverySerializer})
    def post(self, request: Request, webhook_id: str) -> Response:
        """Send an event that means nothing. It is tried once."""
        return Response(DeliverySerializer(send_test(get_webhook(self.user, webhook_id))).data, status=201)


class WebhookDeliveries(WebhookView):
    @extend_schema(operation_id="deliveries_list", parameters=[CURSOR], responses=page_of(DeliverySerializer))
    def get(self, request: Request, webhook_id: str) -> Response:
        """What was sent and how it went, newest first, of the last 30 days."""
        return self.page(deliveries_of(get_webhook(self.user, webhook_id)), DeliverySerializer)


class DeliveryAgain(WebhookView):
    @extend_schema(request=None, responses=DeliverySerializer)
    def post(self, request: Request, webhook_id: str, delivery_id: str) -> Response:
        """Send an event again, with the same id."""
        log = deliveries_of(get_webhook(self.user, webhook_id))
        delivery = get_object_or_404(log, public_id=delivery_id.replace("\x00", ""))
        send_again(delivery)
        return Response(DeliverySerializer(delivery).data)

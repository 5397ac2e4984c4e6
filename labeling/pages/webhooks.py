"""Pages of webhooks: of a campaign for its managers, of the site for admins."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import AuthenticatedRequest, site_admin
from accounts.models import CampaignRole
from config.outbound import OFF, is_off
from config.paging import page_of
from labeling.access import campaign_role, webhook_access
from labeling.models import Campaign, Webhook
from labeling.pages.campaigns import campaign_context
from labeling.pages.forms import WebhookForm
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


@campaign_role(CampaignRole.MANAGER)
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def campaign_webhooks(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """Who is told of what happens in the campaign."""
    return _list_page(request, campaign, campaign_context(request, campaign, "webhooks"))


@site_admin
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def site_webhooks(request: AuthenticatedRequest) -> HttpResponse:
    """Who is told of what happens anywhere."""
    return _list_page(request, None, {})


def _list_page(request: AuthenticatedRequest, campaign: Campaign | None, context: dict[str, Any]) -> HttpResponse:
    form, secret, status = WebhookForm(request.POST or None, campaign=campaign), "", 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                webhook = create_webhook(request.user, campaign=campaign, **form.cleaned_data)
                # Rendered rather than redirected to: the secret is shown now or never.
                form, secret, status = WebhookForm(campaign=campaign), secret_of(webhook), 200
            except WebhookRefused as refusal:
                form.add_error("url", str(refusal))
    page = page_of(Webhook.objects.filter(campaign=campaign), request.GET.get("after", ""), "pk")
    context |= {"form": form, "page": page, "secret": secret, "off": OFF if is_off() else ""}
    return render(request, "labeling/webhooks.html", context, status=status)


@webhook_access
@require_safe
def webhook_detail(request: AuthenticatedRequest, webhook: Webhook) -> HttpResponse:
    """What was sent, and how it went."""
    return _detail_page(request, webhook)


def _detail_page(request: AuthenticatedRequest, webhook: Webhook, secret: str = "") -> HttpResponse:
    context = campaign_context(request, webhook.campaign, "webhooks") if webhook.campaign else {}
    context |= {
        "webhook": webhook,
        "page": page_of(deliveries_of(webhook), request.GET.get("after", ""), "-pk"),
        "secret": secret,
    }
    return render(request, "labeling/webhook.html", context)


@webhook_access
@require_POST
@never_cache
def webhook_change(request: AuthenticatedRequest, webhook: Webhook) -> HttpResponse:
    """One of: test, on, off, secret, delete."""
    action = request.POST.get("action")
    if action == "secret":
        return _detail_page(request, webhook, renew_secret(webhook))
    if action == "delete":
        webhook.delete()
        messages.success(request, _("The webhook is gone. Nothing is sent there any more."))
        return redirect("campaign_webhooks", webhook.campaign.public_id) if webhook.campaign else redirect("webhooks")
    if action == "test":
        send_test(webhook)
        messages.success(request, _("A test is on its way; its line below says how it went."))
    elif action in ("on", "off"):
        set_active(webhook, action == "on")
    return redirect("webhook", webhook.public_id)


@webhook_access
@require_POST
def delivery_again(request: AuthenticatedRequest, webhook: Webhook, delivery_id: str) -> HttpResponse:
    """Send an event again."""
    send_again(get_object_or_404(deliveries_of(webhook), public_id=delivery_id.replace("\x00", "")))
    messages.success(request, _("It is sent again."))
    return redirect("webhook", webhook.public_id)

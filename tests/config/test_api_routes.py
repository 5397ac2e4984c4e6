"""What people can do on a page, programs can do over the API; the schema describes all of it."""

from __future__ import annotations

from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator
from rest_framework.views import APIView

from accounts.models import User
from tests.accounts.routes import own_routes
from tests.conftest import client_for

# Each page, and the API's way to do the same.
SAME = {
    "campaign_list": "api_campaigns",
    "campaign_new": "api_campaigns",
    "campaign_detail": "api_campaign",
    "campaign_live": "api_campaign",
    "campaign_report": "api_campaign_report",
    "campaign_settings": "api_campaign",
    "campaign_state": "api_campaign_state",
    "campaign_delete": "api_campaign",
    "campaign_restore": "api_campaign_restore",
    "campaign_members": "api_campaign_members",
    "campaign_member_role": "api_campaign_member",
    "campaign_member_remove": "api_campaign_member",
    "campaign_invitations": "api_campaign_invitations",
    "campaign_import": "api_campaign_imports",
    "campaign_import_dataset": "api_campaign_import_dataset",
    "campaign_dataset_sample": "api_dataset_sample",
    "campaign_import_report": "api_campaign_import",
    "campaign_exports": "api_campaign_exports",
    "campaign_items": "api_campaign_items",
    "campaign_item": "api_campaign_item",
    "campaign_item_remove": "api_campaign_item",
    "label": "api_campaign_next",
    "label_next": "api_campaign_next",
    "label_undo": "api_campaign_undo",
    "label_submit": "api_lease_submit",
    "label_skip": "api_lease_skip",
    "label_heartbeat": "api_lease_heartbeat",
    "label_release": "api_lease_release",
    "chat": "api_campaign_chat",
    "chat_live": "api_campaign_chat",
    "chat_begin": "api_campaign_chat",
    "chat_end": "api_campaign_chat",
    "chat_say": "api_campaign_chat_say",
    "chat_again": "api_chat_again",
    "chat_vote": "api_chat_vote",
    "campaign_live_chat": "api_live_chat",
    "live_chat_standing": "api_live_chat",
    "label_history": "api_own_answers",
    "label_revise": "api_own_answer",
    "campaign_form": "api_campaign",
    "campaign_quality": "api_campaign_people",
    "campaign_rules": "api_campaign_rules",
    "campaign_gold": "api_campaign_golds",
    "campaign_person": "api_campaign_people",
    "campaign_person_pause": "api_campaign_pause",
    "campaign_person_resume": "api_campaign_pause",
    "campaign_item_gold": "api_item_gold",
    "campaign_review": "api_campaign_review",
    "campaign_review_verdict": "api_ranking_review",
    "campaign_leaks": "api_campaign_leaks",
    "campaign_leaks_scan": "api_campaign_leaks",
    "campaign_leak_release": "api_item_release",
    "campaign_health": "api_campaign_health",
    "campaign_pay": "api_campaign_pay",
    "campaign_log": "api_campaign_log",
    "site_log": "api_log",
    "people": "api_people",
    "person_role": "api_person",
    "person_active": "api_person",
    "person_erase": "api_person",
    "invitation_create": "api_invitations",
    "invitation_revoke": "api_invitation",
    "profile": "api_me",
    "profile_data": "api_me_data",
    "token_create": "api_tokens",
    "token_revoke": "api_token",
    "run_list": "api_runs",
    "run_list_live": "api_runs",
    "run_new": "api_runs",
    "run_detail": "api_run",
    "run_head": "api_run",
    "run_samples": "api_run_events",
    "run_live": "api_run_events",
    "run_series": "api_run_series",
    "run_stop": "api_run_stop",
    "run_resume": "api_run_resume",
    "run_campaign": "api_run_campaign",
    "model_list": "api_artifacts",
    "model_detail": "api_artifact",
    "campaign_webhooks": "api_campaign_webhooks",
    "webhooks": "api_webhooks",
    "webhook": "api_webhook_deliveries",
    "webhook_change": "api_webhook",
    "webhook_delivery_again": "api_webhook_again",
}
ONLY_A_PAGE = {
    "javascript_catalog": "words of another language, for the scripts of the pages",
    "home": "leads people to where their work is",
    "healthz": "for the machine that watches the site; it has no page either",
    "campaign_guidelines_preview": "shows Markdown while somebody writes it",
    "label_practice": "people learn on the screen that they will answer on",
    "label_ahead": "lets the screen swap at once; over the API a submit returns the next item",
    "preferences_save": "how the screen looks to a person",
    "invitation_accept": "an invitation is a link for a person in a browser",
}


def test_every_page_has_an_api_or_a_reason_to_have_none() -> None:
    routes = own_routes()
    pages = {route.name for route in routes if not route.is_api}
    apis = {route.name for route in routes if route.is_api}
    assert pages - SAME.keys() == ONLY_A_PAGE.keys()
    assert SAME.keys() <= pages
    assert set(SAME.values()) <= apis


def test_the_schema_has_every_method_of_every_route() -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    described = {
        (operation["operationId"], method) for path in schema["paths"].values() for method, operation in path.items()
    }
    there = [
        (route.name, method)
        for route in own_routes()
        if route.is_api and issubclass(route.view, APIView)
        for method in ("get", "post", "put", "patch", "delete")
        if hasattr(route.view, method)
    ]
    assert len(described) == len(there) > 40
    assert all("4XX" in operation["responses"] for path in schema["paths"].values() for operation in path.values())


def test_the_schema_is_served_to_who_is_signed_in(researcher: User) -> None:
    assert get_resolver().reverse("schema") == "api/schema/"
    assert client_for(researcher).get("/api/schema/").status_code == 200

"""Errors are pages of the site, with one sentence about what to do, and need nothing that may be broken."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from accounts.models import User
from config.urls import urlpatterns as site_urls
from tests.conftest import client_for


def denied(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied("Only the owner can do this.")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a secret detail")


urlpatterns = [*site_urls, path("test/denied", denied), path("test/broken", broken)]


@pytest.fixture(autouse=True)
def _with_broken_views(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


def test_nothing_found(annotator: User) -> None:
    answer = client_for(annotator).get("/no/such/page")
    assert answer.status_code == 404
    assert "There is nothing here for you" in answer.content.decode()
    assert "no/such" not in answer.content.decode()


def test_denied_says_why(annotator: User) -> None:
    answer = client_for(annotator).get("/test/denied")
    assert answer.status_code == 403
    assert "Only the owner can do this." in answer.content.decode()


def test_an_old_page_says_to_reload(annotator: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(annotator)
    answer = client.post("/profile/tokens", {"name": "x"})
    assert answer.status_code == 403
    assert "too old to send" in answer.content.decode()


def test_a_bug_shows_no_detail_and_asks_no_database() -> None:
    answer = Client(raise_request_exception=False).get("/test/broken")  # no database in this test
    assert answer.status_code == 500
    assert "Something broke on our side" in answer.content.decode()
    assert "secret" not in answer.content.decode()

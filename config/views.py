"""Pages that belong to no app: the way in and the health check."""

from __future__ import annotations

import psycopg
from django import get_version
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django.views.defaults import page_not_found

from accounts.access import AuthenticatedRequest, public, signed_in
from accounts.models import SiteRole
from config import push


@signed_in
@require_safe
def home(request: AuthenticatedRequest) -> HttpResponse:
    """Researchers start at their runs, everybody else at the campaigns."""
    return redirect("run_list" if request.user.role == SiteRole.RESEARCHER else "campaign_list")


@public
@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """For load balancers: 200 with the versions when the database answers, else 503."""
    versions = {"prefloop": settings.VERSION, "django": get_version()}
    try:
        # A connection of its own: that kept ones still work does not say that new ones can be had.
        with psycopg.connect(**push.connection_parameters()) as connection:
            versions["postgresql"] = str(connection.info.server_version // 10000)
            connection.execute("SELECT 1")
    except psycopg.Error:
        return JsonResponse({"status": "database unreachable", "versions": versions}, status=503)
    return JsonResponse({"status": "ok", "versions": versions})


@public
def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """What does not exist: a page for people, a sentence for programs."""
    if request.path.startswith("/api/"):
        return JsonResponse({"detail": "Not found."}, status=404)
    return page_not_found(request, exception)

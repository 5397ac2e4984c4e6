"""How often one sign-in (or token, or address without either) may ask for a change.

Far more than people need; it stops a script that runs wild before others wait for it. Each web process counts by itself
and in memory, because counting in the database would cost what the limit shall save. Signing in has limits of its own
(`ACCOUNT_RATE_LIMITS`), which all processes count together.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

WINDOW = 60  # seconds
IMPORTS = {
    *("campaign_import", "api_campaign_imports", "api_campaign_import_preview", "campaign_import_dataset"),
    *("api_campaign_import_dataset", "campaign_dataset_sample", "api_dataset_samples"),
}
MOST_IMPORTS = 60
CHANGES_NOTHING = ("GET", "HEAD", "OPTIONS", "TRACE")


class Counts:
    """Requests by key, in this minute."""

    def __init__(self) -> None:
        self._lock, self._window, self._counts = threading.Lock(), 0, Counter[Any]()

    def allow(self, key: Any, most: int, now: float) -> bool:
        with self._lock:
            window = int(now // WINDOW)
            if window != self._window:
                self._window, self._counts = window, Counter()
            self._counts[key] += 1
            return self._counts[key] <= most


class LimitMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response, self._counts = get_response, Counts()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        """Refuse with 429 what comes too often."""
        if request.method in CHANGES_NOTHING or not settings.RATE_LIMIT:
            return None
        who, now = _who(request), time.time()
        name = request.resolver_match.url_name if request.resolver_match else ""
        allowed = self._counts.allow(who, settings.RATE_LIMIT, now)
        if name in IMPORTS:
            allowed = self._counts.allow((who, "imports"), min(MOST_IMPORTS, settings.RATE_LIMIT), now) and allowed
        return None if allowed else _refusal(request, WINDOW - int(now % WINDOW))


def _who(request: HttpRequest) -> str:
    session = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    return request.headers.get("Authorization") or session or request.META.get("REMOTE_ADDR", "")


def _refusal(request: HttpRequest, seconds: int) -> HttpResponse:
    if request.path.startswith("/api/"):
        sentence = f"Too many requests. Try again in {seconds} seconds."
        response: HttpResponse = JsonResponse({"detail": sentence}, status=429)
    else:
        response = render(request, "429.html", status=429)
    response["Retry-After"] = str(seconds)
    return response

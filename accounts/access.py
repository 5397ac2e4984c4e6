"""Who may open what: every view carries exactly one policy, and a test walks all routes for a missing one.

A person who may not know of a thing gets 404, never 403: the answer does not tell that it exists.
Campaign policies live in `labeling.access`, run policies in `training.access`; all mark the view with `policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase

from accounts.models import User

View = Callable[..., HttpResponseBase]


class AuthenticatedRequest(HttpRequest):
    """A request behind one of the sign-in policies."""

    user: User
    htmx: Any


def mark(view: View, policy: str) -> View:
    view.policy = policy  # type: ignore[attr-defined]
    return view


def public(view: View) -> View:
    """Open to everybody, signed in or not."""
    return mark(view, "public")


def signed_in(view: View) -> View:
    """Any active user."""
    return mark(login_required(view), "signed_in")


def requires(test: Callable[[User], bool], policy: str) -> Callable[[View], View]:
    """Signed in and `test(user)`; 404 otherwise."""

    def decorator(view: View) -> View:
        @wraps(view)
        def wrapper(request: AuthenticatedRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not test(request.user):
                raise Http404
            return view(request, *args, **kwargs)

        return mark(login_required(wrapper), policy)

    return decorator


researcher = requires(lambda user: user.is_researcher, "researcher")
site_admin = requires(lambda user: user.is_site_admin, "site_admin")

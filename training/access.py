"""The only door to runs and models on behalf of a person. Who may not see one gets 404, as if it did not exist.

Seeing and steering differ: reviewers and managers of a campaign see its runs, the owner and admins steer them.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.access import AuthenticatedRequest, View, mark
from accounts.models import CampaignRole, User
from accounts.tokens import WithinScope
from labeling.models import Campaign
from training.models import ModelArtifact, TrainingRun

CAMPAIGN_ROLES = (CampaignRole.MANAGER, CampaignRole.REVIEWER)
"""Roles in a campaign that let a researcher train on it."""


NUL = "\x00"  # PostgreSQL refuses it in a text with an error; an id never has one


def get_run(user: User, public_id: str) -> TrainingRun:
    """Raises Http404."""
    runs = TrainingRun.objects.visible_to(user).select_related(
        "owner", "campaign", "snapshot", "base", "reward", "artifact", "made_campaign"
    )
    run = None if NUL in public_id else runs.filter(public_id=public_id).first()
    if run is None:
        raise Http404
    return run


def get_artifact(user: User, public_id: str) -> ModelArtifact:
    """Raises Http404."""
    artifacts = ModelArtifact.objects.visible_to(user).select_related("parent", "reward", "run", "snapshot__campaign")
    artifact = None if NUL in public_id else artifacts.filter(public_id=public_id).first()
    if artifact is None:
        raise Http404
    return artifact


def campaigns_to_train_on(user: User) -> Any:
    """Campaigns whose rankings and prompts this person may use."""
    if not user.is_researcher:
        return Campaign.objects.none()
    return Campaign.objects.with_role(user, *CAMPAIGN_ROLES)


def may_steer(user: User, run: TrainingRun) -> bool:
    return user.is_site_admin or (user.is_researcher and run.owner_id == user.pk)


def get_steered_run(user: User, public_id: str) -> TrainingRun:
    """A run this person may stop, resume and build on. Raises Http404, or PermissionDenied if they may only look."""
    run = get_run(user, public_id)
    if not may_steer(user, run):
        raise PermissionDenied(_("Only the owner of a run and admins can do this."))
    return run


def run_access(view: View) -> View:
    """Policy of a page with a `run_id` in its route; the view gets the run instead."""

    @wraps(view)
    def wrapper(request: AuthenticatedRequest, run_id: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(request, get_run(request.user, run_id), *args, **kwargs)

    return mark(login_required(wrapper), "run")


def run_steering(view: View) -> View:
    """The same for what changes the run."""

    @wraps(view)
    def wrapper(request: AuthenticatedRequest, run_id: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(request, get_steered_run(request.user, run_id), *args, **kwargs)

    return mark(login_required(wrapper), "run:steer")


def artifact_access(view: View) -> View:
    """Policy of a page with a `model_id` in its route; the view gets the artifact instead."""

    @wraps(view)
    def wrapper(request: AuthenticatedRequest, model_id: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(request, get_artifact(request.user, model_id), *args, **kwargs)

    return mark(login_required(wrapper), "artifact")


class IsResearcher(WithinScope):
    """Signed in (401 otherwise) and a researcher (404 otherwise: who is none need not know what is here)."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        assert isinstance(request.user, User)
        if not request.user.is_researcher:
            raise Http404
        return True

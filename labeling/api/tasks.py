"""Work over HTTP: take an item, answer it, skip it, give it back, take the last answer back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Scope, User
from labeling.access import LABELING_ROLES, get_lease
from labeling.api import serializers
from labeling.api.campaigns import CampaignView, LabelingView
from labeling.models import Campaign, LapsedLease, Slot
from labeling.protocols.basics import tiers_of_labels
from labeling.protocols.questionnaire import Form, labels_to_indices
from labeling.queue.annotation import submit_and_claim, submit_ranking, undo_last
from labeling.queue.assignment import Task, claim_next, heartbeat, release, skip
from labeling.queue.progress import progress, why_empty

SHOWN = ("lease", "expires_at", "item", "protocol", "form_version", "messages", "comment")


class LeaseView(LabelingView):
    """A view of one lease of the person who calls."""

    policy: ClassVar[str] = "lease"
    scope = Scope.LABEL

    def lease(self, lease: UUID) -> Slot | LapsedLease:
        return get_lease(self.user, lease)


def _next(user: User, campaign: Campaign, task: Task | None) -> dict[str, Any]:
    """A task as the contract has it. `why` is there when there is none."""
    why = {} if task else {"why": why_empty(user, campaign, now=timezone.now())}
    counts = progress(user, campaign)
    seen = {"done": counts.shown, "total": counts.total, "mine": counts.mine}  # not which items are checks
    return {"task": _shown(task) if task else None, "progress": seen, **why}


def _shown(task: Task) -> dict[str, Any]:
    """As `TaskSerializer` describes it, which would take longer than the database does."""
    shown = {name: getattr(task, name) for name in SHOWN}
    completions = [{"label": one.label, "messages": one.messages} for one in task.completions]
    return shown | {"form": _document(task.form), "completions": completions}


@lru_cache(maxsize=256)
def _document(form: Form) -> dict[str, Any]:
    """Made once: it goes with every task."""
    return form.document()


class CampaignNext(CampaignView):
    roles = {"POST": LABELING_ROLES}
    scope = Scope.LABEL

    @extend_schema(request=None, responses=serializers.NextSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """The item you hold, or the next one."""
        user, campaign = self.user, self.campaign(campaign_id)
        return Response(_next(user, campaign, claim_next(user, campaign, now=timezone.now())))


class CampaignUndo(CampaignView):
    roles = {"POST": LABELING_ROLES}
    scope = Scope.LABEL

    @extend_schema(request=None, responses=serializers.NextSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """Take your last answer back and get its item again."""
        user, campaign = self.user, self.campaign(campaign_id)
        return Response(_next(user, campaign, undo_last(user, campaign, now=timezone.now())))


class LeaseSubmit(LeaseView):
    @extend_schema(request=serializers.SubmitSerializer, responses=serializers.SubmittedSerializer)
    def post(self, request: Request, lease: UUID) -> Response:
        """Give your ranking. The same lease with the same answer again gives the same ranking."""
        user, held = self.user, self.lease(lease)
        answer = self.valid(serializers.SubmitSerializer)
        wants_next, now = answer.pop("next"), timezone.now()
        answer["tiers"] = tiers_of_labels(answer["tiers"], held.shown_order)
        answer["details"] = labels_to_indices(answer["details"], held.shown_order)
        if not wants_next:
            ranking = submit_ranking(user, held, now=now, **answer)
            return Response({"ranking": ranking.public_id, "late": ranking.late})
        ranking, task = submit_and_claim(user, held, now=now, **answer)
        return Response({"ranking": ranking.public_id, "late": ranking.late, **_next(user, held.campaign, task)})


class LeaseHeartbeat(LeaseView):
    @extend_schema(request=None, responses=serializers.HeartbeatSerializer)
    def post(self, request: Request, lease: UUID) -> Response:
        """Say that the item is still being looked at."""
        expires_at = heartbeat(self.user, self.lease(lease), now=timezone.now())
        return Response(serializers.HeartbeatSerializer({"expires_at": expires_at}).data)


class LeaseRelease(LeaseView):
    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, lease: UUID) -> Response:
        """Give the item back unanswered. You may get it again."""
        release(self.user, self.lease(lease))
        return Response(status=204)


class LeaseSkip(LeaseView):
    @extend_schema(
        request=serializers.SkipSerializer,
        responses={200: serializers.NextSerializer, 204: None},
    )
    def post(self, request: Request, lease: UUID) -> Response:
        """Pass the item by: you do not get it again, others do."""
        user, held = self.user, self.lease(lease)
        data = self.valid(serializers.SkipSerializer)
        skip(user, held, reason=data["reason"], note=data["note"])
        if not data["next"]:
            return Response(status=204)
        return Response(_next(user, held.campaign, claim_next(user, held.campaign, now=timezone.now())))

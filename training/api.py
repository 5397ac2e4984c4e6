"""Runs and models over HTTP. Every refusal is `{"detail": sentence}`; what one may not see is 404."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from labeling.access import get_campaign
from labeling.api import ApiView, Refusal
from training.access import CAMPAIGN_ROLES, IsResearcher, get_artifact, get_run, get_steered_run
from training.comparisons import NoCampaign, make_campaign
from training.events import MOST, events_after
from training.models import ModelArtifact, TrainingRun
from training.registering import NotAModel, register_model
from training.runs import Inputs, RunNotPossible, create_run, resume_run, stop_run
from training.selection import HELD_OUT, PromptOptions
from training.serializers import (
    ArtifactPageSerializer,
    ArtifactSerializer,
    EventPageSerializer,
    MadeCampaignSerializer,
    NewArtifactSerializer,
    NewCampaignSerializer,
    NewRunSerializer,
    RunPageSerializer,
    RunSerializer,
)
from training.snapshots import BadSelection, SnapshotFilters

RUN_LINKS = ("owner", "campaign", "snapshot", "base", "reward", "artifact", "made_campaign")
BAD_REQUEST = (RunNotPossible, NotAModel, BadSelection)
CONFLICT = (NoCampaign,)
CURSOR = OpenApiParameter("cursor", str, description="From `next` or `previous` of another page.")


class NewestFirst(CursorPagination):
    ordering = "-id"
    page_size = 50


class ResearchView(ApiView):
    """For researchers only; everybody else finds nothing here."""

    policy: ClassVar[str] = "researcher"
    permission_classes = (IsResearcher,)

    @property
    def user(self) -> User:
        assert isinstance(self.request.user, User)  # IsResearcher has checked
        return self.request.user

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, BAD_REQUEST):
            exc = Refusal(exc, status.HTTP_400_BAD_REQUEST)
        elif isinstance(exc, CONFLICT):
            exc = Refusal(exc, status.HTTP_409_CONFLICT)
        return super().handle_exception(exc)

    def valid(self, serializer: Any) -> dict[str, Any]:
        checked = serializer(data=self.request.data)
        checked.is_valid(raise_exception=True)
        values: dict[str, Any] = checked.validated_data
        return values

    def page(self, rows: Any, serializer: Any) -> Response:
        paginator = NewestFirst()
        found: Any = paginator.paginate_queryset(rows, self.request)
        return paginator.get_paginated_response(serializer(found, many=True).data)


class Runs(ResearchView):
    @extend_schema(operation_id="runs_list", parameters=[CURSOR], responses=RunPageSerializer)
    def get(self, request: Request) -> Response:
        """The runs one may see, newest first."""
        return self.page(TrainingRun.objects.visible_to(self.user).select_related(*RUN_LINKS), RunSerializer)

    @extend_schema(request=NewRunSerializer, responses={201: RunSerializer})
    def post(self, request: Request) -> Response:
        """Start a run. Its data are frozen before the answer comes."""
        values = self.valid(NewRunSerializer)
        settings = dict(values["settings"])
        inputs = _inputs(self.user, values, settings)
        run = create_run(self.user, kind=values["kind"], inputs=inputs, name=values["name"], settings=settings)
        return Response(RunSerializer(run).data, status=status.HTTP_201_CREATED)


class Run(ResearchView):
    policy = "run"

    @extend_schema(responses=RunSerializer)
    def get(self, request: Request, run_id: str) -> Response:
        """One run with its state and progress."""
        return Response(RunSerializer(get_run(self.user, run_id)).data)


class RunEvents(ResearchView):
    policy = "run"

    @extend_schema(parameters=[OpenApiParameter("after", int)], responses=EventPageSerializer)
    def get(self, request: Request, run_id: str) -> Response:
        """Events after a sequence number, at most a thousand; `more` says whether to ask again."""
        run = get_run(self.user, run_id)
        after = sequence_number(request.query_params.get("after", "0"))
        events = events_after(run, after)
        last = events[-1]["seq"] if events else after
        return Response({"results": events, "last": last, "more": len(events) == MOST})


class RunSteering(ResearchView):
    policy = "run:steer"

    def refused(self, sentence: str) -> Response:
        return Response({"detail": sentence}, status=status.HTTP_409_CONFLICT)


class RunStop(RunSteering):
    @extend_schema(request=None, responses=RunSerializer)
    def post(self, request: Request, run_id: str) -> Response:
        """Finish the step, save, stop. 409 when the run is over."""
        run = get_steered_run(self.user, run_id)
        if not stop_run(run):
            return self.refused(f"The run is {run.get_state_display().lower()}; there is nothing to stop.")
        return Response(RunSerializer(get_run(self.user, run_id)).data)


class RunResume(RunSteering):
    @extend_schema(request=None, responses=RunSerializer)
    def post(self, request: Request, run_id: str) -> Response:
        """Go on from the newest checkpoint. 409 unless the run is stopped or failed."""
        run = get_steered_run(self.user, run_id)
        if not resume_run(run):
            return self.refused(f"The run is {run.get_state_display().lower()}; only stopped and failed runs resume.")
        return Response(RunSerializer(get_run(self.user, run_id)).data)


class RunCampaign(RunSteering):
    @extend_schema(request=NewCampaignSerializer, responses={201: MadeCampaignSerializer})
    def post(self, request: Request, run_id: str) -> Response:
        """A draft campaign of what a finished sampling run drew. 409 when there is none to make."""
        run = get_steered_run(self.user, run_id)
        campaign = make_campaign(run, self.user, **self.valid(NewCampaignSerializer))
        return Response(MadeCampaignSerializer(campaign).data, status=status.HTTP_201_CREATED)


class Artifacts(ResearchView):
    @extend_schema(operation_id="artifacts_list", parameters=[CURSOR], responses=ArtifactPageSerializer)
    def get(self, request: Request) -> Response:
        """The models one may use, newest first."""
        rows = ModelArtifact.objects.visible_to(self.user).select_related("parent", "reward", "run", "snapshot")
        return self.page(rows, ArtifactSerializer)

    @extend_schema(request=NewArtifactSerializer, responses={201: ArtifactSerializer})
    def post(self, request: Request) -> Response:
        """Register a base model by hub name or local path."""
        values = self.valid(NewArtifactSerializer)
        artifact = register_model(self.user, name=values["name"], path=values["path"])
        return Response(ArtifactSerializer(artifact).data, status=status.HTTP_201_CREATED)


class Artifact(ResearchView):
    policy = "artifact"

    @extend_schema(responses=ArtifactSerializer)
    def get(self, request: Request, model_id: str) -> Response:
        """One model and where it comes from."""
        return Response(ArtifactSerializer(get_artifact(self.user, model_id)).data)


def _inputs(user: User, values: dict[str, Any], settings: dict[str, Any]) -> Inputs:
    """Look everything up on behalf of the user. `versus` may be the id of a model; it then leaves the settings."""
    versus = None
    if settings.get("versus", "") not in ("", "base"):
        versus = get_artifact(user, str(settings.pop("versus")))
    data = values.get("data") or {}
    held_out = HELD_OUT if values["kind"] == TrainingRun.Kind.PPO else 0.0
    return Inputs(
        campaign=get_campaign(user, values["campaign"], *CAMPAIGN_ROLES),
        base=get_artifact(user, values["base"]) if "base" in values else None,
        reward=get_artifact(user, values["reward"]) if "reward" in values else None,
        more_rewards=tuple(get_artifact(user, given) for given in values.get("more_rewards", ())),
        versus=versus,
        filters=SnapshotFilters(
            origin=data.get("origin", ""),
            labelers=tuple(data.get("labelers", ())),
            without=tuple(data.get("without", ())),
            weigh=data.get("weigh", False),
        ),
        prompts=PromptOptions(limit=data.get("limit", 0), eval_fraction=data.get("eval_fraction", held_out)),
    )


def sequence_number(text: str) -> int:
    """Raises ValidationError."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValidationError({"detail": "after must be the number of an event."})
    return int(text)

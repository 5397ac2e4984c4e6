"""Runs and models over HTTP. Every refusal is `{"detail": sentence}`; what one may not see is 404."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from config.api import CURSOR, ApiView, page_of
from labeling.access import get_campaign
from training.access import CAMPAIGN_ROLES, NUL, IsResearcher, get_artifact, get_run, get_steered_run
from training.charts import series
from training.comparisons import NoCampaign, make_campaign
from training.evaluation import evaluation_of
from training.events import MOST, events_after
from training.lineage import lineage
from training.models import ModelArtifact, TrainingRun
from training.registering import NotAModel, register_model
from training.runs import Inputs, RunNotPossible, create_run, resume_run, stop_run
from training.selection import HELD_OUT, PromptOptions
from training.serializers import (
    ArtifactSerializer,
    EventPageSerializer,
    MadeCampaignSerializer,
    NewArtifactSerializer,
    NewCampaignSerializer,
    NewRunSerializer,
    RunSerializer,
    SeriesSerializer,
)
from training.snapshots import BadSelection, SnapshotFilters

RUN_LINKS = ("owner", "campaign", "snapshot", "base", "reward", "artifact", "made_campaign")


class ResearchView(ApiView):
    """For researchers only; everybody else finds nothing here."""

    policy: ClassVar[str] = "researcher"
    permission_classes = (IsResearcher,)
    refusals = {RunNotPossible: 400, NotAModel: 400, BadSelection: 400, NoCampaign: 409}


class Runs(ResearchView):
    @extend_schema(
        operation_id="runs_list",
        parameters=[CURSOR, OpenApiParameter("campaign", str, description="Only runs on this campaign.")],
        responses=page_of(RunSerializer),
    )
    def get(self, request: Request) -> Response:
        """The runs one may see, newest first."""
        runs = TrainingRun.objects.visible_to(self.user).select_related(*RUN_LINKS)
        if wanted := request.query_params.get("campaign"):
            runs = runs.filter(campaign__public_id=wanted.replace(NUL, ""))
        return self.page(runs, RunSerializer)

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


class RunSeries(ResearchView):
    policy = "run"

    @extend_schema(responses=SeriesSerializer)
    def get(self, request: Request, run_id: str) -> Response:
        """The points of every metric so far, thinned: what the charts of its page draw."""
        return Response(series(get_run(self.user, run_id)))


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
    @extend_schema(operation_id="artifacts_list", parameters=[CURSOR], responses=page_of(ArtifactSerializer))
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


class ArtifactEvaluation(ResearchView):
    policy = "artifact"

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, model_id: str) -> Response:
        """What a reward run found out about its model on held-out comparisons; `{}` for other models."""
        return Response(evaluation_of(get_artifact(self.user, model_id)))


class ArtifactLineage(ResearchView):
    policy = "artifact"

    @extend_schema(responses=ArtifactSerializer(many=True))
    def get(self, request: Request, model_id: str) -> Response:
        """The model and what it stands on that you may see, nearest first."""
        steps = [step.model for step in lineage(get_artifact(self.user, model_id))]
        seen = set(ModelArtifact.objects.visible_to(self.user).filter(pk__in=[m.pk for m in steps]).values_list("pk"))
        return Response(ArtifactSerializer([m for m in steps if (m.pk,) in seen], many=True).data)


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

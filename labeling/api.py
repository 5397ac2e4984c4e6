"""The JSON API of campaigns and of the work in them; the contract is the OpenAPI schema.

Every view says which roles may call it (`roles`, per method) and gets its campaign or lease through the doors in
`labeling.access`: what a person may not know of is 404. Refusals have one shape, `{"detail": sentence}`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any, ClassVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import CampaignRole, User
from labeling import campaigns, parquet, serializers
from labeling.access import ANY_ROLE, LABELING_ROLES, REPORT_ROLES, get_campaign, get_lease
from labeling.annotation import CannotUndo, submit_and_claim, submit_ranking, undo_last
from labeling.assignment import LeaseLost, Task, claim_next, heartbeat, progress, release, skip, why_empty
from labeling.exporting import CONTAINERS, EXPORTS, export_lines
from labeling.formats.registry import FORMATS
from labeling.importing import ImportFailed, import_file
from labeling.models import Campaign, LapsedLease, Slot
from labeling.protocols import InvalidRanking, tiers_of_labels
from labeling.reports import campaign_report
from labeling.uploads import is_large, store_upload

Roles = tuple[CampaignRole, ...]
MANAGER: Roles = (CampaignRole.MANAGER,)
BAD_REQUEST = (InvalidRanking,)
CONFLICT = (LeaseLost, CannotUndo, ImportFailed, campaigns.CampaignChangeRefused)
STREAMED = 200  # lines per hop between the event loop and the thread that reads


class Refusal(APIException):
    def __init__(self, error: Exception, code: int) -> None:
        super().__init__(str(error))
        self.status_code = code


class ApiView(APIView):
    """Maps the refusals of the topic modules to responses."""

    policy: ClassVar[str]

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, BAD_REQUEST):
            exc = Refusal(exc, status.HTTP_400_BAD_REQUEST)
        elif isinstance(exc, CONFLICT):
            exc = Refusal(exc, status.HTTP_409_CONFLICT)
        elif isinstance(exc, ValidationError):
            exc = ValidationError({"detail": _sentence(exc.detail)})
        return super().handle_exception(exc)


def _sentence(detail: Any, where: str = "") -> str:
    """The first problem of a refused request, with the field that has it."""
    if isinstance(detail, dict):
        name, inner = next(iter(detail.items()))
        return _sentence(inner, f"{where}{name}: ")
    if isinstance(detail, list):
        return _sentence(next(inner for inner in detail if inner), where)
    return f"{where}{detail}"


class CampaignView(ApiView):
    """A view of one campaign, for people with one of `roles` for the method."""

    policy = "campaign"
    roles: ClassVar[dict[str, Roles]]

    def campaign(self, campaign_id: str) -> Campaign:
        return get_campaign(_user(self.request), campaign_id, *self.roles[self.request.method or ""])


class LeaseView(ApiView):
    """A view of one lease of the person who calls."""

    policy = "lease"

    def lease(self, lease: UUID) -> Slot | LapsedLease:
        return get_lease(_user(self.request), lease)


def _user(request: Request) -> User:
    user = request.user
    if not isinstance(user, User):
        raise Http404
    return user


def _checked(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    data: dict[str, Any] = serializer.validated_data
    return data


def _next(user: User, campaign: Campaign, task: Task | None) -> dict[str, Any]:
    """A task as the contract has it. `why` is there when there is none."""
    why = {} if task else {"why": why_empty(user, campaign, now=timezone.now())}
    return serializers.NextSerializer({"task": task, "progress": progress(user, campaign)} | why).data


class CampaignList(ApiView):
    policy = "signed_in"

    @extend_schema(operation_id="campaigns_list", responses=serializers.CampaignSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The campaigns you are a member of."""
        visible = Campaign.objects.visible_to(_user(request))
        return Response(serializers.CampaignSerializer(visible, many=True).data)

    @extend_schema(request=serializers.CampaignSerializer, responses={201: serializers.CampaignSerializer})
    def post(self, request: Request) -> Response:
        """Create a draft (researchers and admins)."""
        if not (user := _user(request)).is_researcher:
            raise Http404
        data = _checked(serializers.CampaignSerializer(data=request.data))
        return Response(serializers.CampaignSerializer(campaigns.create_campaign(user, **data)).data, status=201)


class CampaignDetail(CampaignView):
    roles = {"GET": ANY_ROLE, "PATCH": MANAGER}

    @extend_schema(responses=serializers.CampaignDetailSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """One campaign with its progress."""
        return self._response(self.campaign(campaign_id))

    @extend_schema(request=serializers.CampaignSerializer, responses=serializers.CampaignDetailSerializer)
    def patch(self, request: Request, campaign_id: str) -> Response:
        """Change name, guidelines, overlap, or (before the first import) the protocol."""
        campaign = self.campaign(campaign_id)
        data = _checked(serializers.CampaignSerializer(data=request.data, partial=True))
        return self._response(campaigns.update_campaign(campaign, **data))

    def _response(self, campaign: Campaign) -> Response:
        shown = serializers.CampaignSerializer(campaign).data
        numbers = serializers.ProgressSerializer(progress(_user(self.request), campaign)).data
        return Response({**shown, "progress": numbers})


class CampaignState(CampaignView):
    roles = {"POST": MANAGER}

    @extend_schema(request=serializers.StateSerializer, responses=serializers.CampaignSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """Open, pause or close."""
        campaign = self.campaign(campaign_id)
        data = _checked(serializers.StateSerializer(data=request.data))
        return Response(serializers.CampaignSerializer(campaigns.change_state(campaign, data["state"])).data)


class CampaignMembers(CampaignView):
    roles = {"GET": MANAGER, "POST": MANAGER}

    @extend_schema(responses=serializers.MemberSerializer(many=True))
    def get(self, request: Request, campaign_id: str) -> Response:
        """Who works in the campaign."""
        members = self.campaign(campaign_id).memberships.select_related("user").order_by("user__username")
        return Response(serializers.MemberSerializer(members, many=True).data)

    @extend_schema(request=serializers.MemberSerializer, responses={201: serializers.MemberSerializer})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Add somebody who has an account, or change their role."""
        campaign = self.campaign(campaign_id)
        data = _checked(serializers.MemberSerializer(data=request.data))
        person = User.objects.filter(username=data["user"]["username"], is_active=True).first()
        if person is None:
            raise ValidationError({"username": "There is no such person."})
        member = campaigns.set_member(campaign, person, data["role"])
        return Response(serializers.MemberSerializer(member).data, status=201)


class CampaignImports(CampaignView):
    roles = {"POST": MANAGER}
    parser_classes = [MultiPartParser]

    @extend_schema(
        request={"multipart/form-data": serializers.UploadSerializer},
        responses={201: serializers.ImportSerializer, 202: serializers.ImportSerializer},
    )
    def post(self, request: Request, campaign_id: str) -> Response:
        """Bring in a file. Good lines are kept whatever the others are. A large file is imported later (202)."""
        campaign = self.campaign(campaign_id)
        data = _checked(serializers.UploadSerializer(data=request.data))
        file = data["file"]
        chosen = FORMATS.get(data.get("form", ""))
        name = data.get("name") or file.name
        bring, code = (store_upload, 202) if is_large(file, file.size) else (import_file, 201)
        record = bring(campaign, file, name=name, user=_user(request), chosen=chosen)
        return Response(serializers.ImportSerializer(record).data, status=code)


class CampaignImport(CampaignView):
    roles = {"GET": MANAGER}

    @extend_schema(responses=serializers.ImportSerializer)
    def get(self, request: Request, campaign_id: str, import_id: int) -> Response:
        """How far an import is. It is over when `finished_at` or `failure` is there."""
        record = get_object_or_404(self.campaign(campaign_id).imports, pk=import_id)
        return Response(serializers.ImportSerializer(record).data)


class CampaignNext(CampaignView):
    roles = {"POST": LABELING_ROLES}

    @extend_schema(request=None, responses=serializers.NextSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """The item you hold, or the next one."""
        user, campaign = _user(request), self.campaign(campaign_id)
        return Response(_next(user, campaign, claim_next(user, campaign, now=timezone.now())))


class CampaignUndo(CampaignView):
    roles = {"POST": LABELING_ROLES}

    @extend_schema(request=None, responses={200: serializers.NextSerializer, 409: serializers.ErrorSerializer})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Take your last answer back and get its item again."""
        user, campaign = _user(request), self.campaign(campaign_id)
        return Response(_next(user, campaign, undo_last(user, campaign, now=timezone.now())))


class CampaignExport(CampaignView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(
        parameters=[
            OpenApiParameter("what", str, enum=list(EXPORTS), default="rankings"),
            OpenApiParameter("as", str, enum=list(CONTAINERS), default="jsonl"),
        ],
        responses={(200, mime): OpenApiTypes.BINARY for mime in CONTAINERS.values()},
    )
    def get(self, request: Request, campaign_id: str) -> StreamingHttpResponse:
        """Accepted answers, in the form of a tool; as JSON lines, some also as CSV or Parquet."""
        campaign = self.campaign(campaign_id)
        what = request.query_params.get("what", "rankings")
        if what not in EXPORTS:
            raise ValidationError({"what": f"Choose one of: {', '.join(EXPORTS)}."})
        container = request.query_params.get("as", "jsonl")
        if container not in EXPORTS[what].containers:
            raise ValidationError({"as": f"Choose one of: {', '.join(EXPORTS[what].containers)}."})
        if container == "parquet" and not parquet.is_installed():
            raise ValidationError({"as": parquet.MISSING})
        lines = export_lines(campaign, what, container)
        # Under ASGI Django would collect a plain iterator in memory before sending any of it.
        content = _from_thread(lines) if isinstance(request._request, ASGIRequest) else lines
        name = f"{campaign.public_id}-{what}.{container}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingHttpResponse(content, content_type=CONTAINERS[container], headers=headers)


async def _from_thread(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    def joined() -> bytes:
        return b"".join(islice(lines, STREAMED))

    while block := await sync_to_async(joined)():
        yield block


class CampaignReport(CampaignView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(responses=serializers.ReportSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """Who gave how much, how fast and how well, how far people agree, and whose completions they prefer."""
        campaign = self.campaign(campaign_id)
        report = {**vars(campaign_report(campaign)), "progress": progress(_user(request), campaign)}
        return Response(serializers.ReportSerializer(report).data)


class LeaseSubmit(LeaseView):
    @extend_schema(
        request=serializers.SubmitSerializer,
        responses={200: serializers.SubmittedSerializer, 409: serializers.ErrorSerializer},
    )
    def post(self, request: Request, lease: UUID) -> Response:
        """Give your ranking. The same lease with the same answer again gives the same ranking."""
        user, held = _user(request), self.lease(lease)
        answer = _checked(serializers.SubmitSerializer(data=request.data))
        wants_next, now = answer.pop("next"), timezone.now()
        answer["tiers"] = tiers_of_labels(answer["tiers"], held.shown_order)
        if not wants_next:
            ranking = submit_ranking(user, held, now=now, **answer)
            return Response({"ranking": ranking.public_id, "late": ranking.late})
        ranking, task = submit_and_claim(user, held, now=now, **answer)
        return Response({"ranking": ranking.public_id, "late": ranking.late, **_next(user, held.campaign, task)})


class LeaseHeartbeat(LeaseView):
    @extend_schema(request=None, responses={200: serializers.HeartbeatSerializer, 409: serializers.ErrorSerializer})
    def post(self, request: Request, lease: UUID) -> Response:
        """Say that the item is still being looked at."""
        expires_at = heartbeat(_user(request), self.lease(lease), now=timezone.now())
        return Response(serializers.HeartbeatSerializer({"expires_at": expires_at}).data)


class LeaseRelease(LeaseView):
    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, lease: UUID) -> Response:
        """Give the item back unanswered. You may get it again."""
        release(_user(request), self.lease(lease))
        return Response(status=204)


class LeaseSkip(LeaseView):
    @extend_schema(
        request=serializers.SkipSerializer,
        responses={200: serializers.NextSerializer, 204: None, 409: serializers.ErrorSerializer},
    )
    def post(self, request: Request, lease: UUID) -> Response:
        """Pass the item by: you do not get it again, others do."""
        user, held = _user(request), self.lease(lease)
        data = _checked(serializers.SkipSerializer(data=request.data))
        skip(user, held, reason=data["reason"], note=data["note"])
        if not data["next"]:
            return Response(status=204)
        return Response(_next(user, held.campaign, claim_next(user, held.campaign, now=timezone.now())))

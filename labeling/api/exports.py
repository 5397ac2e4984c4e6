"""Answers out, over HTTP: streamed at once, or as a file that a worker makes."""

from __future__ import annotations

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import CURSOR, page_of
from labeling import audit
from labeling.access import REPORT_ROLES
from labeling.api.campaigns import CampaignView
from labeling.api.downloads import download
from labeling.data.export_files import is_there, order_export, read_blocks
from labeling.data.exporting import CONTAINERS, EXPORTS, NoSuchExport, check_export, export_lines
from labeling.models import ExportFile


class FileNotThere(Exception):
    """It is not finished, or gone already; the message says which."""


class ExportFileSerializer(serializers.ModelSerializer[ExportFile]):
    class Meta:
        model = ExportFile
        fields = ["id", "what", "container", "answers", "position", "size", "failure", "created_at", "finished_at"]
        read_only_fields = fields


class NewExportSerializer(serializers.Serializer[ExportFile]):
    what = serializers.ChoiceField(choices=list(EXPORTS), default="rankings")
    container = serializers.ChoiceField(choices=list(CONTAINERS), default="jsonl")


class ExportView(CampaignView):
    refusals = CampaignView.refusals | {NoSuchExport: 400, FileNotThere: 409}


class CampaignExport(ExportView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(
        parameters=[
            OpenApiParameter("what", str, enum=list(EXPORTS), default="rankings"),
            OpenApiParameter("as", str, enum=list(CONTAINERS), default="jsonl"),
        ],
        responses={(200, mime): OpenApiTypes.BINARY for mime in CONTAINERS.values()},
    )
    def get(self, request: Request, campaign_id: str) -> StreamingHttpResponse:
        """Accepted answers, in the form of a tool; as JSON lines, some also as CSV or Parquet.

        For very many, ask for a file below `exports`: its download can be begun again.
        """
        campaign = self.campaign(campaign_id)
        what, container = request.query_params.get("what", "rankings"), request.query_params.get("as", "jsonl")
        check_export(what, container)
        audit.record(self.user, "items.export", what, campaign=campaign, container=container)
        lines = export_lines(campaign, what, container)
        return download(request, lines, f"{campaign.public_id}-{what}.{container}", CONTAINERS[container])


class CampaignExports(ExportView):
    roles = {"GET": REPORT_ROLES, "POST": REPORT_ROLES}

    @extend_schema(operation_id="exports_list", parameters=[CURSOR], responses=page_of(ExportFileSerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """The files that were asked for, newest first. They are kept for a week, or until a newer one is there."""
        return self.page(self.campaign(campaign_id).export_files.all(), ExportFileSerializer)

    @extend_schema(request=NewExportSerializer, responses={202: ExportFileSerializer})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Ask a worker for a file. What was asked for and is not there yet is not made twice."""
        campaign, kind = self.campaign(campaign_id), self.valid(NewExportSerializer)
        return Response(ExportFileSerializer(order_export(campaign, **kind, user=self.user)).data, status=202)


class CampaignExportFile(ExportView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(responses=ExportFileSerializer)
    def get(self, request: Request, campaign_id: str, export_id: int) -> Response:
        """How far a file is. It is over when `finished_at` or `failure` is there."""
        export = get_object_or_404(self.campaign(campaign_id).export_files, pk=export_id)
        return Response(ExportFileSerializer(export).data)


class CampaignExportContent(ExportView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(responses={(200, mime): OpenApiTypes.BINARY for mime in CONTAINERS.values()})
    def get(self, request: Request, campaign_id: str, export_id: int) -> StreamingHttpResponse:
        """The finished file."""
        campaign = self.campaign(campaign_id)
        export = get_object_or_404(campaign.export_files, pk=export_id)
        if not is_there(export):
            gone = export.finished_at or export.failure
            raise FileNotThere("This file is not there any more: ask for it again." if gone else "Not finished yet.")
        facts = {"container": export.container, "file": export.pk}
        audit.record(self.user, "items.export", export.what, campaign=campaign, **facts)
        name = f"{campaign.public_id}-{export.what}.{export.container}"
        response = download(request, read_blocks(export), name, CONTAINERS[export.container])
        response["Content-Length"] = export.size
        return response

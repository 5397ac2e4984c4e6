"""What a campaign compares, over HTTP: files in, their reports, items."""

from __future__ import annotations

import json
from typing import Any

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import CURSOR, OldestFirst, page_of
from labeling.access import MANAGER, REPORT_ROLES
from labeling.api.campaigns import CampaignView
from labeling.api.downloads import download
from labeling.api.serializers_items import (
    ImportSerializer,
    ItemDetailSerializer,
    ItemSerializer,
    ListedImportSerializer,
    PreviewSerializer,
    UploadSerializer,
)
from labeling.data.exporting import CONTAINERS, as_csv
from labeling.data.formats.base import Format
from labeling.data.formats.registry import FORMATS
from labeling.data.importing import import_file, refused_lines
from labeling.data.previewing import preview_file
from labeling.data.uploads import is_large, store_upload
from labeling.items import get_item, listed, title_of, with_counts
from labeling.queue.removal import remove_item, restore_item


def chosen_format(data: dict[str, Any]) -> Format | None:
    """How the rows of an upload shall be read; None lets each row show it."""
    return data["columns"].as_format() if data.get("columns") else FORMATS.get(data.get("form", ""))


class CampaignImports(CampaignView):
    roles = {"GET": MANAGER, "POST": MANAGER}
    parser_classes = [MultiPartParser]

    @extend_schema(operation_id="imports_list", parameters=[CURSOR], responses=page_of(ListedImportSerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """The files that were brought in, newest first."""
        return self.page(self.campaign(campaign_id).imports.defer("errors"), ListedImportSerializer)

    @extend_schema(
        request={"multipart/form-data": UploadSerializer}, responses={201: ImportSerializer, 202: ImportSerializer}
    )
    def post(self, request: Request, campaign_id: str) -> Response:
        """Bring in a file. Good lines are kept whatever the others are. A large file is imported later (202)."""
        campaign, data = self.campaign(campaign_id), self.valid(UploadSerializer)
        file = data["file"]
        name = data.get("name") or file.name
        bring, code = (store_upload, 202) if is_large(file, file.size) else (import_file, 201)
        record = bring(campaign, file, name=name, user=self.user, chosen=chosen_format(data))
        return Response(ImportSerializer(record).data, status=code)


class CampaignImportPreview(CampaignView):
    roles = {"POST": MANAGER}
    parser_classes = [MultiPartParser]

    @extend_schema(request={"multipart/form-data": UploadSerializer}, responses=PreviewSerializer)
    def post(self, request: Request, campaign_id: str) -> Response:
        """What a file would bring, seen from its first rows. Nothing is kept."""
        campaign, data = self.campaign(campaign_id), self.valid(UploadSerializer)
        preview = preview_file(data["file"], campaign, chosen=chosen_format(data))
        return Response(PreviewSerializer(preview).data)


class CampaignImport(CampaignView):
    roles = {"GET": MANAGER}

    @extend_schema(responses=ImportSerializer)
    def get(self, request: Request, campaign_id: str, import_id: int) -> Response:
        """How far an import is. It is over when `finished_at` or `failure` is there."""
        record = get_object_or_404(self.campaign(campaign_id).imports, pk=import_id)
        return Response(ImportSerializer(record).data)


class CampaignImportRefused(CampaignView):
    roles = {"GET": MANAGER}

    @extend_schema(
        parameters=[OpenApiParameter("as", str, enum=["jsonl", "csv"], default="jsonl")],
        responses={(200, CONTAINERS[container]): OpenApiTypes.BINARY for container in ("jsonl", "csv")},
    )
    def get(self, request: Request, campaign_id: str, import_id: int) -> StreamingHttpResponse:
        """All lines that an import refused, with the reasons, as a file."""
        record = get_object_or_404(self.campaign(campaign_id).imports, pk=import_id)
        container = request.query_params.get("as", "jsonl")
        if container not in ("jsonl", "csv"):
            raise ValidationError({"as": "Choose one of: jsonl, csv."})
        rows = refused_lines(record)
        as_json = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        lines = as_csv(rows, {"line": "number", "reason": "text"}) if container == "csv" else as_json
        return download(request, lines, f"import-{record.pk}-refused.{container}", CONTAINERS[container])


class CampaignItems(CampaignView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(
        operation_id="items_list",
        parameters=[CURSOR, OpenApiParameter("removed", bool, description="Those that were taken out instead.")],
        responses=page_of(ItemSerializer),
    )
    def get(self, request: Request, campaign_id: str) -> Response:
        """Items in the order in which they came, without their texts."""
        pages = OldestFirst()
        removed = request.query_params.get("removed", "").lower() in ("true", "1")
        found: Any = pages.paginate_queryset(listed(self.campaign(campaign_id), removed=removed), request)
        rows = [
            {"id": item.public_id, "title": title_of(item), "completions": size, "answers": answers}
            for item, size, answers in with_counts(found)
        ]
        return pages.get_paginated_response(ItemSerializer(rows, many=True).data)


class CampaignItem(CampaignView):
    roles = {"GET": REPORT_ROLES, "DELETE": MANAGER}

    @extend_schema(responses=ItemDetailSerializer)
    def get(self, request: Request, campaign_id: str, item_id: str) -> Response:
        """One item with its completions in the order of the file, their sources, and everybody's answers."""
        return Response(ItemDetailSerializer(get_item(self.campaign(campaign_id), item_id)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, campaign_id: str, item_id: str) -> Response:
        """Take the item out: nobody is given it, its answers are kept and do not count until it is restored."""
        remove_item(get_item(self.campaign(campaign_id), item_id), now=timezone.now(), by=self.user)
        return Response(status=204)


class CampaignItemRestored(CampaignView):
    roles = {"POST": MANAGER}

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, campaign_id: str, item_id: str) -> Response:
        """Put an item back that was taken out, with its answers."""
        restore_item(get_item(self.campaign(campaign_id), item_id), by=self.user)
        return Response(status=204)

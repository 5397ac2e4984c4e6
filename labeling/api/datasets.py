"""Datasets by name, over HTTP: their first rows, and all of them."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from labeling.access import MANAGER
from labeling.api.campaigns import CampaignView
from labeling.api.items import chosen_format
from labeling.api.serializers_items import (
    DatasetSerializer,
    ImportSerializer,
    PreviewSerializer,
    ReadingSerializer,
)
from labeling.data.formats.base import Format
from labeling.data.hub import Dataset, store_dataset
from labeling.data.samples import order_sample, preview_sample
from labeling.models import DatasetSample


class DatasetSampleSerializer(serializers.Serializer[Any]):
    """`preview` is null until a worker has fetched the rows; `failure` says why it could not."""

    id = serializers.IntegerField()
    failure = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    preview = PreviewSerializer(allow_null=True)


def _shown(sample: DatasetSample, chosen: Format | None) -> dict[str, Any]:
    preview = preview_sample(sample, chosen=chosen)
    return DatasetSampleSerializer(
        {"id": sample.pk, "failure": sample.failure, "created_at": sample.created_at, "preview": preview}
    ).data


class DatasetView(CampaignView):
    """A view that is told of a dataset."""

    roles = {"POST": MANAGER}

    def asked(self) -> tuple[Dataset, Format | None]:
        """Which dataset, and how its rows shall be read."""
        data = self.valid(DatasetSerializer)
        chosen = chosen_format({name: data.pop(name, None) for name in ("form", "columns")})
        return Dataset(**data), chosen


class CampaignImportDataset(DatasetView):
    @extend_schema(request=DatasetSerializer, responses={202: ImportSerializer})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Bring in a dataset of the Hugging Face hub, or (admins) a folder of the server. A worker reads it."""
        campaign, (dataset, chosen) = self.campaign(campaign_id), self.asked()
        record = store_dataset(campaign, dataset, user=self.user, chosen=chosen)
        return Response(ImportSerializer(record).data, status=202)


class CampaignDatasetSamples(DatasetView):
    @extend_schema(request=DatasetSerializer, responses={202: DatasetSampleSerializer})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Ask a worker for the first rows of a dataset, to see what it would bring. Nothing is imported."""
        campaign, (dataset, chosen) = self.campaign(campaign_id), self.asked()
        return Response(_shown(order_sample(campaign, dataset, user=self.user), chosen), status=202)


class CampaignDatasetSample(CampaignView):
    roles = {"GET": MANAGER}

    @extend_schema(parameters=[ReadingSerializer], responses=DatasetSampleSerializer)
    def get(self, request: Request, campaign_id: str, sample_id: int) -> Response:
        """What the first rows would bring, read as they look or as chosen. Ask again while there is no preview."""
        samples = self.campaign(campaign_id).dataset_samples.select_related("campaign")
        sample = get_object_or_404(samples, pk=sample_id)
        reading = ReadingSerializer(data=request.query_params)
        reading.is_valid(raise_exception=True)
        return Response(_shown(sample, chosen_format(reading.validated_data)))

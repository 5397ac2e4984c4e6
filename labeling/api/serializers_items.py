"""The shapes of items, imports and previews in the API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from labeling.api.serializers import MessageSerializer
from labeling.data.containers import parse_json
from labeling.data.files import BadLine
from labeling.data.formats.columns import Columns
from labeling.data.formats.registry import FORMATS
from labeling.models import Import, Item, Ranking


class ColumnsSerializer(serializers.Serializer[Columns]):
    """Which column of a table is what."""

    prompt = serializers.CharField(max_length=200, trim_whitespace=False)
    answers = serializers.ListField(child=serializers.CharField(max_length=200, trim_whitespace=False))
    sources = serializers.ListField(
        child=serializers.CharField(max_length=200, trim_whitespace=False), default=list, help_text="None, or one each."
    )
    winner = serializers.CharField(
        max_length=200, default="", allow_blank=True, trim_whitespace=False, help_text="Names one of two answers."
    )
    scores = serializers.ListField(
        child=serializers.CharField(max_length=200, trim_whitespace=False),
        default=list,
        help_text="None, or one each: numbers, the higher the better.",
    )

    def validate(self, attrs: Any) -> Any:
        answers, sources, scores = (tuple(attrs[key]) for key in ("answers", "sources", "scores"))
        try:
            return Columns(attrs["prompt"], answers, sources, attrs["winner"], scores)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None


class ColumnsField(serializers.CharField):
    """The same as JSON text, because it travels beside a file in a form."""

    def to_internal_value(self, data: Any) -> Columns:  # type: ignore[override]
        try:
            given = parse_json(super().to_internal_value(data))
        except BadLine as error:
            raise serializers.ValidationError(str(error)) from None
        checked = ColumnsSerializer(data=given)
        checked.is_valid(raise_exception=True)
        columns: Columns = checked.validated_data
        return columns


class ReadingSerializer(serializers.Serializer[Any]):
    """How rows shall be read, beside a file or in an address."""

    form = serializers.ChoiceField(
        choices=list(FORMATS),
        required=False,
        help_text="Read all rows as this format, instead of seeing it from each row.",
    )
    columns = ColumnsField(
        required=False,
        help_text='For a table of another form, as JSON: {"prompt": name, "answers": [names], "sources": [names], '
        '"winner": name, "scores": [names]}.',
    )


class UploadSerializer(ReadingSerializer):
    file = serializers.FileField(help_text="JSON, CSV or Parquet; plain, gzip or zstd.", allow_empty_file=True)
    name = serializers.CharField(required=False, max_length=255, help_text="Instead of the file's own name.")


class DatasetSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=250, help_text="On the hub, or an absolute path on the server (admins).")
    subset = serializers.CharField(max_length=100, default="default")
    split = serializers.CharField(max_length=100, default="train")
    limit = serializers.IntegerField(min_value=0, max_value=2**31 - 1, default=0, help_text="Most rows; 0 takes all.")
    form = serializers.ChoiceField(choices=list(FORMATS), required=False, help_text="Read all rows as this format.")
    columns = ColumnsSerializer(required=False, help_text="For a table of another form.")


class LineErrorSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    reason = serializers.CharField()


class ListedImportSerializer(serializers.ModelSerializer[Import]):
    class Meta:
        model = Import
        fields = [
            *("id", "name", "accepted", "duplicates", "rejected", "rankings", "position", "failure", "created_at"),
            "finished_at",
        ]
        read_only_fields = fields


class ImportSerializer(ListedImportSerializer):
    errors = LineErrorSerializer(many=True, read_only=True, help_text="The first hundred refused lines.")  # type: ignore[assignment]

    class Meta(ListedImportSerializer.Meta):
        fields = [*ListedImportSerializer.Meta.fields, "errors"]
        read_only_fields = fields


class PreviewFormatSerializer(serializers.Serializer[Any]):
    title = serializers.CharField()
    percent = serializers.IntegerField(help_text="Of the rows, that this format reads.")


class PreviewCardSerializer(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    messages = MessageSerializer(many=True)


class PreviewItemSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(help_text="Of the row.")
    context = MessageSerializer(many=True)  # type: ignore[assignment]
    completions = PreviewCardSerializer(source="cards", many=True)
    order = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField()), allow_null=True, help_text="Imported tiers."
    )


class PreviewSerializer(serializers.Serializer[Any]):
    rows = serializers.IntegerField(help_text="Looked at.")
    found = PreviewFormatSerializer(many=True)
    items = PreviewItemSerializer(many=True)
    refused = LineErrorSerializer(many=True)
    columns = serializers.ListField(child=serializers.CharField())


class ItemSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    title = serializers.CharField(help_text="The beginning of its last turn.")
    completions = serializers.IntegerField()
    answers = serializers.IntegerField(help_text="Accepted ones.")


class CompletionSerializer(serializers.Serializer[Any]):
    messages = MessageSerializer(many=True)
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    meta = serializers.DictField()


class AnswerSerializer(serializers.ModelSerializer[Ranking]):
    id = serializers.CharField(source="public_id")
    username = serializers.CharField(source="user.username", default=None, allow_null=True)
    tiers = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), help_text="Indices of completions, best first."
    )
    flags = serializers.ListField(child=serializers.CharField())
    details = serializers.DictField(help_text="What was said besides: see docs/labeling.md.")

    class Meta:
        model = Ranking
        fields = [
            *("id", "labeler", "username", "origin", "tiers", "cannot_tell", "flags", "rationale", "active_ms", "late"),
            *("details", "protocol", "guidelines_version", "form_version", "created_at"),
        ]
        read_only_fields = fields


class ItemDetailSerializer(serializers.ModelSerializer[Item]):
    id = serializers.CharField(source="public_id")
    messages = MessageSerializer(many=True)
    meta = serializers.DictField()
    completions = CompletionSerializer(many=True)
    answers = AnswerSerializer(source="rankings", many=True)

    class Meta:
        model = Item
        fields = ["id", "messages", "completions", "answers", "meta", "created_at", "removed_at"]
        read_only_fields = fields

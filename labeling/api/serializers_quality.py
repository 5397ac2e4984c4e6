"""The shapes of quality in the API: people, rules, gold, reviews, leaks, health, the log."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from labeling.api.serializers import EstimateSerializer, QualitySerializer
from labeling.models import AuditEntry, Gold, Leak, QualityRules, Review
from labeling.protocols.basics import MAX_RATIONALE


class TiersField(serializers.ListField):
    """Completion indices in tiers, best first."""

    child = serializers.ListField(child=serializers.IntegerField(min_value=0, max_value=8), max_length=9)


class RulesSerializer(serializers.ModelSerializer[QualityRules]):
    class Meta:
        model = QualityRules
        exclude = ["campaign", "watched", "adapted"]


class PersonQualitySerializer(serializers.Serializer[Any]):
    """How one person is doing."""

    user_id = serializers.IntegerField(source="contribution.user_id")
    username = serializers.CharField(source="contribution.user.username")
    labeler = serializers.CharField(source="contribution.labeler")
    answers = serializers.IntegerField(source="contribution.given", help_text="All that stand, checks too.")
    checks = serializers.IntegerField(source="contribution.checks")
    gold = EstimateSerializer(source="checks.gold", help_text="Share of gold items answered right.")
    consistency = EstimateSerializer(source="checks.consistency", help_text="The same again, of repeated items.")
    quality = QualitySerializer(allow_null=True, help_text="None where there are no statistics of their answers.")
    paused_at = serializers.DateTimeField(source="contribution.paused_at", allow_null=True)
    paused_because = serializers.CharField(source="contribution.paused_because", allow_blank=True)


class PauseSerializer(serializers.Serializer[Any]):
    because = serializers.CharField(default="by hand", max_length=500)


class NewGoldSerializer(serializers.Serializer[Any]):
    tiers = TiersField()
    explanation = serializers.CharField(default="", allow_blank=True, max_length=MAX_RATIONALE)


class GoldSerializer(serializers.ModelSerializer[Gold]):
    item = serializers.CharField(source="item.public_id")
    tiers = TiersField()

    class Meta:
        model = Gold
        fields = ["item", "tiers", "explanation", "created_at"]


class ToReviewSerializer(serializers.Serializer[Any]):
    """An answer that waits, and why: flagged, contradicted or random."""

    ranking = serializers.CharField(source="ranking.public_id")
    item = serializers.CharField(source="ranking.item.public_id")
    labeler = serializers.CharField(source="ranking.labeler")
    tiers = TiersField(source="ranking.tiers")
    flags = serializers.ListField(source="ranking.flags", child=serializers.CharField())
    rationale = serializers.CharField(source="ranking.rationale", allow_blank=True)
    because = serializers.ChoiceField(choices=["flagged", "contradicted", "random"])


class NextReviewSerializer(serializers.Serializer[Any]):
    answer = ToReviewSerializer(allow_null=True)
    waiting = serializers.IntegerField()


class VerdictSerializer(serializers.Serializer[Any]):
    verdict = serializers.ChoiceField(choices=Review.Verdict.choices)
    comment = serializers.CharField(default="", allow_blank=True, max_length=MAX_RATIONALE)
    tiers = TiersField(default=list, help_text="Where you replace the answer; completion indices, best first.")


class ReviewSerializer(serializers.ModelSerializer[Review]):
    ranking = serializers.CharField(source="ranking.public_id")
    item = serializers.CharField(source="item.public_id")
    reviewer = serializers.CharField(source="reviewer.username")
    replacement = serializers.CharField(source="replacement.public_id", default=None, allow_null=True)

    class Meta:
        model = Review
        fields = ["ranking", "item", "reviewer", "verdict", "comment", "replacement", "created_at"]


class LeakSerializer(serializers.ModelSerializer[Leak]):
    item = serializers.CharField(source="item.public_id")

    class Meta:
        model = Leak
        fields = ["item", "index", "what", "excerpt", "held", "created_at"]


class DaySerializer(serializers.Serializer[Any]):
    day = serializers.DateField()
    answers = serializers.IntegerField()
    left = serializers.IntegerField(help_text="Answers still missing at the end of the day.")


class FinishSerializer(serializers.Serializer[Any]):
    days = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    reason = serializers.CharField(allow_blank=True, help_text="Why nobody can know.")


class StuckSerializer(serializers.Serializer[Any]):
    item = serializers.CharField()
    skips = serializers.IntegerField()
    flags = serializers.IntegerField()


class CostSerializer(serializers.Serializer[Any]):
    pairs = serializers.IntegerField(help_text="In a clear order, of the newest answers.")
    hours = serializers.FloatField()
    per_pair = serializers.DecimalField(max_digits=12, decimal_places=3, allow_null=True)
    currency = serializers.CharField(allow_blank=True)


class HealthSerializer(serializers.Serializer[Any]):
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    days = DaySerializer(many=True)
    finish = FinishSerializer(help_text="Days until all answers are there, with the 95 % interval.")
    stuck = StuckSerializer(many=True)
    cost = CostSerializer()


class LogEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    campaign = serializers.CharField(source="campaign.public_id", default=None, allow_null=True)
    actor = serializers.CharField(source="actor_name", help_text="Empty: the system did it by itself.")
    facts = serializers.DictField()

    class Meta:
        model = AuditEntry
        fields = ["campaign", "actor", "verb", "target", "facts", "created_at"]

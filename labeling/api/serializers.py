"""The shapes of the labeling API, in and out."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.models import CampaignRole
from labeling.models import Campaign, Membership
from labeling.protocols.basics import MAX_RATIONALE, ROLES
from labeling.protocols.presets import PRESETS
from labeling.protocols.questionnaire import parse_form
from labeling.queue.assignment import Task
from labeling.queue.progress import Progress


class CampaignSerializer(serializers.ModelSerializer[Campaign]):
    """Used for output, for creating, and (partial) for changing."""

    id = serializers.CharField(source="public_id", read_only=True)
    guidelines = serializers.CharField(required=False, allow_blank=True, max_length=50_000, trim_whitespace=False)
    preset = serializers.ChoiceField(
        choices=[(preset.name, preset.title) for preset in PRESETS.values()],
        required=False,
        write_only=True,
        help_text="A published protocol to begin with: its protocol and form, where you do not give your own.",
    )
    form = serializers.JSONField(required=False, help_text="What is asked beside the order; see docs/labeling.md.")

    class Meta:
        model = Campaign
        fields = [
            "id",
            "name",
            "guidelines",
            "guidelines_version",
            "preset",
            "protocol",
            "form",
            "form_version",
            "overlap",
            "order",
            "state",
            "created_at",
        ]
        read_only_fields = ["guidelines_version", "form_version", "state", "created_at"]

    def to_representation(self, instance: Campaign) -> dict[str, Any]:
        """The form in full, also where it is the plain one."""
        return super().to_representation(instance) | {"form": parse_form(instance.form).document()}


class ProgressSerializer(serializers.Serializer[Progress]):
    done = serializers.IntegerField(source="shown", help_text="Answers given, of those wanted.")
    total = serializers.IntegerField(help_text="Answers wanted: items times overlap.")
    mine = serializers.IntegerField(help_text="Answers given by you.")


class CampaignDetailSerializer(CampaignSerializer):
    progress = ProgressSerializer(read_only=True)

    class Meta(CampaignSerializer.Meta):
        fields = [*CampaignSerializer.Meta.fields, "progress"]


class FormSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField()
    form = serializers.DictField(help_text="What is asked beside the order; see docs/labeling.md.")


class StateSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=Campaign.State.choices)


class RoleSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=CampaignRole.choices)


class MemberSerializer(serializers.ModelSerializer[Membership]):
    id = serializers.IntegerField(source="user_id", read_only=True, help_text="Of the person.")
    username = serializers.CharField(source="user.username", max_length=150)
    role = serializers.ChoiceField(choices=CampaignRole.choices, default=CampaignRole.ANNOTATOR)

    class Meta:
        model = Membership
        fields = ["id", "username", "role"]


class MessageSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=ROLES)
    content = serializers.CharField()


class ShownCompletionSerializer(serializers.Serializer[Any]):
    label = serializers.CharField(help_text="A, B, ... in the order in which you see them.")  # type: ignore[assignment]
    messages = MessageSerializer(many=True)


class TaskSerializer(serializers.Serializer[Task]):
    lease = serializers.UUIDField()
    expires_at = serializers.DateTimeField()
    item = serializers.CharField()
    protocol = serializers.ChoiceField(choices=Campaign.Protocol.choices)
    form = serializers.DictField(source="form.document", help_text="What is asked beside the order.")
    form_version = serializers.IntegerField()
    messages = MessageSerializer(many=True)
    completions = ShownCompletionSerializer(many=True)
    comment = serializers.CharField(allow_blank=True, help_text="Of a reviewer who returned your answer to this item.")


class NextSerializer(serializers.Serializer[Any]):
    """A task, or the reason why there is none."""

    task = TaskSerializer(allow_null=True)
    why = serializers.CharField(required=False)
    progress = ProgressSerializer()


class SubmitSerializer(serializers.Serializer[Any]):
    tiers = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField(max_length=1)),
        default=list,
        help_text="Labels, best first; equal ones share a tier; leave out what you did not rank.",
    )
    cannot_tell = serializers.BooleanField(
        default=False, help_text="You looked and cannot tell: neither a tie nor a skip. Then there are no tiers."
    )
    flags = serializers.ListField(child=serializers.CharField(), default=list, help_text="Some of those in the form.")
    rationale = serializers.CharField(default="", allow_blank=True, max_length=MAX_RATIONALE, trim_whitespace=False)
    active_ms = serializers.IntegerField(default=0, min_value=0, max_value=2**31 - 1)
    details = serializers.DictField(
        default=dict,
        help_text="`strength` (1 is the weakest degree), `both_bad`, and `answers` by the names of questions; what is "
        'said of completions by their labels: `{"helpfulness": {"A": 4, "B": 2}}`.',
    )
    form_version = serializers.IntegerField(required=False, help_text="Of the task; left out, the newest.")
    next = serializers.BooleanField(default=False, help_text="Return the next task in the same response.")


class SubmittedSerializer(serializers.Serializer[Any]):
    """With `next`, also what `next` returns."""

    ranking = serializers.CharField()
    late = serializers.BooleanField(help_text="The lease had passed on; kept as an extra answer.")
    task = TaskSerializer(allow_null=True, required=False)
    why = serializers.CharField(required=False)
    progress = ProgressSerializer(required=False)


class OwnAnswerSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(source="ranking.public_id")
    item = serializers.CharField(source="ranking.item.public_id")
    prompt = serializers.CharField(allow_blank=True, help_text="Its last turn.")
    order = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    cannot_tell = serializers.BooleanField(source="ranking.cannot_tell")
    rationale = serializers.CharField(source="ranking.rationale", allow_blank=True)
    created_at = serializers.DateTimeField(source="ranking.created_at")
    editable = serializers.BooleanField()


class OwnAnswersSerializer(serializers.Serializer[Any]):
    results = OwnAnswerSerializer(many=True)
    more = serializers.IntegerField(allow_null=True, help_text="Pass it as `before` to get what is older.")


class SkipSerializer(serializers.Serializer[Any]):
    reason = serializers.CharField(help_text="One of the form's `skip_reasons`, by name.")
    note = serializers.CharField(default="", allow_blank=True, max_length=MAX_RATIONALE)
    next = serializers.BooleanField(default=False, help_text="Return the next task in the same response.")


class HeartbeatSerializer(serializers.Serializer[Any]):
    expires_at = serializers.DateTimeField()


class EstimateSerializer(serializers.Serializer[Any]):
    """A number, or the reason why there is none. `low` and `high` bound a 95 % interval where one was made."""

    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    count = serializers.FloatField()
    reason = serializers.CharField(allow_blank=True)


class ContributionSerializer(serializers.Serializer[Any]):
    username = serializers.CharField()
    labeler = serializers.CharField(help_text="Pseudonym, as in exports.")
    done = serializers.IntegerField()
    extra = serializers.IntegerField()
    skipped = serializers.IntegerField()
    median_seconds = serializers.FloatField(allow_null=True)
    last_at = serializers.DateTimeField(allow_null=True)


class DuelSerializer(serializers.Serializer[Any]):
    first = serializers.CharField()
    second = serializers.CharField()
    wins = serializers.IntegerField()
    ties = serializers.IntegerField()
    losses = serializers.IntegerField()
    share = EstimateSerializer(help_text="Of `first`; a tie is half a win, and every item weighs the same.")


class PlaceSerializer(serializers.Serializer[Any]):
    source = serializers.CharField()  # type: ignore[assignment]
    strength = EstimateSerializer(help_text="In logits; the average is 0.")
    comparisons = serializers.IntegerField()
    both_bad = EstimateSerializer(help_text="Share of answers that called both bad, which count for nobody.")


class LeaderboardSerializer(serializers.Serializer[Any]):
    places = PlaceSerializer(many=True)
    joined = serializers.BooleanField(help_text="All sources were compared, at least through others.")
    decided = serializers.BooleanField(help_text="And each beat all others like that; else a weak prior holds them.")
    model = serializers.CharField(help_text="Bradley-Terry, Rao-Kupper or Plackett-Luce.")
    notices = EstimateSerializer(help_text="The difference in logits that people notice, where there were ties.")


class QualitySerializer(serializers.Serializer[Any]):
    answers = serializers.IntegerField()
    cannot_tell = serializers.IntegerField()
    shared = serializers.IntegerField(help_text="Answers to items that others ranked, too.")
    reliability = EstimateSerializer(help_text="Share of answers that are meant; half is guessing.")
    bias = EstimateSerializer(help_text="Pull towards what is shown first, in logits.")
    threshold = EstimateSerializer(help_text="The smallest difference that is noticed, in logits.")
    agreement = EstimateSerializer(help_text="How often somebody else said the same of two completions.")
    weight = serializers.FloatField(help_text="Of an answer, where a run weighs people by their reliability.")
    finding = serializers.ChoiceField(choices=["", "reversed", "random", "unsure", "first", "last"], allow_blank=True)


class PersonReportSerializer(serializers.Serializer[Any]):
    username = serializers.CharField()
    labeler = serializers.CharField(help_text="Pseudonym, as in exports.")
    quality = QualitySerializer()


class StatisticsSerializer(serializers.Serializer[Any]):
    agreement = EstimateSerializer()
    alpha = EstimateSerializer()
    rankings = serializers.IntegerField(help_text="Rankings that agreement was computed from.")
    partial = serializers.BooleanField(help_text="There are more rankings than that.")  # type: ignore[assignment]
    duels = DuelSerializer(many=True, help_text="Sources of completions that people ranked against each other.")
    leaderboard = LeaderboardSerializer()


class ReportSerializer(serializers.Serializer[Any]):
    progress = ProgressSerializer()
    people = ContributionSerializer(many=True, help_text="Those who answered most; `people` of the campaign has all.")
    statistics = StatisticsSerializer(allow_null=True, help_text="None where a worker has yet to compute them.")
    qualities = PersonReportSerializer(many=True, help_text="Those with findings first, at most 50.")
    judged = serializers.IntegerField(help_text="Of so many people.")
    made_at = serializers.DateTimeField(allow_null=True, help_text="When the statistics were computed.")
    current = serializers.BooleanField(help_text="No answer came or went since; else a worker was asked for new ones.")

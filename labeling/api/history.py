"""One's own answers in a campaign over HTTP: the list, and one of them answered anew."""

from __future__ import annotations

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Scope
from labeling.access import LABELING_ROLES
from labeling.api import serializers
from labeling.api.campaigns import CampaignView
from labeling.models import Ranking
from labeling.protocols.basics import tiers_of_labels
from labeling.protocols.questionnaire import labels_to_indices
from labeling.queue.annotation import revise
from labeling.queue.assignment import LeaseLost
from labeling.queue.history import PAGE, is_editable, own_answers


class OwnAnswers(CampaignView):
    roles = {"GET": LABELING_ROLES}
    scope = Scope.LABEL

    @extend_schema(
        parameters=[OpenApiParameter("before", OpenApiTypes.INT, description="From `more` of another page.")],
        responses=serializers.OwnAnswersSerializer,
    )
    def get(self, request: Request, campaign_id: str) -> Response:
        """Your answers, newest first, 20 at a time, in the letters in which you saw the completions."""
        campaign, before = self.campaign(campaign_id), request.query_params.get("before", "")
        if before and not (before.isascii() and before.isdigit() and len(before) < 19):
            raise ValidationError({"before": "It comes from another page."})
        found = own_answers(self.user, campaign, now=timezone.now(), before=int(before) if before else None)
        shown, more = found[:PAGE], len(found) > PAGE
        body = {"results": shown, "more": shown[-1].ranking.pk if more else None}
        return Response(serializers.OwnAnswersSerializer(body).data)


class OwnAnswer(CampaignView):
    roles = {"POST": LABELING_ROLES}
    scope = Scope.LABEL

    @extend_schema(request=serializers.SubmitSerializer, responses=serializers.SubmittedSerializer)
    def post(self, request: Request, campaign_id: str, own_ranking_id: str) -> Response:
        """Answer an item anew, as long as the campaign allows it. The old answer is kept beside it."""
        given = Ranking.objects.given().filter(campaign=self.campaign(campaign_id), user=self.user)
        if not own_ranking_id.isalnum():
            raise Http404
        ranking = get_object_or_404(given.select_related("item", "campaign"), public_id=own_ranking_id)
        answer = self.valid(serializers.SubmitSerializer)
        if not is_editable(ranking, timezone.now()):
            raise LeaseLost("The time to change this answer is over.")
        del answer["next"]
        answer["tiers"] = tiers_of_labels(answer["tiers"], ranking.shown_order)
        answer["details"] = labels_to_indices(answer["details"], ranking.shown_order)
        return Response({"ranking": revise(self.user, ranking, **answer).public_id, "late": ranking.late})

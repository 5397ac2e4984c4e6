"""Quality over HTTP: rules, people, gold, reviews, leaks, health and the log."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import CURSOR, ApiView, IsSiteAdmin, NewestFirst, OldestFirst, page_of
from labeling import audit
from labeling.access import MANAGER, REPORT_ROLES, CampaignView
from labeling.api.campaigns import LabelingView
from labeling.api.downloads import download
from labeling.api.serializers_quality import (
    GoldSerializer,
    HealthSerializer,
    LeakSerializer,
    LogEntrySerializer,
    NewGoldSerializer,
    NextReviewSerializer,
    PauseSerializer,
    PersonQualitySerializer,
    ReviewSerializer,
    RulesSerializer,
    VerdictSerializer,
)
from labeling.data.exporting import CONTAINERS
from labeling.models import AuditEntry, Campaign, Contribution, Item, QualityRules, Ranking, Review
from labeling.quality import gold, leaks, review, watch
from labeling.quality.health import health_of, pay_lines
from labeling.quality.people import answering, people_of
from labeling.quality.rules import change_rules


class ByItem(NewestFirst):
    ordering = "-item_id"  # the key of gold


class QualityView(LabelingView, CampaignView):
    refusals = LabelingView.refusals | {review.CannotReview: 409}

    def item(self, campaign_id: str, item_id: str) -> Item:
        items = self.campaign(campaign_id).items.select_related("campaign")
        return get_object_or_404(items, public_id=item_id.replace("\x00", ""))


class CampaignRules(QualityView):
    roles = {"GET": REPORT_ROLES, "PATCH": MANAGER}

    @extend_schema(responses=RulesSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """What the campaign does about quality by itself."""
        campaign = self.campaign(campaign_id)
        rules = QualityRules.objects.filter(campaign=campaign).first() or QualityRules(campaign=campaign)
        return Response(RulesSerializer(rules).data)

    @extend_schema(request=RulesSerializer, responses=RulesSerializer)
    def patch(self, request: Request, campaign_id: str) -> Response:
        """Change some of the rules."""
        campaign = self.campaign(campaign_id)
        return Response(
            RulesSerializer(change_rules(campaign, by=self.user, **self.valid(RulesSerializer, partial=True))).data
        )


class CampaignPeople(QualityView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(operation_id="campaign_people_list", parameters=[CURSOR], responses=page_of(PersonQualitySerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """Everybody who answers, and how well, in the order in which they came."""
        campaign, pages = self.campaign(campaign_id), OldestFirst()
        found: Any = pages.paginate_queryset(answering(campaign), request)
        return pages.get_paginated_response(PersonQualitySerializer(people_of(campaign, found), many=True).data)


class CampaignPause(QualityView):
    roles = {"PUT": MANAGER, "DELETE": MANAGER}

    @extend_schema(request=PauseSerializer, responses={204: None})
    def put(self, request: Request, campaign_id: str, user_id: int) -> Response:
        """Give this person nothing more."""
        watch.pause(self._person(campaign_id, user_id), because=self.valid(PauseSerializer)["because"], by=self.user)
        return Response(status=204)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, campaign_id: str, user_id: int) -> Response:
        """Let them go on."""
        watch.resume(self._person(campaign_id, user_id), by=self.user)
        return Response(status=204)

    def _person(self, campaign_id: str, user_id: int) -> Contribution:
        people = self.campaign(campaign_id).contributions.select_related("user", "campaign")
        return get_object_or_404(people, user=user_id)


class CampaignGolds(QualityView):
    roles = {"GET": MANAGER}

    @extend_schema(parameters=[CURSOR], responses=page_of(GoldSerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """Items whose answer is known."""
        return self.page(gold.shown(self.campaign(campaign_id)), GoldSerializer, ByItem())


class ItemGold(QualityView):
    roles = {"PUT": MANAGER, "DELETE": MANAGER}

    @extend_schema(request=NewGoldSerializer, responses=GoldSerializer)
    def put(self, request: Request, campaign_id: str, item_id: str) -> Response:
        """Make an item gold: it checks people from now on."""
        item = self.item(campaign_id, item_id)
        return Response(GoldSerializer(gold.mark_gold(item, user=self.user, **self.valid(NewGoldSerializer))).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, campaign_id: str, item_id: str) -> Response:
        """Make it usual work again."""
        gold.unmark_gold(self.item(campaign_id, item_id), by=self.user)
        return Response(status=204)


class CampaignReview(QualityView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(responses=NextReviewSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """The next answer that waits for a reviewer."""
        campaign = self.campaign(campaign_id)
        found = {
            "answer": review.next_to_review(campaign, self.user),
            "waiting": review.waiting(campaign, self.user),
        }
        return Response(NextReviewSerializer(found).data)


class RankingReview(QualityView):
    roles = {"POST": REPORT_ROLES}

    @extend_schema(request=VerdictSerializer, responses={201: ReviewSerializer})
    def post(self, request: Request, campaign_id: str, ranking_id: str) -> Response:
        """Accept an answer, return it with a comment, or replace it by your own."""
        rankings = self.campaign(campaign_id).rankings.select_related("campaign", "item")
        ranking: Ranking = get_object_or_404(rankings, public_id=ranking_id.replace("\x00", ""))
        said = self.valid(VerdictSerializer)
        if said["verdict"] == Review.Verdict.ACCEPT:
            made = review.accept(ranking, by=self.user, comment=said["comment"])
        elif said["verdict"] == Review.Verdict.RETURN:
            made = review.send_back(ranking, by=self.user, comment=said["comment"], now=timezone.now())
        else:
            made = review.replace(ranking, by=self.user, tiers=said["tiers"], comment=said["comment"])
        return Response(ReviewSerializer(made).data, status=201)


class CampaignLeaks(QualityView):
    roles = {"GET": REPORT_ROLES, "POST": MANAGER}

    @extend_schema(parameters=[CURSOR], responses=page_of(LeakSerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """Places that may give away who wrote a completion."""
        return self.page(leaks.shown(self.campaign(campaign_id)), LeakSerializer)

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, campaign_id: str) -> Response:
        """Look through the newest items again, after names were added."""
        leaks.scan_again(self.campaign(campaign_id), by=self.user)
        return Response(status=204)


class ItemRelease(QualityView):
    roles = {"POST": MANAGER}

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, campaign_id: str, item_id: str) -> Response:
        """Let people answer an item that was held back."""
        leaks.release(self.item(campaign_id, item_id), by=self.user)
        return Response(status=204)


class CampaignHealth(QualityView):
    roles = {"GET": REPORT_ROLES}

    @extend_schema(responses=HealthSerializer)
    def get(self, request: Request, campaign_id: str) -> Response:
        """Answers a day, what is left, when it will be done, what is stuck, what it costs."""
        return Response(HealthSerializer(health_of(self.campaign(campaign_id), today=timezone.localdate())).data)


class CampaignLog(QualityView):
    roles = {"GET": MANAGER}

    @extend_schema(parameters=[CURSOR], responses=page_of(LogEntrySerializer))
    def get(self, request: Request, campaign_id: str) -> Response:
        """Who did what in this campaign."""
        return self.page(_entries(self.campaign(campaign_id)), LogEntrySerializer)


class SiteLog(ApiView):
    policy = "site_admin"
    permission_classes = (IsSiteAdmin,)

    @extend_schema(parameters=[CURSOR], responses=page_of(LogEntrySerializer))
    def get(self, request: Request) -> Response:
        """Who did what on the site."""
        return self.page(_entries(None), LogEntrySerializer)


def _entries(campaign: Campaign | None) -> QuerySet[AuditEntry]:
    found = AuditEntry.objects.select_related("campaign")
    return found if campaign is None else found.filter(campaign=campaign)


class CampaignPay(QualityView):
    roles = {"GET": MANAGER}

    @extend_schema(responses={(200, CONTAINERS["csv"]): OpenApiTypes.BINARY})
    def get(self, request: Request, campaign_id: str) -> StreamingHttpResponse:
        """Everybody's time and pay, as CSV."""
        campaign = self.campaign(campaign_id)
        audit.record(self.user, "pay.export", campaign)
        return download(request, pay_lines(campaign), f"pay-{campaign.public_id}.csv", CONTAINERS["csv"])

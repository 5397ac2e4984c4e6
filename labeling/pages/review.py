"""The reviewer's screen: one answer that waits, with what others said, and three ways to decide."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.access import AuthenticatedRequest
from labeling.access import REPORT_ROLES, campaign_role
from labeling.models import Campaign, Ranking, Review
from labeling.pages.campaigns import campaign_context
from labeling.pages.items import answer_of, item_context
from labeling.protocols.basics import LABELS, InvalidRanking, order_of_words, tiers_of_labels
from labeling.quality import review

WHY = {
    "flagged": _("It is flagged."),
    "contradicted": _("More of the others put something else first."),
    "random": _("It was drawn at random."),
}
RECENT = 10


@campaign_role(*REPORT_ROLES)
@never_cache
@require_safe
def campaign_review(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """The next answer to look at."""
    found = review.next_to_review(campaign, request.user)
    recent = campaign.reviews.select_related("item", "reviewer", "ranking").order_by("-pk")[:RECENT]
    context = campaign_context(request, campaign, "review") | {"found": found, "recent": recent}
    if found is not None:
        item = found.ranking.item
        labels = LABELS[: item.completions.count()]
        others = Ranking.objects.accepted().filter(item=item).exclude(pk=found.ranking.pk).select_related("user")
        context |= item_context(item) | {
            "why": WHY[found.because],
            "waiting": review.waiting(campaign, request.user),
            "answer": answer_of(found.ranking, labels),
            "others": [answer_of(other, labels) for other in others.order_by("pk")],
        }
    return render(request, "labeling/campaign_review.html", context)


@campaign_role(*REPORT_ROLES)
@require_POST
def review_verdict(request: AuthenticatedRequest, campaign: Campaign, ranking_id: str) -> HttpResponse:
    """Accept, return or replace one answer, then the next."""
    ranking = get_object_or_404(campaign.rankings.select_related("campaign", "item"), public_id=ranking_id)
    verdict, comment = request.POST.get("verdict", ""), request.POST.get("comment", "")
    try:
        if verdict == Review.Verdict.ACCEPT:
            review.accept(ranking, by=request.user, comment=comment)
            messages.success(request, _("Accepted."))
        elif verdict == Review.Verdict.RETURN:
            review.send_back(ranking, by=request.user, comment=comment, now=timezone.now())
            messages.success(request, _("Returned: they get this item first, with your comment."))
        else:
            order = order_of_words(request.POST.get("order", ""))
            tiers = tiers_of_labels(order, range(ranking.item.completions.count()))
            review.replace(ranking, by=request.user, tiers=tiers, comment=comment)
            messages.success(request, _("Your decision counts instead of the answer."))
    except (review.CannotReview, InvalidRanking) as problem:
        messages.error(request, str(problem))
    return redirect("campaign_review", campaign.public_id)

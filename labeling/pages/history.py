"""A person's own answers in a campaign: the list, and one of them answered anew."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import AuthenticatedRequest
from labeling.access import LABELING_ROLES, campaign_role
from labeling.campaigns import form_of
from labeling.display.fields import whole_number
from labeling.display.screen import Entered, read_form
from labeling.models import Campaign, Ranking
from labeling.pages.label import answer_of, screen_context
from labeling.protocols.basics import InvalidRanking
from labeling.queue.annotation import revise
from labeling.queue.assignment import LeaseLost
from labeling.queue.history import PAGE, entered_before, in_labels, is_editable, own_answers, task_again


@campaign_role(*LABELING_ROLES)
@never_cache
@require_safe
def label_history(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    before = request.GET.get("before", "")
    place = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    answers = own_answers(request.user, campaign, now=timezone.now(), before=place)
    context = {"campaign": campaign, "answers": answers[:PAGE], "more": len(answers) > PAGE, "first": place is None}
    return render(request, "labeling/label_history.html", context)


@campaign_role(*LABELING_ROLES)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def label_revise(request: AuthenticatedRequest, campaign: Campaign, own_ranking_id: str) -> HttpResponse:
    """The item as it was shown, with the old answer filled in; a POST keeps the new one beside the old."""
    if not own_ranking_id.isalnum():
        raise Http404
    answers = Ranking.objects.given().filter(campaign=campaign, user=request.user)
    ranking = get_object_or_404(answers.select_related("item", "campaign"), public_id=own_ranking_id)
    if not is_editable(ranking, timezone.now()):
        messages.warning(request, _("The time to change this answer is over."))
        return redirect("label_history", campaign.public_id)
    if request.method == "POST":
        return _revised(request, campaign, ranking)
    return _page(request, campaign, ranking, entered_before(ranking))


def _revised(request: AuthenticatedRequest, campaign: Campaign, ranking: Ranking) -> HttpResponse:
    entered = Entered()
    try:
        version = whole_number(request.POST.get("form_version") or str(campaign.form_version))
        entered = read_form(request.POST, len(ranking.shown_order), form_of(campaign, version))
        revise(request.user, ranking, **answer_of(entered, ranking.shown_order, version))
    except (InvalidRanking, LeaseLost) as problem:
        return _page(request, campaign, ranking, entered, problem=str(problem))
    messages.success(request, _("Your answer is changed."))
    return redirect("label_history", campaign.public_id)


def _page(
    request: AuthenticatedRequest, campaign: Campaign, ranking: Ranking, entered: Entered, *, problem: str = ""
) -> HttpResponse:
    context = screen_context(request, campaign, task_again(ranking), entered)
    apart = reverse("label_revise", args=[campaign.public_id, ranking.public_id])
    context |= {"apart": apart, "revising": ranking, "before": in_labels(ranking), "problem": problem, "status": 422}
    return render(request, "labeling/label.html", context, status=422 if problem else 200)

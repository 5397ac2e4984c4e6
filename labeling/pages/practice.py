"""The training phase: one explained item after the other, each with its answer."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.access import AuthenticatedRequest
from labeling.access import LABELING_ROLES, campaign_role
from labeling.display.screen import Entered, read_form
from labeling.models import Campaign, Gold, PracticeAnswer
from labeling.pages.label import screen_context
from labeling.protocols.basics import LABELS, InvalidRanking, in_words, labels_of_tiers, tiers_of_labels
from labeling.queue.practice import answer, finish, is_due, practice_of, task_of


@campaign_role(*LABELING_ROLES)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def label_practice(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """The next item to train with; a POST answers one and shows what was known about it."""
    if not is_due(request.user, campaign):
        return redirect("label", campaign.public_id)
    if request.method == "POST":
        return _answered(request, campaign)
    practice = practice_of(request.user, campaign)
    if practice.gold is None:
        passed = finish(request.user, campaign, now=timezone.now())
        context = {"campaign": campaign, "practice": practice, "passed": passed}
        return render(request, "labeling/practice_over.html", context)
    return _page(request, campaign, practice.gold, Entered())


def _answered(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    golds = campaign.golds.exclude(explanation="").select_related("item", "campaign")
    gold = get_object_or_404(golds, item__public_id=request.GET.get("item", ""))
    order = [shown.index for shown in task_of(request.user, gold).completions]
    entered = Entered()
    try:
        entered = read_form(request.POST, len(order), task_of(request.user, gold).form)
        tiers = tiers_of_labels(entered.order, order)
        given = answer(request.user, gold, tiers=tiers, cannot_tell=entered.cannot_tell)
    except InvalidRanking as problem:
        return _page(request, campaign, gold, entered, problem=str(problem))
    return _told(request, campaign, gold, given, order)


def _told(
    request: AuthenticatedRequest, campaign: Campaign, gold: Gold, given: PracticeAnswer, order: list[int]
) -> HttpResponse:
    context = screen_context(request, campaign, task_of(request.user, gold))
    context |= {
        "gold": gold,
        "given": given,
        "practice": practice_of(request.user, campaign),
        "given_words": in_words(labels_of_tiers(given.tiers, order)),
        "known_words": in_words(labels_of_tiers(gold.tiers, order)),
        "labels": LABELS,
    }
    return render(request, "labeling/practice_told.html", context)


def _page(
    request: AuthenticatedRequest, campaign: Campaign, gold: Gold, entered: Entered, *, problem: str = ""
) -> HttpResponse:
    context = screen_context(request, campaign, task_of(request.user, gold), entered)
    url = reverse("label_practice", args=[campaign.public_id])
    context |= {"apart": f"{url}?item={gold.item.public_id}", "practice": practice_of(request.user, campaign)}
    context |= {"problem": problem, "status": 422}
    return render(request, "labeling/label.html", context, status=422 if problem else 200)

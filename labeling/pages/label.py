"""The annotator's screen. Every step is a POST of a plain form; htmx gets the changed parts of the same page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import reswap, retarget

from accounts.access import AuthenticatedRequest
from accounts.preferences import KEYS, preferences_of
from labeling.access import LABELING_ROLES, campaign_role, lease_holder
from labeling.campaigns import form_of
from labeling.display.fields import whole_number
from labeling.display.screen import Entered, read_form, screen_of
from labeling.display.word_diff import are_alike, single_texts, word_diff
from labeling.models import Campaign, LapsedLease, Slot
from labeling.protocols.basics import LABELS, InvalidRanking, in_words, tiers_of_labels
from labeling.protocols.questionnaire import labels_to_indices
from labeling.queue.annotation import Answer, CannotUndo, submit_and_claim, undo_last
from labeling.queue.assignment import LeaseLost, Task, claim_ahead, claim_next, current_task, heartbeat, leave, skip
from labeling.queue.practice import is_due as practice_is_due
from labeling.queue.progress import progress, why_empty

PAGE = "labeling/label.html"


@campaign_role(*LABELING_ROLES)
@never_cache
@require_safe
def label(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """What the person holds at this moment; taking something new is a POST."""
    if practice_is_due(request.user, campaign):
        return redirect("label_practice", campaign.public_id)
    return _page(request, campaign, current_task(request.user, campaign), asked="empty" in request.GET)


@campaign_role(*LABELING_ROLES)
@require_POST
def label_next(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    if practice_is_due(request.user, campaign):
        return redirect("label_practice", campaign.public_id)
    return _moved_on(request, campaign, claim_next(request.user, campaign, now=timezone.now()))


@lease_holder
@require_POST
def label_submit(request: AuthenticatedRequest, campaign: Campaign, lease: Slot | LapsedLease) -> HttpResponse:
    entered = Entered()
    try:
        version = whole_number(request.POST.get("form_version") or str(campaign.form_version))
        entered = read_form(request.POST, len(lease.shown_order), form_of(campaign, version))
        _check_partial(entered, len(lease.shown_order))
        ranking, task = submit_and_claim(
            request.user,
            lease,
            now=timezone.now(),
            **answer_of(entered, lease.shown_order, version),
        )
    except InvalidRanking as problem:
        return _refused(request, campaign, str(problem), entered, lease.lease, status=422)
    except LeaseLost as problem:
        return _refused(request, campaign, str(problem), entered, lease.lease, status=409)
    kept = _("Kept as an extra answer, as the item had all it needs") if ranking.late else _("Saved")
    said = _("You cannot tell") if entered.cannot_tell else in_words(entered.order)
    return _moved_on(request, campaign, task, f"{kept}: {said}", can_undo=True)


@lease_holder
@require_POST
def label_skip(request: AuthenticatedRequest, campaign: Campaign, lease: Slot | LapsedLease) -> HttpResponse:
    try:
        skip(request.user, lease, reason=request.POST.get("reason", ""), note=request.POST.get("note", ""))
    except InvalidRanking:
        return _refused(request, campaign, _("Choose a reason to skip this item."), Entered(), lease.lease, status=422)
    except LeaseLost as problem:
        return _refused(request, campaign, str(problem), Entered(), lease.lease, status=409)
    task = claim_next(request.user, campaign, now=timezone.now())
    return _moved_on(request, campaign, task, _("Skipped. Others will get this item."))


@campaign_role(*LABELING_ROLES)
@require_POST
def label_undo(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    try:
        task = undo_last(request.user, campaign, now=timezone.now())
    except CannotUndo as problem:
        return _refused(request, campaign, str(problem), Entered(), None, status=409)
    return _moved_on(request, campaign, task, _("Your last answer was taken back. Answer it again."))


@lease_holder
@require_POST
def label_ahead(request: AuthenticatedRequest, campaign: Campaign, lease: Slot | LapsedLease) -> HttpResponse:
    """The item after this one, for a page that will show it once this one is answered."""
    task = claim_ahead(request.user, lease, now=timezone.now())
    if task is None:
        return HttpResponse(status=204)
    context = screen_context(request, campaign, task, asked=False)
    then = replace(context["progress"], mine=context["progress"].mine + 1)
    return render(request, f"{PAGE}#task", context | {"progress": then})


@lease_holder
@require_POST
def label_heartbeat(request: AuthenticatedRequest, campaign: Campaign, lease: Slot | LapsedLease) -> HttpResponse:
    """Sent by a page that is looked at, so that its item stays with the person."""
    try:
        heartbeat(request.user, lease, now=timezone.now())
    except LeaseLost:
        return HttpResponse(status=409)
    return HttpResponse(status=204)


@lease_holder
@require_POST
def label_release(request: AuthenticatedRequest, campaign: Campaign, lease: Slot | LapsedLease) -> HttpResponse:
    """Sent by a page that is left."""
    leave(request.user, lease, now=timezone.now())
    return HttpResponse(status=204)


def answer_of(entered: Entered, shown_order: Sequence[int], form_version: int) -> Answer:
    """What was entered in the letters of a screen, as an answer. Raises InvalidRanking."""
    return Answer(
        tiers=tiers_of_labels(entered.order, shown_order),
        cannot_tell=entered.cannot_tell,
        flags=entered.flags,
        rationale=entered.rationale,
        active_ms=entered.active_ms,
        details=labels_to_indices(entered.details, shown_order),
        form_version=form_version,
    )


def _check_partial(entered: Entered, size: int) -> None:
    missing = entered.missing(size)
    if missing and len(missing) <= size - 2 and not entered.partial and not entered.cannot_tell:
        text = _("{letters}: no rank yet. Rank them, or tick that you leave them unranked.")
        raise InvalidRanking(text.format(letters=", ".join(missing)))


def _moved_on(
    request: AuthenticatedRequest, campaign: Campaign, task: Task | None, said: str = "", can_undo: bool = False
) -> HttpResponse:
    """After a step: the parts that changed for htmx, else a redirect to the page.

    Without the item, where the page was right about which one would come and shows it already.
    """
    if request.htmx:
        context = screen_context(request, campaign, task, asked=True) | {"said": said, "can_undo": can_undo}
        shown = task is not None and request.POST.get("shown") == str(task.lease)
        return render(request, f"{PAGE}#{'confirmed' if shown else 'moved_on'}", context)
    if said:
        messages.success(request, said)
    response = redirect("label", campaign.public_id)
    if task is None:
        response["Location"] += "?empty"
    return response


def _refused(
    request: AuthenticatedRequest,
    campaign: Campaign,
    problem: str,
    entered: Entered,
    lease_id: UUID | None,
    *,
    status: int,
) -> HttpResponse:
    """Say what is wrong and keep what was entered: htmx leaves the form as it is, a plain page repeats it."""
    if request.htmx:
        response = render(request, "labeling/_problem.html", {"problem": problem, "status": status}, status=status)
        return reswap(retarget(response, "#task-problem"), "innerHTML")
    task = current_task(request.user, campaign)
    same = task is not None and task.lease == lease_id
    context = screen_context(request, campaign, task, entered if same else None, asked=False)
    lost = None if same or not (entered.ranks or entered.rationale) else in_words(entered.order)
    context |= {"problem": problem, "status": status, "lost": lost, "entered": entered}
    return render(request, PAGE, context, status=status)


def _page(request: AuthenticatedRequest, campaign: Campaign, task: Task | None, *, asked: bool) -> HttpResponse:
    return render(request, PAGE, screen_context(request, campaign, task, asked=asked))


def screen_context(
    request: AuthenticatedRequest,
    campaign: Campaign,
    task: Task | None,
    entered: Entered | None = None,
    *,
    asked: bool = False,
) -> dict[str, Any]:
    """What `label.html` shows; `asked`: for an item, so that there being none needs a reason."""
    why = why_empty(request.user, campaign, now=timezone.now()) if task is None and asked else ""
    view = preferences_of(request.user)
    texts = single_texts(task) if task else None
    alike = texts is not None and are_alike(*texts)
    return {
        "view": view,
        "keys": KEYS,
        "alike": alike,
        "differences": dict(zip("AB", word_diff(*texts), strict=True)) if texts and alike and view.diff else {},
        "campaign": campaign,
        "progress": progress(request.user, campaign),
        "screen": screen_of(task, entered) if task else None,
        "why": why,
        "labels": LABELS,
    }

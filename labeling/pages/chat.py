"""The live chat of an annotator: one message box, two columns, a vote. Every step is a POST of a plain form.

There is one chat of a person in a campaign at a time, so no address names it; forms name the one they were made for,
so that a tab with an older one does nothing to it. Nothing here tells which models answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh, reswap, retarget

from accounts.access import AuthenticatedRequest
from labeling.access import LABELING_ROLES, campaign_role
from labeling.chats import sessions
from labeling.chats.screen import open_chat
from labeling.chats.sessions import ChatRefused
from labeling.models import Campaign, Chat, LiveChat
from labeling.protocols.basics import MAX_RATIONALE, InvalidRanking

PAGE = "labeling/chat.html"


@campaign_role(*LABELING_ROLES)
@never_cache
@require_safe
def chat(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    return render(request, PAGE, _context(request, campaign))


@campaign_role(*LABELING_ROLES)
@never_cache
@require_safe
def chat_live(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    """The part that changes while the models write."""
    context = _context(request, campaign)
    if "chat" not in context:  # it was ended in another tab
        return HttpResponseClientRefresh() if request.htmx else redirect("chat", campaign.public_id)
    return render(request, f"{PAGE}#live", context)


@campaign_role(*LABELING_ROLES)
@require_POST
def chat_begin(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    now, chance = timezone.now(), random.SystemRandom()
    return _step(request, campaign, lambda: sessions.begin_chat(request.user, campaign, now=now, chance=chance))


@campaign_role(*LABELING_ROLES)
@require_POST
def chat_say(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    turn = request.POST.get("turn", "")
    number = int(turn) if turn.isascii() and turn.isdigit() and len(turn) < 4 else 0
    message = request.POST.get("message", "")

    def say() -> object:
        return sessions.say(_own(request, campaign), message, turn=number, now=timezone.now())

    return _step(request, campaign, say)


@campaign_role(*LABELING_ROLES)
@require_POST
def chat_again(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    return _step(request, campaign, lambda: sessions.ask_again(_own(request, campaign), now=timezone.now()))


@campaign_role(*LABELING_ROLES)
@require_POST
def chat_vote(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    choice, rationale = request.POST.get("choice", ""), request.POST.get("rationale", "")[: MAX_RATIONALE + 1]
    time = request.POST.get("active_ms", "")
    active_ms = int(time) if time.isascii() and time.isdigit() and len(time) < 12 else 0

    def vote() -> object:
        chat = _own(request, campaign)
        return sessions.vote(chat, choice, rationale=rationale, active_ms=active_ms, now=timezone.now())

    return _step(request, campaign, vote)


@campaign_role(*LABELING_ROLES)
@require_POST
def chat_end(request: AuthenticatedRequest, campaign: Campaign) -> HttpResponse:
    return _step(request, campaign, lambda: sessions.end_chat(_own(request, campaign), now=timezone.now()))


def _own(request: AuthenticatedRequest, campaign: Campaign) -> Chat:
    return sessions.own_chat(request.user, campaign, request.POST.get("chat", ""))


def _step(request: AuthenticatedRequest, campaign: Campaign, do: Callable[[], object]) -> HttpResponse:
    """Do it and show the chat as it is then; or say why not, and leave what was entered."""
    problem = ""
    try:
        do()
    except (ChatRefused, InvalidRanking) as refused:
        problem = str(refused)
    if not request.htmx:
        if not problem:
            return redirect("chat", campaign.public_id)
        context = _context(request, campaign) | {"problem": problem, "message": request.POST.get("message", "")}
        return render(request, PAGE, context, status=409)
    if problem:
        response = render(request, f"{PAGE}#problem", {"problem": problem}, status=409)
        return reswap(retarget(response, "#chat-problem"), "innerHTML")
    return render(request, f"{PAGE}#chat", _context(request, campaign))


def _context(request: AuthenticatedRequest, campaign: Campaign) -> dict[str, Any]:
    live_chat = LiveChat.objects.filter(pk=campaign.pk).first()
    screen = open_chat(request.user, campaign, now=timezone.now())
    context: dict[str, Any] = {
        "campaign": campaign,
        "live_chat": live_chat,
        "mine": sessions.votes_of(request.user, campaign),
        "max_message": sessions.MAX_MESSAGE,
    }
    if screen is None:
        return context | {"why": sessions.why_not(request.user, campaign, live_chat)}
    return context | {"chat": screen.chat, "turns": screen.turns, "state": screen.state}

"""Live chats from a manager's side: which models take part, and how they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from config.push import notify
from labeling.audit import record
from labeling.campaigns import form_of, update_campaign
from labeling.chats.sessions import REQUESTS
from labeling.events import campaign_changed
from labeling.models import Campaign, ChatServer, Contestant, LiveChat


class NoLiveChat(Exception):
    """The campaign cannot have a live chat like this; the message says why, and what to change."""


@dataclass(frozen=True)
class Participant:
    """A model to chat with. `server` says to the workers what has to be in memory for it."""

    model: str
    name: str
    server: str


@transaction.atomic
def set_up(
    campaign: Campaign, participants: Sequence[Participant], *, by: User | None = None, **settings: Any
) -> LiveChat:
    """Make or change the campaign's live chat; `settings` are fields of `LiveChat`. Raises NoLiveChat.

    Who takes no part any more stays known, because chats with them do.
    """
    _check(campaign, participants)
    live_chat = LiveChat.objects.update_or_create(campaign=campaign, defaults=settings)[0]
    live_chat.contestants.update(is_active=False)
    for one in participants:
        server = ChatServer.objects.get_or_create(key=one.server)[0]
        Contestant.objects.update_or_create(
            live_chat=live_chat, model=one.model, defaults={"name": one.name, "server": server, "is_active": True}
        )
    form = form_of(campaign)
    if not (form.both_bad and form.ties):
        update_campaign(campaign, by=by, form=form.document() | {"both_bad": True, "ties": True})
    record(by, "campaign.chat", campaign, models=[one.name for one in participants], settings=settings)
    campaign_changed(campaign)
    notify(REQUESTS)
    return live_chat


def _check(campaign: Campaign, participants: Sequence[Participant]) -> None:
    if campaign.protocol != Campaign.Protocol.CONVERSATION:
        raise NoLiveChat(_("A live chat compares whole conversations: make a campaign with that protocol."))
    if len({one.model for one in participants}) < 2:
        raise NoLiveChat(_("Choose at least two models: each chat is with two of them."))
    names = [one.name for one in participants]
    if twice := {name for name in names if names.count(name) > 1}:
        raise NoLiveChat(
            _("Two of the models are called “{name}”. The report could not tell them apart.").format(name=twice.pop())
        )
    form = form_of(campaign)
    if form.strength or any(question.required for question in form.questions):
        raise NoLiveChat(
            _(
                "A chat's vote says only which conversation is better: take degrees of strength and required questions "
                "out of this campaign's form, or make another campaign."
            )
        )

"""Live chats from a person's side: begin, say something, vote, end.

Two of the campaign's contestants are drawn, on random sides; which ones never leaves the server. What a person says is
stored together with the two replies that it waits for, so a worker that dies loses nothing. A vote makes an ordinary
item of the two conversations as they stand, with an ordinary answer of this person to it: reports, exports and training
know no chats. The item's other slots, if the campaign has an overlap, are given to others like any. After a vote the
chat can go on, and what came of it be judged again.

A chat that nobody used for an hour is over, no sweeper needed. Lock order: campaign, the person's `Contribution`, chat.
"""

from __future__ import annotations

import random
import re
from datetime import datetime, timedelta
from uuid import uuid4

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from accounts.models import User
from config.push import notify
from labeling.data.files import BadLine
from labeling.data.rows import digest, parse_row
from labeling.models import (
    Campaign,
    Chat,
    ChatReply,
    ChatServer,
    ChatTurn,
    Completion,
    Item,
    LiveChat,
    Ranking,
    Slot,
)
from labeling.protocols.basics import Message
from labeling.queue.annotation import submit_ranking
from labeling.queue.assignment import MAX_LEASE, lock_contribution
from labeling.queue.progress import PAUSED

LIFE = timedelta(hours=1)
MAX_MESSAGE = 4000  # characters
PER_MINUTE = 12  # messages of one person
SIDES = ("A", "B")
CHOICES = ("A", "B", "tie", "bad")
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REQUESTS = "chats"
"""The topic on which workers hear that somebody waits."""


class ChatRefused(Exception):
    """This cannot be done now; the message says why, and what to do."""


class TooFast(ChatRefused):
    """More messages than one person writes."""


def topic_of(campaign: Campaign, user: User) -> str:
    """The push topic of one person's chats."""
    return f"chat.{campaign.public_id}.{user.pk}"


def newest_chat(user: User, campaign: Campaign) -> Chat | None:
    """The chat that the person began last, whether it is over or not."""
    return Chat.objects.filter(live_chat=campaign.pk, user=user).order_by("-pk").first()


def votes_of(user: User, campaign: Campaign) -> int:
    """How often the person has voted in this campaign's chats."""
    return ChatTurn.objects.filter(chat__live_chat=campaign.pk, chat__user=user, vote__isnull=False).count()


def is_over(chat: Chat, *, now: datetime) -> bool:
    return chat.ended_at is not None or chat.used_at < now - LIFE


def own_chat(user: User, campaign: Campaign, public_id: str) -> Chat:
    """The chat that a form was made for. Raises ChatRefused if it is not the person's newest one."""
    chat = newest_chat(user, campaign)
    if chat is None or chat.public_id != public_id:
        raise ChatRefused(_("You have begun another chat since. Reload the page to go on with that one."))
    return chat


def why_not(user: User, campaign: Campaign, live_chat: LiveChat | None) -> str:
    """Why this person cannot begin a chat here; empty if they can."""
    if live_chat is None or not live_chat.is_on:
        return _("There is no live chat in this campaign at the moment.")
    if campaign.state != Campaign.State.OPEN:
        return _("This campaign is not open at the moment.")
    if campaign.contributions.filter(user=user, paused_at__isnull=False).exists():
        return PAUSED
    if live_chat.is_complete:
        return _("This campaign has all the votes it wants. Thank you.")
    if live_chat.contestants.filter(is_active=True).count() < 2:
        return _("The models to chat with have not been chosen yet.")
    return ""


@transaction.atomic
def begin_chat(user: User, campaign: Campaign, *, now: datetime, chance: random.Random) -> Chat:
    """A new chat with two contestants drawn by `chance`; one that was open ends. Raises ChatRefused."""
    lock_contribution(user, campaign)
    live_chat = LiveChat.objects.filter(pk=campaign.pk).first()
    if reason := why_not(user, campaign, live_chat):
        raise ChatRefused(reason)
    assert live_chat is not None
    Chat.objects.filter(live_chat=live_chat, user=user, ended_at=None).update(ended_at=now)
    a, b = chance.sample(list(live_chat.contestants.filter(is_active=True).order_by("pk")), 2)
    chat = Chat.objects.create(live_chat=live_chat, user=user, a=a, b=b, used_at=now)
    # Whoever serves them can load them while the person still thinks of what to say.
    ChatServer.objects.filter(contestants__in=(a, b)).update(wanted_at=now)
    notify(REQUESTS)
    return chat


@transaction.atomic
def say(chat: Chat, message: str, *, turn: int, now: datetime) -> ChatTurn:
    """Turn number `turn` (from 0) of the chat. The same turn sent twice is one. Raises ChatRefused."""
    chat = _locked(chat, now)
    known = list(chat.turns.all())
    if turn < len(known):
        return known[turn]
    message = UNSTORABLE.sub("", message).strip()
    _check_message(chat, message, turns=len(known), now=now)
    if known:
        _check_answered(known[-1])
    new = ChatTurn.objects.create(chat=chat, index=len(known), message=message, said_at=now)
    ChatReply.objects.bulk_create(
        ChatReply(turn=new, side=side, contestant=contestant)
        for side, contestant in zip(SIDES, (chat.a, chat.b), strict=True)
    )
    notify(REQUESTS)
    return new


@transaction.atomic
def ask_again(chat: Chat, *, now: datetime) -> None:
    """Have the replies that failed written after all."""
    chat = _locked(chat, now)
    failed = ChatReply.objects.filter(turn__chat=chat, state=ChatReply.State.FAILED)
    if failed.update(state=ChatReply.State.WAITING, attempts=0, text=""):
        ChatServer.objects.filter(contestants__in=(chat.a, chat.b)).update(wanted_at=now)
        notify(REQUESTS)


@transaction.atomic
def vote(chat: Chat, choice: str, *, rationale: str = "", active_ms: int = 0, now: datetime) -> Ranking:
    """Keep which conversation went better: A, B, tie, or bad (both).

    Once a turn; the same sent twice is one vote. Raises ChatRefused, and InvalidRanking where the campaign's form
    does not take such an answer.
    """
    campaign = Campaign.objects.select_for_update(no_key=True).get(pk=chat.live_chat_id)
    lock_contribution(chat.user, campaign)
    chat = _locked(chat, now)
    turns = list(chat.turns.select_related("vote").prefetch_related("replies"))
    if not turns:
        raise ChatRefused(_("Say something first: there is nothing to compare yet."))
    _check_answered(turns[-1])
    if choice not in CHOICES:
        raise ChatRefused(_("Choose A, B, equal or both bad."))
    order = _sides(chat)
    a, b = order.index("A"), order.index("B")
    tiers = {"A": [[a], [b]], "B": [[b], [a]]}.get(choice, [[0, 1]])
    details = {"both_bad": True} if choice == "bad" else {}
    if given := turns[-1].vote:
        if (given.tiers, given.details) == (tiers, details):
            return given  # sent twice
        raise ChatRefused(_("You have judged this already. Go on with the chat, or begin a new one."))
    slot = _add_item(campaign, chat, turns, now)
    ranking = submit_ranking(
        chat.user, slot, now=now, tiers=tiers, details=details, rationale=rationale, active_ms=active_ms
    )
    ChatTurn.objects.filter(pk=turns[-1].pk).update(vote=ranking)
    LiveChat.objects.filter(pk=campaign.pk).update(votes=F("votes") + 1)
    return ranking


def end_chat(chat: Chat, *, now: datetime) -> None:
    """Leave it, voted or not."""
    Chat.objects.filter(pk=chat.pk, ended_at=None).update(ended_at=now)


def _locked(chat: Chat, now: datetime) -> Chat:
    """The chat, locked and noted as used. Raises ChatRefused if it is over."""
    chats = Chat.objects.select_for_update(of=("self",)).select_related("a", "b", "user", "live_chat__campaign")
    chat = chats.get(pk=chat.pk)
    if is_over(chat, now=now):
        raise ChatRefused(_("This chat has ended, because it was left for an hour or begun anew. Begin another one."))
    if not chat.live_chat.is_on or chat.live_chat.campaign.state != Campaign.State.OPEN:
        raise ChatRefused(_("The live chat of this campaign was paused. Your chat goes on when it is opened again."))
    chat.used_at = now
    chat.save(update_fields=["used_at"])
    return chat


def _check_message(chat: Chat, message: str, *, turns: int, now: datetime) -> None:
    if not message:
        raise ChatRefused(_("Write a message first."))
    if len(message) > MAX_MESSAGE:
        raise ChatRefused(
            _("Please use at most %(most)s characters: this message has %(length)s.")
            % {"most": MAX_MESSAGE, "length": len(message)}
        )
    if turns >= chat.live_chat.max_turns:
        raise ChatRefused(_("A chat has at most %s turns. Vote, and begin a new one.") % chat.live_chat.max_turns)
    recent = ChatTurn.objects.filter(chat__user=chat.user, said_at__gt=now - timedelta(minutes=1))
    if recent.count() >= PER_MINUTE:
        raise TooFast(_("That was quick. Wait a minute, then go on."))


def _check_answered(turn: ChatTurn) -> None:
    states = {reply.state for reply in turn.replies.all()}
    if ChatReply.State.FAILED in states:
        raise ChatRefused(_("One of them did not answer. Try again, or begin a new chat."))
    if states != {ChatReply.State.DONE}:
        raise ChatRefused(_("Wait until both have answered."))


def _add_item(campaign: Campaign, chat: Chat, turns: list[ChatTurn], now: datetime) -> Slot:
    """An item of the two conversations, and the slot of it that this person holds."""
    order, names = _sides(chat), {"A": chat.a.name, "B": chat.b.name}
    try:
        row = parse_row(
            {
                "completions": [{"messages": said_on(turns, side), "source": names[side]} for side in order],
                "live_chat": chat.public_id,
                "turns": len(turns),
            },
            campaign.protocol,
        )
    except BadLine:
        raise ChatRefused(
            _("Both said exactly the same, so there is nothing to compare yet. Go on with the chat.")
        ) from None
    item = Item.objects.create(
        campaign=campaign,
        messages=row.messages,
        # Of this chat: others in which the same was said had other contestants.
        content_hash=digest([row.content_hash, chat.public_id]),
        meta=row.meta,
    )
    Completion.objects.bulk_create(
        Completion(item=item, index=index, messages=new.messages, source=new.source)
        for index, new in enumerate(row.completions)
    )
    held = Slot(
        campaign=campaign,
        item=item,
        state=Slot.State.LEASED,
        user=chat.user,
        lease=uuid4(),
        leased_at=now,
        expires_at=now + MAX_LEASE,
        shown_order=[order.index(side) for side in SIDES],
    )
    others = [Slot(campaign=campaign, item=item) for _ in range(campaign.overlap - 1)]
    Slot.objects.bulk_create([held, *others])
    Campaign.objects.filter(pk=campaign.pk).update(slot_count=F("slot_count") + campaign.overlap)
    return held


def _sides(chat: Chat) -> list[str]:
    """A and B in the order in which the item has them: that of the contestants, whatever was drawn for the screen."""
    return sorted(SIDES, key=lambda side: (chat.a if side == "A" else chat.b).pk)


def said_on(turns: list[ChatTurn], side: str) -> list[Message]:
    """One of the two conversations."""
    messages: list[Message] = []
    for turn in turns:
        reply = next(reply for reply in turn.replies.all() if reply.side == side)
        messages += [{"role": "user", "content": turn.message}, {"role": "assistant", "content": reply.text}]
    return messages

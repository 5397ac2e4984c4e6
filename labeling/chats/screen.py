"""What a person sees of their chat: the turns, and what the chat waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from accounts.models import User
from labeling.chats.requests import standing
from labeling.chats.sessions import is_over, newest_chat
from labeling.models import Campaign, Chat, ChatReply, ChatServer, ChatTurn

State = ChatReply.State


@dataclass(frozen=True)
class ChatScreen:
    """An open chat. `state` is what it waits for.

    new: a first message; loading: models; writing: replies; failed: a second try; answered: a vote; voted: nothing.
    """

    chat: Chat
    turns: Sequence[ChatTurn]
    state: str


def open_chat(user: User, campaign: Campaign, *, now: datetime) -> ChatScreen | None:
    """The chat that the person is in."""
    chat = newest_chat(user, campaign)
    if chat is None or is_over(chat, now=now):
        return None
    turns = list(chat.turns.prefetch_related("replies"))
    return ChatScreen(chat, turns, _state(chat, turns, now))


def _state(chat: Chat, turns: Sequence[ChatTurn], now: datetime) -> str:
    if not turns:
        return "new"
    states = {reply.state for reply in turns[-1].replies.all()}
    if states & {State.WAITING, State.WRITING}:
        servers = ChatServer.objects.filter(contestants__in=(chat.a_id, chat.b_id))
        loaded = all(standing(server, now=now) == ChatServer.State.READY for server in servers)
        return "writing" if loaded or State.WRITING in states else "loading"
    if State.FAILED in states:
        return "failed"
    return "voted" if turns[-1].vote_id else "answered"

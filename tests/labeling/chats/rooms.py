"""A campaign with a live chat, and people in it; no model behind it unless a worker runs."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from accounts.models import User
from labeling.chats.sessions import begin_chat, say
from labeling.chats.setup import Participant, set_up
from labeling.models import Campaign, Chat, ChatReply, ChatTurn
from tests.conftest import make_member

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAMES = ("Grumpy uncle", "Kind aunt")
SETTINGS: dict[str, Any] = {"is_on": True, "temperature": 1.0, "max_new_tokens": 40, "max_turns": 3, "target": 5}


def make_live_chat(campaign: Campaign, *, models: tuple[str, str] = ("model1", "model2"), server: str = "base") -> None:
    """Turn a campaign into one with a live chat of two models."""
    Campaign.objects.filter(pk=campaign.pk).update(protocol="conversation")
    campaign.refresh_from_db()
    set_up(campaign, [Participant(model, name, server) for model, name in zip(models, NAMES, strict=True)], **SETTINGS)
    campaign.refresh_from_db()


def begin(user: User, campaign: Campaign, *, now: datetime = NOW, seed: int = 0) -> Chat:
    return begin_chat(user, campaign, now=now, chance=random.Random(seed))


def answer(turn: ChatTurn, a: str = "Answer of the left.", b: str = "Answer of the right.") -> None:
    """What a worker would do."""
    for side, text in (("A", a), ("B", b)):
        ChatReply.objects.filter(turn=turn, side=side).update(state="done", text=text)


def talk(chat: Chat, turns: int = 1, *, now: datetime = NOW) -> None:
    """So many turns with answers."""
    first = chat.turns.count()
    for number in range(first, first + turns):
        answer(say(chat, f"Question {number}?", turn=number, now=now), f"A says {number}", f"B says {number}")


def join(campaign: Campaign, user: User) -> User:
    return make_member(campaign, user, "annotator")

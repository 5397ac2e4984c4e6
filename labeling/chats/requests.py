"""Live chats from a worker's side: which models are wanted, which replies wait, what was written.

A worker takes a server for as long as its heartbeat is fresh, and with it all replies of that server's contestants.
Everything it writes is a conditional update on its name, so one that was thought dead and comes back changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from config.push import notify
from labeling.chats.sessions import LIFE, UNSTORABLE, said_on, topic_of
from labeling.models import ChatReply, ChatServer
from labeling.protocols.basics import Message

IDLE = timedelta(minutes=10)  # models that nobody asked for so long leave the memory
SILENCE = timedelta(seconds=15)  # then a worker is taken for dead
MAX_ATTEMPTS = 3
State = ChatReply.State


@dataclass(frozen=True)
class ReplyRequest:
    """A reply to write: by which model, how, to what."""

    id: int
    model: str
    messages: list[Message]
    temperature: float
    max_new_tokens: int
    topic: str


def wanted_servers(*, now: datetime) -> list[ChatServer]:
    """Servers that somebody waits for, or may soon, and that no living worker has."""
    free = Q(heartbeat_at=None) | Q(heartbeat_at__lt=now - SILENCE)
    wanted = Q(wanted_at__gt=now - IDLE) | Exists(_waiting(now).filter(contestant__server=OuterRef("pk")))
    return list(ChatServer.objects.filter(free, wanted).order_by("pk"))


def standing(server: ChatServer, *, now: datetime) -> str:
    """Its state as far as it can be believed, or "wanted": nobody has taken it yet."""
    if server.heartbeat_at and server.heartbeat_at > now - SILENCE or server.state == ChatServer.State.FAILED:
        return server.state
    return "wanted" if server.wanted_at and server.wanted_at > now - IDLE else ChatServer.State.OFF


def take_server(server: ChatServer, worker: str, *, now: datetime) -> bool:
    """Whether this worker serves it from now on. Replies that a dead one was writing wait again."""
    with transaction.atomic():
        same = ChatServer.objects.filter(pk=server.pk, worker=server.worker, heartbeat_at=server.heartbeat_at)
        if not same.update(worker=worker, heartbeat_at=now, state=ChatServer.State.LOADING, failure=""):
            return False
        put_back(server)
    return True


def beat(server: ChatServer, worker: str, *, ready: bool, now: datetime) -> bool:
    """Say that the worker lives. False if another one has the server."""
    state = ChatServer.State.READY if ready else ChatServer.State.LOADING
    return bool(ChatServer.objects.filter(pk=server.pk, worker=worker).update(heartbeat_at=now, state=state))


def leave_server(server: ChatServer, worker: str, *, failure: str = "") -> None:
    """Nobody serves it any more. After a failure nothing waits for it, and somebody has to ask anew."""
    with transaction.atomic():
        mine = ChatServer.objects.filter(pk=server.pk, worker=worker)
        if failure:
            left = mine.update(
                worker="", heartbeat_at=None, state=ChatServer.State.FAILED, failure=failure, wanted_at=None
            )
        else:
            left = mine.update(worker="", heartbeat_at=None, state=ChatServer.State.OFF)
        if left:
            put_back(server)
        if left and failure:
            _tell(_of(server, State.WAITING), State.FAILED)


def put_back(server: ChatServer) -> None:
    """What was being written waits again; what was begun too often has failed."""
    _tell(_of(server, State.WRITING).filter(attempts__gte=MAX_ATTEMPTS), State.FAILED)
    _of(server, State.WRITING).update(state=State.WAITING, worker="")


def take_replies(server: ChatServer, worker: str, limit: int, *, now: datetime) -> list[ReplyRequest]:
    """The oldest waiting replies, which this worker writes from now on."""
    with transaction.atomic():
        waiting = (
            _waiting(now)
            .filter(contestant__server=server)
            .order_by("pk")
            .select_for_update(skip_locked=True, of=("self",))
        )
        taken = list(
            waiting.select_related("contestant", "turn__chat__live_chat__campaign", "turn__chat__user")[:limit]
        )
        for reply in taken:
            reply.state, reply.worker, reply.attempts = State.WRITING, worker, reply.attempts + 1
        ChatReply.objects.bulk_update(taken, ["state", "worker", "attempts"])
        if taken:
            ChatServer.objects.filter(pk=server.pk).update(wanted_at=now)
    return [_request(reply) for reply in taken]


def write(request: ReplyRequest, worker: str, text: str, *, state: str = State.WRITING, is_cut: bool = False) -> None:
    """Keep what was written so far, or all of it."""
    with transaction.atomic():
        mine = ChatReply.objects.filter(pk=request.id, state=State.WRITING, worker=worker)
        if mine.update(text=UNSTORABLE.sub("", text), state=state, is_cut=is_cut):
            notify(request.topic)


def _waiting(now: datetime) -> QuerySet[ChatReply]:
    """Replies that somebody may still read."""
    alive = {"turn__chat__ended_at": None, "turn__chat__used_at__gt": now - LIFE}
    return ChatReply.objects.filter(state=State.WAITING, **alive)


def _of(server: ChatServer, state: str) -> QuerySet[ChatReply]:
    return ChatReply.objects.filter(contestant__server=server, state=state)


def _tell(replies: QuerySet[ChatReply], state: str) -> None:
    """Bring replies into a state, and hint those who look at them."""
    chats = "turn__chat__live_chat__campaign", "turn__chat__user"
    found = list(replies.select_related(*chats))
    ChatReply.objects.filter(pk__in=[reply.pk for reply in found]).update(state=state, worker="")
    for topic in {_topic(reply) for reply in found}:
        notify(topic)


def _topic(reply: ChatReply) -> str:
    chat = reply.turn.chat
    return topic_of(chat.live_chat.campaign, chat.user)


def _request(reply: ChatReply) -> ReplyRequest:
    turns = list(reply.turn.chat.turns.filter(index__lte=reply.turn.index).prefetch_related("replies"))
    live_chat = reply.turn.chat.live_chat
    return ReplyRequest(
        id=reply.pk,
        model=reply.contestant.model,
        messages=said_on(turns, reply.side)[:-1],  # its own place is empty
        temperature=live_chat.temperature,
        max_new_tokens=live_chat.max_new_tokens,
        topic=_topic(reply),
    )

"""Live chats with a real worker and a real engine: nothing that somebody said is lost, whatever dies."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from django.db import OperationalError
from django.utils import timezone
from transformers import AutoModelForCausalLM, AutoTokenizer

from accounts.models import User
from labeling.chats import requests as chat_requests
from labeling.chats.requests import ReplyRequest
from labeling.chats.sessions import say, vote
from labeling.models import Campaign, Chat, ChatReply, ChatServer, Contestant, LiveChat
from tests.labeling.chats.rooms import NAMES, begin, make_live_chat
from tests.training.conftest import MODEL, Worker, until
from training.engine.models import RoleModel
from training.models import ModelArtifact
from training.serving import Serving

StartWorker = Callable[[], Worker]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy on the demo's model that answers otherwise."""
    folder = tmp_path_factory.mktemp("policy")
    roles = RoleModel(AutoModelForCausalLM.from_pretrained(MODEL), AutoTokenizer.from_pretrained(MODEL), str(MODEL))
    roles.add_fresh("policy", rank=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in roles.parameters("policy"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    roles.save("policy", folder)
    return folder


@pytest.fixture
def chat(campaign: Campaign, annotator: User, adapter: Path) -> Chat:
    """A chat that has just begun, with the base and the policy on it."""
    models = (
        ModelArtifact.objects.create(kind="base", name=NAMES[0], base_model=str(MODEL)),
        ModelArtifact.objects.create(
            kind="policy", name=NAMES[1], base_model=str(MODEL), path=str(adapter), format="adapter"
        ),
    )
    make_live_chat(campaign, models=(models[0].public_id, models[1].public_id), server=str(MODEL))
    return begin(annotator, campaign, now=timezone.now())


def tell(chat: Chat, text: str) -> list[ChatReply]:
    """Say something and wait for both answers."""
    turn = say(chat, text, turn=chat.turns.count(), now=timezone.now())
    replies: list[ChatReply] = until(lambda: settled(turn.pk), what="an answer of both")
    return replies


def settled(turn: int) -> list[ChatReply]:
    replies = list(ChatReply.objects.filter(turn=turn).order_by("side"))
    return replies if {reply.state for reply in replies} <= {"done", "failed"} else []


def engines() -> list[psutil.Process]:
    """Serving engines of this test's workers."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with_it = process.cmdline() if process.is_running() and process.status() != "zombie" else []
        found += [process] if "training.engine.serving" in with_it else []
    return found


def test_two_models_on_one_base_answer_and_the_vote_is_exported(chat: Chat, start_worker: StartWorker) -> None:
    worker = start_worker()
    first = tell(chat, "Hello, my lamp from order 12 arrived broken.")
    assert [reply.state for reply in first] == ["done", "done"]
    assert all(reply.text for reply in first) and first[0].text != first[1].text
    assert len(engines()) == 1
    assert ChatServer.objects.get().state == "ready"
    second = tell(chat, "When will it come?")
    assert [reply.state for reply in second] == ["done", "done"]
    ranking = vote(chat, "B", now=timezone.now())
    best = ranking.item.completions.get(index=ranking.tiers[0][0])
    assert best.source == chat.b.name
    assert best.messages[-1]["content"] == second[1].text
    engine = engines()[0]
    assert worker.terminate() == 0
    until(lambda: not engine.is_running(), what="the end of the engine")
    assert ChatServer.objects.get().state == "off"


def test_an_engine_that_is_killed_in_mid_answer_is_started_again_and_the_answer_comes(
    chat: Chat, start_worker: StartWorker
) -> None:
    LiveChat.objects.update(max_new_tokens=120, temperature=5.0)  # long answers
    start_worker()
    until(lambda: ChatServer.objects.filter(state="ready").exists(), what="a server")
    turn = say(chat, "Hello, my lamp from order 12 arrived broken.", turn=0, now=timezone.now())
    begun = until(lambda: list(turn.replies.filter(state="writing").exclude(text="")), what="the first words")
    victim = engines()[0]
    os.kill(victim.pid, signal.SIGKILL)
    replies = until(lambda: settled(turn.pk), what="an answer of both")
    assert [reply.state for reply in replies] == ["done", "done"]
    again = {reply.side: reply for reply in replies}
    assert all(again[one.side].text.startswith(one.text) for one in begun)  # the same answer, from its beginning
    assert max(reply.attempts for reply in replies) == 2
    assert [process.pid for process in engines()] != [victim.pid]


def test_another_worker_goes_on_where_one_was_killed(chat: Chat, start_worker: StartWorker) -> None:
    first = start_worker()
    until(lambda: ChatServer.objects.filter(state="ready").exists(), what="a server")
    engine = engines()[0]
    first.kill()
    until(lambda: not engine.is_running() or engine.status() == "zombie", what="the end of its engine")
    turn = say(chat, "Hello, my lamp from order 12 arrived broken.", turn=0, now=timezone.now())
    ChatReply.objects.filter(turn=turn, side="A").update(state="writing", worker=ChatServer.objects.get().worker)
    ChatServer.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=20))
    start_worker()
    replies = until(lambda: settled(turn.pk), what="an answer of both")
    assert [reply.state for reply in replies] == ["done", "done"]


# --- One worker's servers, in this process ------------------------------------------------------------------------


@pytest.fixture
def serving() -> Iterator[Serving]:
    serving = Serving("this test")
    yield serving
    serving.stop()


def look_until(serving: Serving, condition: Callable[[], Any], what: str) -> Any:
    def look() -> Any:
        serving.look()
        return condition()

    return until(look, what=what)


def test_a_base_that_cannot_be_loaded_fails_what_waits_and_says_why(chat: Chat, serving: Serving) -> None:
    ChatServer.objects.update(key="/nowhere/at/all")
    turn = say(chat, "Hello?", turn=0, now=timezone.now())
    replies = look_until(serving, lambda: settled(turn.pk), what="the end of it")
    assert [reply.state for reply in replies] == ["failed", "failed"]
    server = ChatServer.objects.get()
    assert (server.state, server.wanted_at) == ("failed", None)
    assert server.failure == "The base model /nowhere/at/all does not exist."
    assert not engines()


def test_what_the_database_could_not_take_is_stored_later_and_who_is_idle_leaves_the_memory(
    chat: Chat, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = say(chat, "Hello, my lamp from order 12 arrived broken.", turn=0, now=timezone.now())
    refused: list[int] = []
    write = chat_requests.write

    def write_later(request: ReplyRequest, *args: Any, **how: Any) -> None:
        refused.append(request.id)
        if len(refused) < 4:
            raise OperationalError("the server closed the connection unexpectedly")
        write(request, *args, **how)

    monkeypatch.setattr(chat_requests, "write", write_later)
    replies = look_until(serving, lambda: settled(turn.pk), what="an answer of both")
    assert [reply.state for reply in replies] == ["done", "done"] and len(refused) >= 4
    monkeypatch.setattr(chat_requests, "IDLE", timedelta(seconds=0))
    look_until(serving, lambda: not engines(), what="the end of the engine")
    assert ChatServer.objects.get().state == "off"


def test_each_base_has_an_engine_and_a_model_that_is_gone_harms_nobody(
    chat: Chat, serving: Serving, tmp_path: Path
) -> None:
    other = shutil.copytree(MODEL, tmp_path / "other")
    ModelArtifact.objects.filter(public_id=chat.b.model).update(base_model=str(other), path="", format="model")
    Contestant.objects.filter(pk=chat.b_id).update(server=ChatServer.objects.create(key=str(other)))
    Contestant.objects.filter(pk=chat.a_id).update(model="gone")
    turn = say(chat, "Hello?", turn=0, now=timezone.now())
    replies = look_until(serving, lambda: settled(turn.pk), what="the end of it")
    assert [reply.state for reply in replies] == ["failed", "done"]
    assert len(engines()) == 2

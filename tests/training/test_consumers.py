from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.utils import timezone

from accounts.models import User
from accounts.preferences import set_preferences
from config.consumers import BAD_MESSAGE, NOT_FOUND
from tests.conftest import make_user
from tests.sockets import Socket
from training.models import RunEvent, TrainingRun
from training.recording import LostClaim, Recorder
from training.supervisor import claim

pytestmark = pytest.mark.django_db(transaction=True)
in_thread = database_sync_to_async


@pytest.fixture
def run(make_run: Callable[..., TrainingRun]) -> TrainingRun:
    run = make_run()
    for seq in range(1, 4):
        RunEvent.objects.create(run=run, seq=seq, type="warning", time=timezone.now(), payload={"message": str(seq)})
    claimed = claim(run.pk)
    assert claimed is not None
    return claimed


def socket_of(user: User, run: TrainingRun) -> Socket:
    return Socket.of(user, f"/ws/runs/{run.public_id}/")


def report(run: TrainingRun, seq: int) -> None:
    """What the supervisor does when the engine wrote an event."""
    event = {"seq": seq, "type": "metrics", "step": seq, "time": 0.0, "metrics": {"loss/train": 0.5}}
    Recorder(run, run.worker).progress([event], 100, {"state": "running", "step": seq, "total_steps": 9})


async def events_in(socket: Socket) -> list[int]:
    """Numbers of the next message that has events."""
    while True:
        message = await socket.receive()
        if message["events"]:
            return [event["seq"] for event in message["events"]]


@pytest.fixture
def opened(researcher: User, run: TrainingRun) -> Socket:
    return socket_of(researcher, run)


async def test_a_client_gets_what_it_missed_and_then_what_happens(opened: Socket, run: TrainingRun) -> None:
    await opened.open()
    await opened.send(json.dumps({"after": 1}))
    assert await events_in(opened) == [2, 3]
    await in_thread(report)(run, 4)
    message = await opened.receive()
    assert [event["seq"] for event in message["events"]] == [4]
    assert message["events"][0]["metrics"] == {"loss/train": 0.5}
    assert (message["run"]["state"], message["run"]["step"]) == ("running", 4)
    await opened.close()


async def test_a_client_reads_where_the_run_stands_in_their_language(researcher: User, run: TrainingRun) -> None:
    await in_thread(set_preferences)(researcher, {"language": "de"})
    opened = await in_thread(socket_of)(researcher, run)
    await opened.open()
    await opened.send(json.dumps({"after": 3}))
    message = await opened.receive()
    assert (message["run"]["label"], message["run"]["line"]) == ("Startet", "Die Engine startet")
    await opened.close()


async def test_nothing_comes_before_the_client_said_where_it_stands(opened: Socket, run: TrainingRun) -> None:
    await opened.open()
    await in_thread(report)(run, 4)
    assert await opened.receive_nothing(timeout=0.5)
    await opened.send(json.dumps({"after": 3}))
    assert await events_in(opened) == [4]
    await opened.close()


@pytest.mark.parametrize("message", ['{"after": "x"}', '{"after": -1}', '{"after": true}', "{}", "[]", "no json"])
async def test_messages_that_make_no_sense_close_the_socket(opened: Socket, message: str) -> None:
    await opened.open()
    await opened.send(message)
    assert await opened.close_code() == BAD_MESSAGE


@pytest.fixture
def foreign(run: TrainingRun, outsider: User, annotator: User) -> list[Socket]:
    users = (outsider, annotator, make_user("colleague", "researcher"))
    return [socket_of(user, run) for user in users] + [Socket.of(annotator, "/ws/runs/")]


async def test_others_hear_nothing(foreign: list[Socket]) -> None:
    for socket in foreign:
        await socket.open()
        assert await socket.close_code() == NOT_FOUND


@pytest.fixture
def list_socket(researcher: User, run: TrainingRun) -> Socket:
    return Socket.of(researcher, "/ws/runs/")


async def test_the_list_tells_of_changed_runs_only(
    list_socket: Socket, run: TrainingRun, make_run: Callable[..., TrainingRun]
) -> None:
    await list_socket.open()
    first = await list_socket.receive()
    assert [state["id"] for state in first["runs"]] == [run.public_id]
    other: Any = await in_thread(make_run)()
    assert [state["id"] for state in (await list_socket.receive())["runs"]] == [other.public_id]
    await in_thread(report)(run, 4)
    changed = (await list_socket.receive())["runs"]
    assert [(state["id"], state["state"]) for state in changed] == [(run.public_id, "running")]
    await list_socket.close()


def test_a_supervisor_without_the_claim_writes_nothing(run: TrainingRun) -> None:
    TrainingRun.objects.filter(pk=run.pk).update(worker="another")
    for write in (lambda: report(run, 4), lambda: Recorder(run, run.worker).heartbeat()):
        with pytest.raises(LostClaim):
            write()
    assert RunEvent.objects.filter(run=run).count() == 3
    assert claim(run.pk) is None  # somebody has it

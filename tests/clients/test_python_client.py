"""The Python client against the real server, and as others install it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import prefloop_client
import pytest
from prefloop_client import Client
from prefloop_client.transport import Transport

from accounts.models import User
from accounts.tokens import create_token
from labeling.data import uploads
from labeling.data.export_files import make_waiting
from labeling.data.samples import read_waiting
from labeling.data.uploads import import_waiting
from labeling.models import Campaign, ChatTurn, ExportFile, Import, Ranking
from tests.conftest import Site, make_user
from tests.labeling.chats import rooms
from tests.labeling.conftest import add_items
from training.models import ModelArtifact, RunEvent, TrainingRun

HERE = Path(__file__).resolve().parents[2] / "clients" / "python"
ROWS = [{"prompt": f"Question {n}?", "completions": [f"yes {n}", f"line\u2028end {n}"]} for n in range(3)]


@pytest.fixture
def boss(transactional_db: None) -> User:
    return make_user("boss", "researcher")


@pytest.fixture
def client(site: Site, boss: User) -> Iterator[Client]:
    with Client(site.url, create_token(boss, name="test")[1]) as client:
        yield client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; how long they would have."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_campaign_from_file_to_answers(client: Client, site: Site, tmp_path: Path) -> None:
    campaign = client.create_campaign("Support", protocol="pair", overlap=1)
    with pytest.raises(prefloop_client.Conflict, match="Import items first") as refused:
        client.set_state(campaign.id, "open")
    assert refused.value.status == 409
    report = client.import_file(campaign.id, write(tmp_path / "rows.jsonl", [*ROWS, {"prompt": 1}]))
    assert (report.accepted, report.rejected, report.errors[0].line) == (3, 1, 4)
    assert [record.id for record in client.imports(campaign.id)] == [report.id]
    make_user("anna")
    assert client.set_member(campaign.id, "anna").role == "annotator"
    assert client.set_state(campaign.id, "open").state == "open"

    anna = Client(site.url, create_token(User.objects.get(username="anna"), name="test")[1])
    found = anna.next_task(campaign.id)
    assert found.task is not None and found.progress.total == 3
    anna.heartbeat(found.task.lease)
    given = anna.submit(found.task.lease, [["B"], ["A"]], rationale="Because.")
    again = anna.submit(found.task.lease, [["B"], ["A"]], rationale="Because.", next=True)
    assert again.ranking == given.ranking and again.task is not None
    anna.skip(again.task.lease, "other")
    third = anna.next_task(campaign.id)
    assert third.task is not None
    anna.submit(third.task.lease, [], cannot_tell=True)
    nothing = anna.next_task(campaign.id)
    assert nothing.task is None and nothing.why.endswith(".")
    assert anna.undo(campaign.id).task.item == third.task.item
    anna.release(anna.next_task(campaign.id).task.lease)
    anna.close()

    rows = list(client.export(campaign.id))
    assert [row["rationale"] for row in rows] == ["Because."]
    assert any("\u2028" in completion["messages"][0]["content"] for completion in rows[0]["completions"])
    client.save_export(campaign.id, tmp_path / "pairs.csv", what="preferences", container="csv")
    assert (tmp_path / "pairs.csv").read_text().startswith("prompt,chosen,rejected")
    assert [path.name for path in tmp_path.glob("*.part")] == []
    listed = list(client.items(campaign.id))
    assert [item.title for item in listed] == ["Question 0?", "Question 1?", "Question 2?"]
    answered = client.item(campaign.id, next(item.id for item in listed if item.answers))
    assert answered.answers[0].username == "anna" and answered.answers[0].created_at.tzinfo is not None
    assert client.report(campaign.id)["people"][0]["username"] == "anna"
    assert client.update_campaign(campaign.id, guidelines="Be kind.").guidelines_version == 2
    assert [one.name for one in client.campaigns()] == ["Support"]
    assert client.campaign(campaign.id).progress.total == 3
    assert {member.username for member in client.members(campaign.id)} == {"boss", "anna"}


def test_a_large_file_is_waited_for_and_a_broken_one_raises(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: list[float]
) -> None:
    monkeypatch.setattr(uploads, "LARGE", 50)
    campaign = client.create_campaign("Large")
    seen: list[prefloop_client.Import] = []

    def progress(record: prefloop_client.Import) -> None:
        seen.append(record)
        import_waiting(lambda: False)

    path = write(tmp_path / "rows.jsonl", ROWS)
    report = client.import_file(campaign.id, path, on_progress=progress)
    assert (report.accepted, [record.accepted for record in seen]) == (3, [0, 3])

    def broken(_: Any) -> None:
        Import.objects.update(failure="No.")

    with pytest.raises(prefloop_client.ImportStopped, match="No."):
        client.import_file(campaign.id, path, on_progress=broken)
    columns = {"prompt": "q", "answers": ["a", "b"]}
    mapped = client.import_file(
        campaign.id, write(tmp_path / "t.jsonl", [{"q": "Q", "a": "1", "b": "2"}]), columns=columns
    )
    assert mapped.accepted == 1


def test_many_items_come_by_pages(client: Client, boss: User) -> None:
    campaign = Campaign.objects.get(public_id=client.create_campaign("Many").id)
    add_items(campaign, 230)
    assert len({item.id for item in client.items(campaign.public_id)}) == 230


def test_items_go_out_and_come_back_and_answers_know_their_form(client: Client, boss: User) -> None:
    campaign = client.create_campaign("Changing")
    row = Campaign.objects.get(public_id=campaign.id)
    first, second = add_items(row, 2)
    client.set_state(campaign.id, "open")
    found = client.next_task(campaign.id)
    assert found.task is not None
    client.submit(found.task.lease, [["A"], ["B"]])
    asked = client.campaign(campaign.id).form
    client.update_campaign(campaign.id, form={"ties": False})
    [answer] = client.item(campaign.id, found.task.item).answers
    assert (answer.form_version, client.campaign(campaign.id).form_version) == (1, 2)
    assert client.form(campaign.id, 1) == asked != client.form(campaign.id, 2) == client.campaign(campaign.id).form
    with pytest.raises(prefloop_client.NotFound):
        client.form(campaign.id, 3)

    client.remove_item(campaign.id, first.public_id)
    assert [item.id for item in client.items(campaign.id)] == [second.public_id]
    assert [item.id for item in client.items(campaign.id, removed=True)] == [first.public_id]
    assert client.item(campaign.id, first.public_id).removed_at is not None
    client.restore_item(campaign.id, first.public_id)
    assert len(list(client.items(campaign.id))) == 2


def test_many_answers_are_made_a_file_of_first(client: Client, tmp_path: Path, quick: list[float]) -> None:
    campaign = client.create_campaign("Large")
    client.import_file(campaign.id, write(tmp_path / "rows.jsonl", [{"prompt": "Q", "chosen": "a", "rejected": "b"}]))
    seen = []

    def work(file: prefloop_client.ExportFile) -> None:
        seen.append(file.finished_at)
        make_waiting(lambda: False)

    target = tmp_path / "pairs.csv"
    client.save_large_export(campaign.id, target, what="preferences", container="csv", on_progress=work)
    assert (seen, target.read_text().splitlines()[0][:13]) == ([None], "prompt,chosen")
    client.save_export(campaign.id, tmp_path / "same.csv", what="preferences", container="csv")
    assert (tmp_path / "same.csv").read_bytes() == target.read_bytes()

    def fail(_: prefloop_client.ExportFile) -> None:
        ExportFile.objects.filter(finished_at=None).update(failure="No.")

    with pytest.raises(prefloop_client.ExportStopped, match="No."):
        client.save_large_export(campaign.id, target, on_progress=fail)
    with pytest.raises(prefloop_client.BadRequest, match="Choose one of"):
        client.save_large_export(campaign.id, target, container="csv")


def test_a_dataset_is_looked_at_and_brought_in(
    client: Client, boss: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    boss.role = "admin"
    boss.save(update_fields=["role"])
    folder = str(tmp_path / "saved")
    table = [{"q": f"Question {n}?", "one": f"yes {n}", "two": f"no {n}"} for n in range(5)]
    datasets.Dataset.from_list(table).save_to_disk(folder)
    campaign = client.create_campaign("Dataset")
    monkeypatch.setattr("time.sleep", lambda _: read_waiting(lambda: False))
    columns = {"prompt": "q", "answers": ["one", "two"]}
    preview = client.sample_dataset(campaign.id, folder, columns=columns)
    assert (preview["rows"], preview["columns"], len(preview["items"])) == (5, ["q", "one", "two"], 3)
    with pytest.raises(prefloop_client.ImportStopped, match="There is no such folder"):
        client.sample_dataset(campaign.id, "/nowhere")
    monkeypatch.setattr("time.sleep", lambda _: import_waiting(lambda: False))
    assert client.import_dataset(campaign.id, folder, columns=columns, limit=4).accepted == 4


def test_a_chat_from_beginning_to_vote(client: Client, boss: User) -> None:
    campaign = client.create_campaign("Chats", protocol="conversation")
    row = Campaign.objects.get(public_id=campaign.id)
    rooms.make_live_chat(row)
    client.set_state(campaign.id, "open")
    assert client.chat(campaign.id) == prefloop_client.OwnChat(chat=None, why="", votes=0, target=5)
    begun = client.begin_chat(campaign.id).chat
    assert begun is not None and (begun.state, begun.turns) == ("new", [])
    client.say(campaign.id, begun.id, 0, "Hello?")
    said = client.say(campaign.id, begun.id, 0, "Hello?").chat
    assert said is not None and [turn.message for turn in said.turns] == ["Hello?"]
    with pytest.raises(prefloop_client.Conflict, match="Wait until both have answered"):
        client.vote(campaign.id, begun.id, "A")
    ChatTurn.objects.get().replies.update(state="failed")
    client.ask_again(campaign.id, begun.id)
    rooms.answer(ChatTurn.objects.get(), "Left", "Right")
    shown = client.chat(campaign.id).chat
    assert shown is not None and [(one.side, one.text) for one in shown.turns[0].replies] == [
        ("A", "Left"),
        ("B", "Right"),
    ]
    for _ in range(2):  # sent twice it is one vote
        voted = client.vote(campaign.id, begun.id, "bad", rationale="Neither.")
    assert voted.votes == Ranking.objects.count() == 1
    client.end_chat(campaign.id)
    assert client.chat(campaign.id).chat is None


def test_runs_and_models(client: Client, boss: User, quick: list[float]) -> None:
    campaign = Campaign.objects.get(public_id=client.create_campaign("Trained").id)
    run = TrainingRun.objects.create(kind="reward", name="First", owner=boss, campaign=campaign, state="running")
    model = ModelArtifact.objects.create(kind="reward", name="RM", base_model="base", run=run)
    for seq in (1, 2):
        payload = {"metrics": {"loss/train": 0.5 / seq}}
        RunEvent.objects.create(run=run, seq=seq, type="metrics", step=seq, time=run.created_at, payload=payload)
    assert [one.id for one in client.runs(campaign.public_id)] == [run.public_id]
    assert list(client.runs("nowhere")) == []

    def finish(_: prefloop_client.Run) -> None:
        TrainingRun.objects.update(state="succeeded")

    over = client.wait_for_run(run.public_id, on_progress=finish)
    assert (over.state, over.artifact, over.is_over) == ("succeeded", model.public_id, True)
    assert [event.data["metrics"]["loss/train"] for event in client.run_events(run.public_id)] == [0.5, 0.25]
    assert [event.seq for event in client.run_events(run.public_id, after=1)] == [2]
    assert [one.run for one in client.models()] == [run.public_id]
    assert client.model(model.public_id).name == "RM"
    with pytest.raises(prefloop_client.Conflict, match="nothing to stop"):
        client.stop_run(run.public_id)
    with pytest.raises(prefloop_client.Conflict, match="only stopped and failed"):
        client.resume_run(run.public_id)
    with pytest.raises(prefloop_client.BadRequest):
        client.start_run("reward", campaign.public_id, base=model.public_id)
    with pytest.raises(prefloop_client.BadRequest):
        client.register_model("/nowhere/at/all")


def test_refusals_are_errors_with_the_servers_sentence(client: Client, site: Site) -> None:
    with pytest.raises(prefloop_client.NotFound):
        client.campaign("nowhere")
    with pytest.raises(prefloop_client.BadRequest, match="overlap"):
        client.create_campaign("x", overlap=0)
    with Client(site.url, "pf_wrong") as stranger, pytest.raises(prefloop_client.NotSignedIn, match="unknown"):
        list(stranger.campaigns())


def test_a_token_does_not_travel_unprotected() -> None:
    with pytest.raises(ValueError, match="use https"):
        Client("http://prefloop.example.org", "pf_x")
    Client("https://prefloop.example.org", "pf_x").close()


def transport(*answers: httpx.Response | Exception) -> tuple[Transport, list[httpx.Request]]:
    """A transport that gets these answers one after another, and what it asked."""
    asked: list[httpx.Request] = []
    rest = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        given = next(rest)
        if isinstance(given, Exception):
            raise given
        return given

    made = Transport("https://x.example", "pf_x", timeout=1)
    made.http = httpx.Client(base_url="https://x.example/api/", transport=httpx.MockTransport(answer))
    return made, asked


def test_what_may_be_sent_twice_is_sent_again(quick: list[float]) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "7"}, json={"detail": "Busy."})
    made, asked = transport(httpx.ReadTimeout("slow"), busy, httpx.Response(200, json={"fine": 1}))
    assert made.json("GET", "campaigns/") == {"fine": 1}
    assert len(asked) == 3 and quick[1] >= 7

    made, asked = transport(*[httpx.Response(503, json={"detail": "Busy."})] * 5)
    with pytest.raises(prefloop_client.ServerError, match="Busy."):
        made.json("POST", "x", again=True)
    assert len(asked) == 5


def test_what_may_not_be_sent_twice_is_only_sent_again_where_it_never_arrived(quick: list[float]) -> None:
    made, asked = transport(httpx.ConnectError("refused"), httpx.Response(201, json={}))
    made.json("POST", "campaigns/")
    assert len(asked) == 2
    for answer in (httpx.ReadTimeout("slow"), httpx.Response(502, text="<html>")):
        made, asked = transport(answer)
        with pytest.raises((prefloop_client.ConnectionFailed, prefloop_client.ServerError)):
            made.json("POST", "campaigns/")
        assert len(asked) == 1


def test_the_example_of_the_readme_works(
    client: Client, site: Site, boss: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user("anna")
    blocks = re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
    token = create_token(boss, name="readme")[1]
    labeling, training = blocks[0].split("    # A reward model from it.")
    code = labeling.replace("https://prefloop.example.org", site.url).replace("pf_...", token)
    monkeypatch.chdir(write(tmp_path / "pairs.jsonl", ROWS).parent)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    campaign = Campaign.objects.get(name="Support replies")
    assert (campaign.state, campaign.items.count()) == ("open", 3)
    methods = set(re.findall(r"client\.(\w+)\(", training + blocks[1]))
    assert methods == {"register_model", "start_run", "wait_for_run", "next_task", "submit"}

    exec(blocks[1], names)  # noqa: S102
    names["label"](client, campaign.public_id, lambda messages, completions: [["B"], ["A"]])
    assert Ranking.objects.count() == 3


def test_the_wheel_is_typed_needs_only_httpx_and_works_by_itself(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(HERE), str(source)], check=True)  # a build writes beside its sources
    subprocess.run([*pip, str(tmp_path), str(source)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        archive.extractall(tmp_path / "installed")
    assert "prefloop_client/py.typed" in names
    assert re.findall(r"^Requires-Dist: (\w+)", about, re.MULTILINE) == ["httpx"]
    code = "import prefloop_client as p, sys; print(p.__file__, 'django' in sys.modules, len(p.__all__))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    ).stdout.split()
    assert found[0].startswith(str(tmp_path / "installed"))
    assert found[1:] == ["False", str(len(prefloop_client.__all__))]

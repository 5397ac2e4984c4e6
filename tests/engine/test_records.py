"""Events, checkpoints, status and artifacts: what is on disk after every kind of ending."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.engine.tiny import events_of, make_run, open_session
from training.engine import artifacts, checkpoints
from training.engine.data import indices_of_step, split_by_prompt
from training.engine.events import EventLog
from training.engine.rundir import RunDir
from training.engine.session import EngineError, Session, StopRequested


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / "run", "sft", {"checkpoint_every": 2, "keep_checkpoints": 2})


def work(session: Session, until: int, total: int = 9) -> dict[str, torch.Tensor]:
    """A trainer in miniature: a sum of random numbers, one event per step."""
    session.stage("train", "Counting.", total_steps=total)
    done, saved = session.resume()
    state = saved or {"sum": torch.zeros(3)}
    for step in range(done + 1, until + 1):
        state["sum"] += torch.rand(3)
        session.metrics(step, {"sum": float(state["sum"][0])})
        session.end_step(step, lambda: state)
    return state


def lines(rundir: RunDir) -> list[tuple[int, int, object]]:
    return [(event["seq"], event["step"], event.get("metrics")) for event in events_of(rundir)]


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(rundir: RunDir, tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", "sft", {"checkpoint_every": 2})
    expected = work(open_session(whole), 9)
    work(open_session(rundir), 5)  # checkpoints at 2 and 4; step 5 is lost
    with rundir.events.open("ab") as file:
        file.write(b'{"seq": 7, "torn')
    state = work(open_session(rundir), 9)
    assert torch.equal(state["sum"], expected["sum"])
    assert lines(rundir) == lines(whole)
    assert [seq for seq, _, _ in lines(rundir)] == list(range(1, 11))


def test_a_run_killed_before_its_first_checkpoint_starts_over(rundir: RunDir) -> None:
    work(open_session(rundir), 1)
    state = work(open_session(rundir), 9)
    assert [seq for seq, _, _ in lines(rundir)] == list(range(1, 11))
    assert state["sum"].min() > 0


@pytest.mark.parametrize("damage", ["truncate", "flip", "no marker", "no state"])
def test_a_torn_checkpoint_is_skipped_and_said(rundir: RunDir, damage: str) -> None:
    work(open_session(rundir), 5)
    newest = rundir.checkpoints / "step_000004"
    state, marker = newest / "state.pt", newest / "complete.json"
    content = state.read_bytes()
    match damage:
        case "truncate":
            state.write_bytes(content[:-100])
        case "flip":
            state.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
        case "no marker":
            marker.unlink()
        case "no state":
            state.unlink()
    work(open_session(rundir), 9)
    warnings = events_of(rundir, "warning")
    assert ["step_000004 cannot be used" in event["message"] for event in warnings] == [True]
    # The repeated events keep their numbers, or a reader who has them would miss others.
    assert warnings[0]["seq"] == 7
    assert [seq for seq, _, _ in lines(rundir)] == list(range(1, 12))


def test_a_checkpoint_of_another_version_is_skipped_and_said(rundir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(rundir, 3, {"a": 1}, seq=1, offset=0, keep=5)
    assert checkpoints.load_newest(rundir)[0] is not None
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 1)
    found, (sentence,) = checkpoints.load_newest(rundir)
    assert found is None
    assert "another version of Prefloop" in sentence


def test_a_crash_while_saving_leaves_the_older_checkpoint(rundir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(rundir)
    work(session, 2)
    monkeypatch.setattr(Path, "rename", lambda *a: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        checkpoints.save(rundir, 3, {}, seq=1, offset=0, keep=2)
    found, warnings = checkpoints.load_newest(rundir)
    assert found is not None and found.step == 2 and warnings == []


def test_the_newest_checkpoints_are_kept(rundir: RunDir) -> None:
    work(open_session(rundir), 9)
    assert sorted(path.name for path in rundir.checkpoints.iterdir()) == ["step_000008", "step_000009"]


def test_checkpoints_are_loaded_without_running_code(rundir: RunDir) -> None:
    """A pickle that would run something is refused by torch's weights-only loader."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    checkpoints.save(rundir, 2, {"x": Evil()}, seq=0, offset=0, keep=2)
    with pytest.raises(Exception, match="[Ww]eights"):
        checkpoints.load_newest(rundir)


def test_stop_saves_and_leaves(rundir: RunDir) -> None:
    rundir.write_control(stop=True)
    with pytest.raises(StopRequested):
        work(open_session(rundir), 9)
    assert [path.name for path in rundir.checkpoints.iterdir()] == ["step_000001"]


def test_save_is_obeyed_once_for_each_time_it_is_asked(rundir: RunDir) -> None:
    rundir.write_control(save=True)
    work(open_session(rundir), 1)
    assert [path.name for path in rundir.checkpoints.iterdir()] == ["step_000001"]
    session = open_session(rundir)
    session.stage("train", total_steps=9)
    session.resume()
    session._save_wish = rundir.control.stat().st_mtime_ns
    session.end_step(3, dict)
    assert not (rundir.checkpoints / "step_000003").exists()


def test_the_status_tells_how_far_it_is(rundir: RunDir) -> None:
    session = open_session(rundir)
    work(session, 3)
    session.write_status()
    status = rundir.read_status()
    assert (status["state"], status["stage"], status["step"], status["total_steps"]) == ("running", "train", 3, 9)
    assert status["eta_seconds"] >= 0
    assert status["device"].startswith("cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_ends_the_run(rundir: RunDir, value: float) -> None:
    with pytest.raises(EngineError, match="loss/train became NaN or infinite at step 3; lower the learning rate"):
        open_session(rundir).metrics(3, {"loss/train": value, "fine": 1.0})


def test_events_are_whole_lines_of_known_types(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.emit("sample", 1, completion="two\nlines", prompt=[])
    with pytest.raises(ValueError, match="unknown event type"):
        log.emit("rumour", 1)
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["completion"] == "two\nlines"


def test_the_same_artifact_has_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    tensors = {"b": torch.ones(2), "a": torch.zeros(3)}
    for name in ("a", "b"):
        session = open_session(make_run(tmp_path / name, "sft", {}))
        artifacts.write(session, "policy", "adapter", {"eval/loss": 0.1 + 0.2}, lambda f: _write(f, tensors))
        contents.append({path.name: path.read_bytes() for path in session.rundir.artifact.iterdir()})
        assert not (session.rundir.path / "artifact.tmp").exists()
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"card.json", "README.md", "weights.safetensors"}
    card = json.loads(contents[0]["card.json"])
    assert (card["kind"], card["format"], card["metrics"]) == ("policy", "adapter", {"eval/loss": 0.3})


def _write(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    artifacts.write_tensors(folder / "weights.safetensors", tensors)


def test_every_pass_takes_every_row_once() -> None:
    taken = [i for step in range(1, 8) for i in indices_of_step(7, 3, step, seed=5)]
    for start in range(0, 21, 7):
        assert sorted(taken[start : start + 7]) == list(range(7))
    assert taken[:7] != taken[7:14]
    assert indices_of_step(7, 3, 4, seed=5) != indices_of_step(7, 3, 4, seed=6)


def test_the_split_keeps_a_prompt_on_one_side() -> None:
    rows = [{"messages": [{"content": str(i % 20)}, {"content": str(i)}]} for i in range(100)]
    train, held_out = split_by_prompt(rows, 0.25, 0)
    assert len(held_out) == 25
    assert sorted([*train, *held_out]) == list(range(100))
    sides = [{rows[i]["messages"][0]["content"] for i in side} for side in (train, held_out)]
    assert not sides[0] & sides[1]

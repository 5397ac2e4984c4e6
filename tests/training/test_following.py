"""Reading files while another process writes them, cuts them back and writes on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.engine.events import EventLog
from training.engine.rundir import RunDir
from training.following import EventReader, StatusReader, last_line, log_tail


def lines(*sequence: int, size: int = 1) -> str:
    return "".join(json.dumps({"seq": seq, "text": "x" * size}) + "\n" for seq in sequence)


def read(reader: EventReader) -> list[int]:
    events, offset = reader.read()
    reader.advance(events, offset)
    return [event["seq"] for event in events]


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path, 0, 0)
    assert read(reader) == [] and not reader.has_news()
    path.write_text(lines(1, 2) + '{"seq": 3, "te')
    assert reader.has_news() and read(reader) == [1, 2]
    assert read(reader) == []
    path.write_text(lines(1, 2, 3))
    assert read(reader) == [3] and not reader.has_news()


def test_reading_again_before_it_is_stored_gives_the_same_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(lines(1, 2))
    reader = EventReader(path, 0, 0)
    assert reader.read() == reader.read()


def test_a_file_cut_back_is_read_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(lines(1, 2, 3, 4))
    reader = EventReader(path, 0, 0)
    read(reader)
    path.write_text(lines(1, 2))
    assert read(reader) == [1, 2]
    path.write_text(lines(1, 2, 3, 4, 5))
    assert read(reader) == [3, 4, 5]


def test_a_file_cut_back_and_grown_past_the_offset_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(lines(1, 2, 3, 4))
    reader = EventReader(path, 0, 0)
    read(reader)
    path.write_text(lines(1, 2) + lines(3, 4, 5, 6, size=40))
    assert read(reader) == [1, 2, 3, 4, 5, 6]


def test_a_damaged_file_is_an_error_not_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(lines(1) + "\x00\x00\n" + lines(3))
    with pytest.raises(ValueError):
        EventReader(path, 0, 0).read()


@settings(deadline=None)
@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(1, 4)),
            st.tuples(st.just("resume"), st.integers(0, 20)),
            st.tuples(st.just("read"), st.none()),
            st.tuples(st.just("restart"), st.none()),
        ),
        max_size=30,
    )
)
def test_whatever_the_engine_does_the_rows_end_as_the_file(tmp_path_factory: Any, actions: list) -> None:
    """The engine's own event log, killed and resumed at any point, read at any point, by readers that die as well.

    A resumed engine repeats what it had written, apart from the time and the numbers of digits in measured speeds.
    """
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    log = EventLog(path)
    marks = [(0, 0)]  # what checkpoints stored
    rows: dict[int, dict] = {}
    stored = (0, 0)
    reader = EventReader(path, 0, 0)

    def store() -> None:
        nonlocal stored
        events, offset = reader.read()
        rows.update({event["seq"]: event for event in events})
        reader.advance(events, offset)
        stored = (offset, max(rows, default=0))

    for action, number in actions:
        if action == "write":
            for _ in range(number):
                log.emit("warning", 0, message="y" * (log.seq * 7 % 30), speed=round(random.random(), log.seq % 3))
                marks.append((log.seq, log.offset))
        elif action == "resume":
            log.close()
            marks = marks[: max(len(marks) - number, 1)]
            log = EventLog(path, *marks[-1])
        elif action == "read":
            store()
        else:
            reader = EventReader(path, *stored)
    store()
    in_file = [json.loads(line) for line in path.read_text().splitlines()]
    assert [rows[event["seq"]]["message"] for event in in_file] == [event["message"] for event in in_file]


def test_a_status_is_news_once_and_that_of_an_earlier_engine_never(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    reader = StatusReader(rundir)
    assert not reader.has_news() and reader.read() == {}
    rundir.write_status({"state": "failed"})
    assert reader.has_news() and reader.read() == {"state": "failed"}
    reader.seen()
    assert not reader.has_news()
    reader.forget()
    assert not reader.has_news() and reader.read() == {}
    rundir.write_status({"state": "running"})
    assert reader.has_news() and reader.read() == {"state": "running"}


def test_the_end_of_a_log_survives_any_bytes(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    assert log_tail(rundir) == "" and "said nothing" in last_line(rundir)
    rundir.log.write_bytes(b"a" * 100 + "ü\x00\n".encode() + b"\xff out of memory\n")
    assert log_tail(rundir, 30).endswith("out of memory\n") and "\x00" not in log_tail(rundir)
    assert last_line(rundir).endswith("out of memory")

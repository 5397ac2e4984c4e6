import os
import socket
import sys
from pathlib import Path

import pytest

from demo.processes import ChildFailed, Processes, free_port


def test_a_busy_port_moves_on_to_the_next_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = busy.getsockname()[1]
        port = free_port(taken)
        assert port > taken
        socket.create_server(("127.0.0.1", port)).close()


def test_a_child_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    processes = Processes(tmp_path, os.environ)
    processes.start("good", [sys.executable, "-c", "import sys; assert sys.stdin.read() == 'x'"], stdin=b"x")
    processes.finish("good")
    processes.start("bad", [sys.executable, "-c", "raise SystemExit('no database here')"])
    with pytest.raises(ChildFailed, match="no database here"):
        processes.finish("bad")


def test_stopping_ends_every_child_also_one_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.processes.PATIENCE", 0.5)
    processes = Processes(tmp_path, os.environ)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    processes.start("polite", [sys.executable, "-c", "import time; time.sleep(60)"])
    processes.start("deaf", [sys.executable, "-c", deaf])
    while "up" not in (tmp_path / "deaf.log").read_text():
        processes.check()
    pids = [child.pid for child in processes._children.values()]
    processes.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

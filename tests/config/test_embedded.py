"""The embedded PostgreSQL: starting twice, at once, and after every kind of sudden death."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from config.embedded.server import Server, ServerFailed

ROOT = Path(__file__).resolve().parents[2]
FAST = "-c fsync=off"
USER = """
import sys, time, psycopg
from pathlib import Path
from config.embedded.server import Server
server = Server(Path(sys.argv[1]), "-c fsync=off")
with psycopg.connect(**server.parameters(), dbname="postgres") as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT)") if sys.argv[2] == "create" else None
    connection.execute("INSERT INTO notes VALUES ('kept')") if sys.argv[2] == "create" else None
    print(connection.execute("SELECT 1").fetchone()[0], flush=True)
time.sleep(float(sys.argv[3]))
"""


def start_user(data: Path, action: str = "look", stay: float = 0.0) -> subprocess.Popen[str]:
    """A process that uses the server and stays for a while."""
    command = [sys.executable, "-c", USER, str(data), action, str(stay)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def open_connection(server: Server) -> psycopg.Connection:
    return psycopg.connect(make_conninfo(dbname="postgres", **server.parameters()))


def notes(server: Server) -> list[str]:
    with open_connection(server) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]


def postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split()[0])


def wait_until_gone(pid: int) -> None:
    psutil.wait_procs([psutil.Process(pid)], timeout=20) if psutil.pid_exists(pid) else None


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one note in it, made by a process that has ended."""
    data = tmp_path_factory.mktemp("var") / "postgres"
    user = start_user(data, "create")
    assert user.communicate(timeout=120)[0].strip() == "1"
    return data


@pytest.fixture
def server(data: Path) -> Iterator[Server]:
    server = Server(data, FAST)
    yield server
    server.leave()
    assert not (data / "postmaster.pid").exists(), "the last one out stops the server"


def test_the_last_user_stops_the_server(data: Path) -> None:
    assert not (data / "postmaster.pid").exists()
    first, second = Server(data, FAST), Server(data, FAST)
    assert notes(first) == notes(second) == ["kept"]
    pid = postmaster(data)
    first.leave()
    assert notes(second) == ["kept"]
    assert postmaster(data) == pid, "it went on for the second"
    second.leave()
    assert not (data / "postmaster.pid").exists()


def test_many_first_starts_at_once_make_one_server(tmp_path: Path) -> None:
    users = [start_user(tmp_path / "postgres", stay=1) for _ in range(4)]
    results = [user.communicate(timeout=120) for user in users]
    assert [out.strip() for out, _ in results] == ["1"] * 4, [error for _, error in results]
    assert [user.returncode for user in users] == [0] * 4, [error for _, error in results]
    assert not (tmp_path / "postgres" / "postmaster.pid").exists(), [error for _, error in results]


def test_a_killed_server_is_started_again_with_everything_committed(server: Server, data: Path) -> None:
    assert notes(server) == ["kept"]
    os.kill(pid := postmaster(data), signal.SIGKILL)
    wait_until_gone(pid)
    assert notes(server) == ["kept"]
    assert postmaster(data) != pid


def test_a_server_process_killed_in_mid_query_is_recovered_from(server: Server) -> None:
    with open_connection(server) as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        connection.close()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert notes(server) == ["kept"]
            return
        except psycopg.OperationalError:  # the server restarts its processes by itself
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_killed_user_does_not_keep_the_server_alive(server: Server, data: Path) -> None:
    user = start_user(data, stay=60)
    assert user.stdout is not None
    assert user.stdout.readline().strip() == "1"
    assert notes(server) == ["kept"]
    user.kill()
    user.communicate()  # the fixture then finds that this process was the last user


@pytest.mark.parametrize("content", ["", "{me}\n", "{me}\n{data}\n1700000000\n5432\n{data}\n\n  5432001 0\nready   \n"])
def test_a_pid_file_from_before_a_crash_is_no_hindrance(server: Server, data: Path, content: str) -> None:
    """Torn, or naming a process that is somebody else by now: here this very test."""
    (data / "postmaster.pid").write_text(content.format(me=os.getpid(), data=data))
    assert notes(server) == ["kept"]


def test_a_socket_left_behind_is_not_taken_for_a_server(server: Server, data: Path) -> None:
    assert notes(server) == ["kept"]
    os.kill(pid := postmaster(data), signal.SIGKILL)
    wait_until_gone(pid)
    assert (data / ".s.PGSQL.5432").exists()
    assert notes(server) == ["kept"]


def test_a_web_process_that_is_told_to_end_stops_the_server_it_used_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = os.environ | {"PREFLOOP_VAR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings"}
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", port]
    web = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").json()["status"] == "ok"
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline and web.poll() is None
            time.sleep(0.1)
    web.terminate()
    assert web.wait(timeout=60) == -signal.SIGTERM
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()


def test_only_the_owner_can_read_anything(server: Server, data: Path) -> None:
    notes(server)
    for path in data.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((data / ".s.PGSQL.5432").stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(data.parent.stat().st_mode) & 0o066 == 0, "passing through is all that others may"


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    server = Server(deep / "postgres", FAST)
    with open_connection(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    server.leave()
    server.socket_dir.rmdir()


def test_files_of_another_version_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(ServerFailed, match="made by PostgreSQL 15"):
        Server(tmp_path / "postgres").ensure_running()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18\n")
    with pytest.raises(ServerFailed, match="pg_ctl failed"):
        Server(tmp_path / "postgres").ensure_running()

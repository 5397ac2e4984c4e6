"""Start or resume the run in a run directory: `python -m training.engine RUN_DIR`.

Exit codes: 0 succeeded, 3 stopped (resumable), 1 failed with one sentence in `status.json`. Anything else is a
crash: starting the same command again resumes from the newest complete checkpoint.

A run that asks for several devices is computed by as many processes, which this one starts; each of them, and each
that torchrun or Ray starts, is this program again, and finds its place in the environment.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
import threading
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .cluster import submit
from .config import LOCAL, RAY, ConfigError, read_config
from .launch import launch, leave
from .rundir import FAILED, LOST, STOPPED, SUCCEEDED, RunDir

FEW = 8  # processes that any machine may try


def main(arguments: list[str] | None = None) -> int:
    """Run the directory named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.engine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="folder with config.json and data/")
    rundir = RunDir(parser.parse_args(arguments).run_dir)
    # OpenMP threads that spin while they wait starve a busy neighbour; libgomp reads this when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        kind, config = read_config(rundir.config)
        manifest = rundir.verify_manifest()
    except (ConfigError, ValueError, OSError) as error:
        return _fail(rundir, str(error))
    if "RANK" not in os.environ:  # this process is the first
        devices = getattr(config, "devices", 1)
        if getattr(config, "executor", LOCAL) == RAY:
            return _submit(rundir, devices, config.device)
        if devices > (most := max(FEW, os.cpu_count() or 1)):  # each is a program with torch in memory
            return _fail(rundir, f"The run asks for {devices} devices of a machine that can serve {most}.")
        if devices > 1:
            return launch(rundir.path, devices)
    return _run(rundir, kind, config, manifest)


def _submit(rundir: RunDir, devices: int, device: str) -> int:
    if find_spec("ray") is None:
        return _fail(rundir, f"The run asks for Ray, which is not installed here: set executor to {LOCAL}.")
    return submit(rundir, devices, device)


def _run(rundir: RunDir, kind: str, config: Any, manifest: dict[str, Any]) -> int:
    from .parallel import lost_another  # brings torch: only after the environment is set
    from .session import EngineError, Session, StopRequested

    session = None
    try:
        session = Session(rundir, kind, config, manifest)
        current = session

        def ask_to_stop(number: int, frame: Any) -> None:
            current.stop = True

        if threading.current_thread() is threading.main_thread():  # Ray has the signals
            signal.signal(signal.SIGTERM, ask_to_stop)
        importlib.import_module(f".{kind}", __package__).run(session)
    except StopRequested:
        assert session is not None
        session.events.close()
        session.write_status("stopped")
        return STOPPED
    except Exception as error:
        if lost_another(error):
            print(f"Another process of the run is gone: {error}", file=sys.stderr, flush=True)
            return LOST
        sentence = str(error) if isinstance(error, EngineError) else explain(error, config)
        return _fail(rundir, sentence, session)
    session.events.close()
    session.write_status("succeeded")
    return SUCCEEDED


def explain(error: Exception, config: Any) -> str:
    """One sentence about an exception nobody foresaw, with the remedy where it is known."""
    if _is_out_of_memory(error):
        knobs = [
            name for name in ("micro_batch_size", "batch_size", "max_length", "max_new_tokens") if hasattr(config, name)
        ]
        values = ", ".join(f"{name} (now {getattr(config, name)})" for name in knobs)
        return f"Out of memory: lower {values}, or take a smaller base model."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full: free some space and resume the run."
    traceback.print_exception(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def _fail(rundir: RunDir, sentence: str, session: Any = None) -> int:
    print(sentence, file=sys.stderr, flush=True)
    try:
        if session is not None:
            session.write_status("failed", error=sentence)
        else:
            step = {"stage": "start", "step": 0, "total_steps": 0, "eta_seconds": None, "device": None}
            rundir.write_status({"state": "failed", **step, "error": sentence})
    except OSError as error:  # a full disk: the exit code and the log still say it
        print(error, file=sys.stderr, flush=True)
    return FAILED


if __name__ == "__main__":
    leave(main())

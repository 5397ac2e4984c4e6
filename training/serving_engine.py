"""The engine process that serves one base, as the worker sees it: requests go in, the newest answers come out."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from training.engine.config import CommonConfig, to_json
from training.engine.rundir import RunDir, write_atomic
from training.process import environment

PATIENCE = 10.0  # seconds from the end of its input to SIGKILL


@dataclass(frozen=True)
class Answer:
    """The newest that the engine said to a request: writing, done or failed."""

    state: str
    text: str = ""
    is_cut: bool = False
    error: str = ""


class ServingEngine:
    """A process that loads the base and then answers. It ends when its input does, so it never outlives the worker."""

    def __init__(self, base: str) -> None:
        self.is_ready, self.failure = False, ""
        rundir = RunDir(Path(settings.VAR) / "serving" / hashlib.sha256(base.encode()).hexdigest()[:16])
        rundir.create()
        write_atomic(rundir.config, json.dumps(to_json("serving", CommonConfig(base=base))))
        self.log = rundir.log
        self._news: dict[int, Answer] = {}
        self._lock = threading.Lock()
        with rundir.log.open("ab") as log:
            self._process = subprocess.Popen(
                [settings.ENGINE_PYTHON or sys.executable, "-m", "training.engine.serving", str(rundir.path)],
                cwd=settings.BASE_DIR,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                text=True,
                encoding="utf-8",
            )
        self._reader = threading.Thread(target=self._read, name="answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """It is gone, and all that it said has been read."""
        return not self._reader.is_alive()

    def ask(self, request: dict[str, Any]) -> None:
        """Hand in a request, see `training.engine.serving.Request`. To a dead engine it is lost: see `has_ended`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def take(self) -> dict[int, Answer]:
        """The newest answers since the last call, by request."""
        with self._lock:
            news, self._news = self._news, {}
        return news

    def stop(self) -> None:
        """End it: it has nothing to save."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):  # half a line, of an engine that was killed
                self._note(json.loads(line))
        self._process.wait()

    def _note(self, message: dict[str, Any]) -> None:
        if "id" in message:
            answer = Answer(
                message["state"], message.get("text", ""), message.get("cut", False), message.get("error", "")
            )
            with self._lock:
                self._news[message["id"]] = answer
        elif message["state"] == "ready":
            self.is_ready = True
        else:
            self.failure = message["error"]

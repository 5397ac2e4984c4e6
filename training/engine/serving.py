"""Answer chats as long as somebody asks: `python -m training.engine.serving DIRECTORY`.

The directory has a `config.json` with the base; `status.json` and the log go there. Requests come as lines of JSON on
standard input, answers leave on standard output; when the input ends, because the worker closed it or died, so does
the program. It keeps nothing that a worker could miss.

The base is in memory once, policies are adapters on it. What waits at the same moment for the same policy is answered
together; those groups take turns, a token each, so that nobody waits for another answer's end. A request's random
numbers follow from its id, so it gives the same answer again, up to rounding: who asks anew after a crash reads on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .config import CommonConfig
from .data import generator_for
from .models import RoleModel, adapter_folder, load_base
from .rollout import Sampling
from .rollout.reference import ReferenceEngine, collect
from .rundir import FAILED, SUCCEEDED, RunDir
from .session import EngineError, Session
from .tokens import decode, encode_prompts, end_ids

PULSE = 0.1  # seconds between two parts of an answer
MAX_PROMPT_TOKENS = 8192  # older turns are dropped

Emit = Callable[[dict[str, Any]], None]
Tokens = tuple[Tensor, Tensor]  # ids and log-probs (rows, steps)


@dataclass(frozen=True)
class Request:
    """`adapter` is the policy's folder, empty for the base itself."""

    id: int
    adapter: str
    messages: list[dict[str, str]]
    max_new_tokens: int
    temperature: float


class Kind(NamedTuple):
    """What requests must share to be answered together."""

    role: str
    max_new_tokens: int
    temperature: float


@dataclass
class Group:
    """Requests that are answered together: `steps` gives all tokens so far after each one."""

    role: str
    steps: Iterator[Tokens]
    open: dict[int, int]  # row -> id of a request that was not told its whole answer yet
    newest: Tokens | None = None
    told_at: float = 0.0


class Answerer:
    """Groups of running answers, and the policies loaded so far."""

    def __init__(self, roles: RoleModel, emit: Emit) -> None:
        self.roles, self._emit = roles, emit
        self.groups: list[Group] = []
        self._ends = end_ids(roles)
        self._engine = ReferenceEngine(roles)
        self._roles = {"": "base"}  # adapter -> role
        self._numbers = count(1)

    def admit(self, requests: Sequence[Request]) -> None:
        """Begin to answer. A request that cannot be answered is told so; the others do not suffer."""
        kinds: dict[Kind, list[tuple[Request, list[int]]]] = defaultdict(list)
        for request in requests:
            try:
                kind = self._kind(request)
                row = {"id": request.id, "messages": request.messages}
                limits = {"max_tokens": MAX_PROMPT_TOKENS, "new_tokens": kind.max_new_tokens}
                kinds[kind].append((request, encode_prompts(self.roles, [row], **limits)[0]))
            except EngineError as error:
                self._emit({"id": request.id, "state": "failed", "error": str(error)})
        for kind, rows in kinds.items():
            sampling = Sampling(kind.max_new_tokens, kind.temperature, tuple(self._ends))
            uniforms = [torch.rand(kind.max_new_tokens, generator=generator_for(0, "chat", r.id)) for r, _ in rows]
            steps = self._engine.stream([ids for _, ids in rows], sampling, torch.stack(uniforms))
            self.groups.append(Group(kind.role, steps, {row: request.id for row, (request, _) in enumerate(rows)}))

    @torch.no_grad()
    def step(self) -> None:
        """One token for every running answer."""
        now = time.monotonic()
        for group in list(self.groups):
            self.roles.use(group.role)
            found = next(group.steps, None)
            group.newest = found or group.newest
            if found is None or now - group.told_at >= PULSE:
                group.told_at = now
                self._tell(group, over=found is None)
            if not group.open:
                self.groups.remove(group)

    def _tell(self, group: Group, *, over: bool) -> None:
        assert group.newest is not None
        ends = torch.tensor(self._ends, device=self.roles.device)
        for row, answer in enumerate(collect(*group.newest, ends)):
            if row not in group.open:
                continue
            text = decode(self.roles, answer)
            if answer.finished or over:
                self._emit({"id": group.open.pop(row), "state": "done", "text": text, "cut": not answer.finished})
            else:  # a character may need the next token
                self._emit({"id": group.open[row], "state": "writing", "text": text.rstrip("\ufffd")})

    def _kind(self, request: Request) -> Kind:
        """Loads the policy if nobody has asked it yet. Raises EngineError."""
        if request.adapter not in self._roles:
            role = f"policy{next(self._numbers)}"  # a new name, also after one that could not be loaded
            self.roles.add_saved(role, adapter_folder(request.adapter))
            self._roles[request.adapter] = role
        longest = request.max_new_tokens
        if self.roles.context:  # the other half is for what was said
            longest = min(longest, self.roles.context // 2)
        return Kind(self._roles[request.adapter], longest, request.temperature)


def serve(answerer: Answerer, waiting: queue.SimpleQueue[Request | None]) -> None:
    """Answer what waits until a None says that nothing more will come."""
    while True:
        requests = [waiting.get()] if not answerer.groups else []
        while not waiting.empty():
            requests.append(waiting.get())
        if None in requests:
            return  # whoever asked is gone, so nobody reads the answers that are still running
        answerer.admit([request for request in requests if request])
        answerer.step()


def read_requests(lines: Iterable[str], waiting: queue.SimpleQueue[Request | None]) -> None:
    """Put each line of the input into the queue, and a None behind the last one."""
    for line in lines:
        waiting.put(Request(**json.loads(line)))
    waiting.put(None)


def main(arguments: list[str] | None = None) -> int:
    """Serve the base that the directory names; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.engine.serving", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("directory", type=Path, help="folder with config.json")
    rundir = RunDir(parser.parse_args(arguments).directory)
    emit = _take_standard_output()
    waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    threading.Thread(target=read_requests, args=(sys.stdin, waiting), daemon=True).start()
    config = CommonConfig(**json.loads(rundir.config.read_text(encoding="utf-8"))["settings"])
    session = Session(rundir, "serving", config, {})
    try:
        session.stage("load", "Loading the base model.")
        answerer = Answerer(load_base(session), emit)
    except EngineError as error:
        session.write_status("failed", error=str(error))
        emit({"state": "failed", "error": str(error)})
        return FAILED
    session.stage("serve", "Ready.")
    emit({"state": "ready"})
    serve(answerer, waiting)
    session.write_status("succeeded")
    return SUCCEEDED


def _take_standard_output() -> Emit:
    """Writes answers to where standard output led; whatever else is printed goes to the log, with the errors."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    return emit


if __name__ == "__main__":
    sys.exit(main())

"""`make demo` (or `python -m demo`): the real server and worker, simulated annotators, the whole loop, in minutes.

Variables: SEED=n changes every random number, SHUFFLE=1 deals the annotators' ranks at random (the control in which
nothing can be learned), EXIT=1 stops at the end, PORT=n is where to look for a free port first.
The report is written to var/demo/report.json. Starting again on the same var/ keeps the accounts (with new passwords)
and everything made before, and adds new campaigns and runs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx

from demo import stages
from demo.client import RequestRefused
from demo.loop import run_loop, write_report
from demo.processes import ROOT, ChildFailed, Processes, child_environment, free_port
from demo.stages import StageFailed, Story

ROLES = {"admin": "admin", "researcher": "researcher", "annotator": "annotator"}
PROBLEMS = (ChildFailed, RequestRefused, StageFailed, httpx.HTTPError)


@dataclass(frozen=True)
class Wishes:
    """What the environment asks for."""

    seed: int
    shuffle: bool
    exit_at_end: bool
    port: int

    @classmethod
    def from_environment(cls) -> Wishes:
        def on(name: str) -> bool:
            return os.environ.get(name, "") not in ("", "0")

        def number(name: str, default: int) -> int:
            text = os.environ.get(name) or str(default)
            if not text.isdecimal():
                raise SystemExit(f"{name} must be a whole number, not {text!r}.")
            return int(text)

        return cls(number("SEED", 0), on("SHUFFLE"), on("EXIT"), number("PORT", 8000))


def main() -> None:
    wishes = Wishes.from_environment()
    signal.signal(signal.SIGTERM, _interrupt)
    var = Path(os.environ.get("PREFLOOP_VAR", ROOT / "var"))
    folder = var / "demo"
    for path in (var, folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    processes = Processes(folder, child_environment())
    try:
        _demo(wishes, processes, var)
    except KeyboardInterrupt:
        print("\nStopping.", flush=True)
    except PROBLEMS as error:
        print(f"\nThe demo cannot go on: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from error
    finally:
        processes.stop()


def _demo(wishes: Wishes, processes: Processes, var: Path) -> None:
    folder = var / "demo"
    port = free_port(wishes.port)
    story = Story(
        url=f"http://127.0.0.1:{port}",
        seed=wishes.seed,
        shuffle=wishes.shuffle,
        processes=processes,
        started=time.monotonic(),
    )
    if port != wishes.port:
        story.say(f"Port {wishes.port} is busy; using {port}.")
    story.begin("Starting: database, server, worker, and the first replies of the language model.")
    shutil.rmtree(folder / "first-replies", ignore_errors=True)
    replies = stages.start_first_replies(processes, folder / "first-replies", wishes.seed)
    _start_server(story, port)
    _print_log_ins(story)
    with story.sign_in("researcher") as researcher:
        campaign = stages.open_campaign(story, researcher)
        story.say(f"First comparison: {story.url}/campaigns/{campaign}/label/")
        story.end("first_comparison")
        processes.finish("first-replies")
        items = stages.import_items(researcher, campaign, "first-replies.jsonl", stages.first_replies(replies))
        story.say(f"{items} questions with {stages.COMPLETIONS} replies each of the language model are in.")
        story.end("start")
        report = run_loop(story, researcher, campaign, var / "runs")
    write_report(folder / "report.json", report)
    story.say(f"Report in {folder / 'report.json'}:\n{json.dumps(report, indent=1)}")
    if not wishes.exit_at_end:
        story.say(f"Still serving at {story.url}, for you to rank and train. Ctrl-C stops.")
        while True:
            processes.check()
            time.sleep(1.0)


def _start_server(story: Story, port: int) -> None:
    """Migrate, make the accounts, start server and worker, and wait until pages are served."""
    story.make_accounts(ROLES)
    server = ["uvicorn", "config.asgi:application", "--host", "127.0.0.1", "--port", str(port)]
    processes = story.processes
    processes.start("server", [sys.executable, "-m", *server, "--log-level", "warning"])
    processes.start("worker", [sys.executable, "manage.py", "worker"])
    processes.wait_for(story.url)


def _print_log_ins(story: Story) -> None:
    lines = [f"  {name:12s} {story.passwords[name]}" for name in ROLES]
    story.say("\n".join([f"Open {story.url} and sign in as", *lines]))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt

"""The whole loop, one function per stage, through the HTTP API as a researcher and forty annotators would do it.

first replies -> campaign -> rankings -> reward model -> PPO -> replies of old and new policy -> comparisons
"""

from __future__ import annotations

import itertools
import json
import random
import secrets
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo import world
from demo.client import Client, Quota, answer_tasks
from demo.labelers import Labeler
from demo.processes import Processes
from training.engine.rundir import RunDir, read_jsonl, write_jsonl

MODEL = Path(__file__).parent / "model"
GUIDELINES = """\
You are judging replies of a shop's support desk. Put the reply first that a customer would be happiest with.

1. It is about the **item the customer names**, not another one.
2. It promises the **action that solves this problem**.
3. It is **courteous once**. Rude replies go last; thanking twice is tiresome.
4. It **stops** when everything is said.

Replies that are equally good (or equally bad) may share a rank.
"""

DESK_PROMPTS, TRAINING_PROMPTS, HELD_OUT_PROMPTS, COMPLETIONS = 24, 800, 300, 4
OVERLAP = 2
LABELS = 1300
"""Of the 1,648 slots: some prompts have two opinions, which defines agreement, and some are left for people."""
MAX_NEW_TOKENS = 40
# A model of a million parameters wants larger steps than the defaults, which are for models a thousand times its size.
REWARD_SETTINGS: dict[str, Any] = {"learning_rate": 3e-3, "head_learning_rate": 5e-3, "epochs": 4}
PPO_SETTINGS: dict[str, Any] = {
    "max_new_tokens": MAX_NEW_TOKENS,
    "iterations": 40,
    "learning_rate": 3e-3,
    "value_learning_rate": 3e-3,
}
KL_COEFFICIENT, LARGEST_KL_COEFFICIENT = 0.03, 10.0
SAMPLING_SETTINGS: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS, "completions": 1, "batch_size": 300}
JUDGES_PER_PAIR = 3
COMPARISONS = 600
"""Of the 900 slots; the rest is left for people."""

Json = dict[str, Any]


class StageFailed(RuntimeError):
    """A stage did not give what the next one needs; the message says which and why."""


@dataclass
class Story:
    """What is known so far, what it took, and where to tell it."""

    url: str
    seed: int
    shuffle: bool
    processes: Processes
    started: float
    passwords: dict[str, str] = field(default_factory=dict)
    report: Json = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    _stage_started: float = 0.0
    # Each attempt counts against the server's limit of failed sign-ins until it has succeeded.
    _sign_ins: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(4))

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)

    def begin(self, text: str) -> None:
        self._stage_started = time.monotonic()
        self.say(text)

    def end(self, stage: str) -> None:
        self.seconds[stage] = round(time.monotonic() - self._stage_started, 1)

    def sign_in(self, username: str) -> Client:
        with self._sign_ins:
            return Client(self.url, username, self.passwords[username])

    def make_accounts(self, roles: dict[str, str]) -> None:
        """Accounts by name and role, with new passwords, of which only hashes are stored."""
        people = [
            {"username": name, "role": role, "password": self.passwords.setdefault(name, secrets.token_urlsafe(12))}
            for name, role in roles.items()
        ]
        command = [sys.executable, "-m", "demo.people"]
        self.processes.start("accounts", command, stdin=json.dumps(people).encode())
        self.processes.finish("accounts")


# First replies: drawn by the engine itself while the server is still starting.


def start_first_replies(processes: Processes, folder: Path, seed: int) -> RunDir:
    """Start the engine on a sampling run over training questions."""
    rundir = RunDir(folder)
    rundir.create()
    asked = questions(seed, DESK_PROMPTS, DESK_PROMPTS + TRAINING_PROMPTS)
    rows = [{"id": str(number), "messages": _user(question.text)} for number, question in enumerate(asked)]
    rundir.write_manifest({"prompts.jsonl": write_jsonl(rundir.data / "prompts.jsonl", rows)})
    settings = {"base": str(MODEL), "seed": seed, "completions": COMPLETIONS, "batch_size": 400}
    config = {"kind": "sampling", "settings": settings | {"max_new_tokens": MAX_NEW_TOKENS}}
    rundir.config.write_text(json.dumps(config), encoding="utf-8")
    processes.start("first-replies", [sys.executable, "-m", "training.engine", str(rundir.path)])
    return rundir


def first_replies(rundir: RunDir) -> bytes:
    """The drawn replies as a file to import."""
    rows = read_jsonl(rundir.artifact / "completions.jsonl")
    return _jsonl((row["messages"], [one["messages"][-1]["content"] for one in row["completions"]]) for row in rows)


def desk_replies(seed: int) -> bytes:
    """A few questions with replies that the support desk itself wrote: something to rank at once."""
    return written(seed, questions(seed, 0, DESK_PROMPTS), COMPLETIONS)


def held_out_replies(seed: int) -> bytes:
    """Held-out questions, with two replies each of the support desk because an item needs some."""
    return written(seed, itertools.islice(world.questions(seed=seed, held_out=True), HELD_OUT_PROMPTS), 2)


def questions(seed: int, start: int, stop: int) -> Iterable[world.Question]:
    return itertools.islice(world.questions(seed=seed, held_out=False), start, stop)


def written(seed: int, asked: Iterable[world.Question], replies: int) -> bytes:
    rng = random.Random(seed)
    return _jsonl((_user(one.text), [world.exchange(rng, one).reply for _ in range(replies)]) for one in asked)


def _user(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


def _jsonl(items: Iterable[tuple[list[Json], list[str]]]) -> bytes:
    return b"".join(
        json.dumps({"messages": messages, "completions": completions}).encode() + b"\n"
        for messages, completions in items
    )


# Campaigns and annotators.


def open_campaign(story: Story, researcher: Client) -> str:
    """Create the campaign, import some items, let the person at the screen in, open it; return its id."""
    campaign = create_campaign(researcher, "Support replies", protocol="ranking", overlap=OVERLAP)
    import_items(researcher, campaign, "desk.jsonl", desk_replies(story.seed))
    add_members(researcher, campaign, ["annotator"])
    researcher.post(f"/api/campaigns/{campaign}/state", {"state": "open"})
    return campaign


def import_items(researcher: Client, campaign: str, name: str, rows: bytes) -> int:
    """Bring in a file; return how many items it gave."""
    brought = researcher.upload(f"/api/campaigns/{campaign}/imports", name, rows)
    return int(brought["accepted"])


def create_campaign(researcher: Client, name: str, *, protocol: str, overlap: int) -> str:
    body = {"name": name, "guidelines": GUIDELINES, "protocol": protocol, "overlap": overlap}
    return str(researcher.post("/api/campaigns/", body)["id"])


def add_members(researcher: Client, campaign: str, usernames: Iterable[str]) -> None:
    for username in usernames:
        researcher.post(f"/api/campaigns/{campaign}/members", {"username": username, "role": "annotator"})


def annotate(story: Story, researcher: Client, campaign: str, people: Sequence[Labeler], quota: Quota) -> int:
    """These people get accounts, sign in, and answer side by side; return how many answers they gave."""
    story.make_accounts({person.name: "annotator" for person in people})
    add_members(researcher, campaign, [person.name for person in people])

    def work(person: Labeler) -> int:
        with story.sign_in(person.name) as client:
            return answer_tasks(client, campaign, person, quota, seed=story.seed, shuffle=story.shuffle)

    with ThreadPoolExecutor(len(people)) as pool:
        return sum(pool.map(work, people))


# Runs.


def base_model(researcher: Client) -> str:
    """The id of the demo's language model; registering it again gives the same."""
    body = {"name": "Support desk (demo)", "path": str(MODEL)}
    return str(researcher.post("/api/artifacts/", body)["id"])


def start_run(researcher: Client, kind: str, name: str, **more: Any) -> str:
    return str(researcher.post("/api/runs/", {"kind": kind, "name": name, **more})["id"])


def kl_coefficient(accuracy: float) -> float:
    """beta for a reward model of which this accuracy is certain.

    Scores are normalised to a standard deviation of 1, which hides how much of it is noise: to PPO, a model that has
    learned nothing looks as sure as a good one. Its edge over a coin, 2 accuracy - 1, is what was divided out, so beta
    is divided by it too. A model that cannot be told from a coin keeps the policy where it is.
    """
    return round(KL_COEFFICIENT / max(2 * accuracy - 1, KL_COEFFICIENT / LARGEST_KL_COEFFICIENT), 4)


def follow(story: Story, researcher: Client, run: str, watched: Sequence[str]) -> Json:
    """Tell how the run goes until it has succeeded; return it as it is then. Raises StageFailed."""
    after, told = 0, -1
    metrics: dict[str, float] = {}
    while True:
        state = researcher.get(f"/api/runs/{run}")
        page = researcher.get(f"/api/runs/{run}/events", after=after)
        after = page["last"]
        for event in page["results"]:
            metrics |= event.get("metrics", {})
        tenth = 10 * state["step"] // max(state["total_steps"], 1)
        if tenth > told and metrics:
            told = tenth
            values = "  ".join(f"{name} {metrics[name]:.3f}" for name in watched if name in metrics)
            story.say(f"  step {state['step']} of {state['total_steps']}  {values}")
        if state["state"] == "succeeded":
            return dict(state)
        if state["state"] in ("failed", "stopped"):
            raise StageFailed(f"Run “{state['name']}” {state['state']}: {state.get('error')}")
        time.sleep(0.5)


def campaign_from(researcher: Client, run: str, name: str, *, overlap: int) -> str:
    """A new campaign of the replies that a sampling run drew."""
    body = {"name": name, "protocol": "pair", "overlap": overlap}
    return str(researcher.post(f"/api/runs/{run}/campaign", body)["id"])

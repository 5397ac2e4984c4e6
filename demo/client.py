"""The demo's way into the application: HTTP only, with a real log-in, as any other client would come.

Simulated annotators see what a person sees: messages and lettered completions in the order shown.
"""

from __future__ import annotations

import json
import re
from types import TracebackType
from typing import Any

import httpx
import numpy as np

from demo import gold, labelers

Json = dict[str, Any]


class RequestRefused(RuntimeError):
    """The application answered with an error; the message holds the status and what it said."""


class Client:
    """One signed-in person."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.username = username
        self._http = httpx.Client(base_url=url, timeout=60.0)
        self._sign_in(username, password)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _sign_in(self, username: str, password: str) -> None:
        """Fill in the sign-in form, with the CSRF token that it carries."""
        page = self._http.get("/accounts/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        if token is None:
            raise RequestRefused(f"No sign-in form at {page.url} ({page.status_code}).")
        form = {"login": username, "password": password, "csrfmiddlewaretoken": token[1]}
        answer = self._http.post("/accounts/login/", data=form)
        if answer.status_code != 302 or "sessionid" not in self._http.cookies:
            said = " ".join(re.findall(r"<li[^>]*>([^<]+)</li>", answer.text))
            raise RequestRefused(f"{username} could not sign in ({answer.status_code}). {said}")

    def get(self, path: str, **query: Any) -> Any:
        return self._answer(self._http.get(path, params=query))

    def lines(self, path: str, **query: Any) -> list[Json]:
        """Rows of a JSONL download."""
        response = self._http.get(path, params=query)
        if response.is_error:
            self._answer(response)
        return [json.loads(line) for line in response.text.splitlines()]

    def post(self, path: str, body: Json | None = None) -> Any:
        return self._answer(self._http.post(path, json=body or {}, headers=self._csrf()))

    def upload(self, path: str, name: str, content: bytes) -> Any:
        files = {"file": (name, content, "application/x-ndjson")}
        return self._answer(self._http.post(path, files=files, headers=self._csrf()))

    def _csrf(self) -> dict[str, str]:
        return {"X-CSRFToken": self._http.cookies["csrftoken"]}

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_error:
            request = response.request
            raise RequestRefused(f"{request.method} {request.url.path}: {response.status_code} {response.text[:500]}")
        return response.json() if response.content else None


class Quota:
    """How many more answers are wanted of all annotators together. `next` on a count is atomic."""

    def __init__(self, answers: int) -> None:
        self._left = iter(range(answers))

    def take(self) -> bool:
        return next(self._left, None) is not None


def answer_tasks(
    client: Client, campaign: str, person: labelers.Labeler, quota: Quota, *, seed: int, shuffle: bool
) -> int:
    """Answer tasks of the campaign until it has none for this person or the quota is used up; return how many."""
    rng = np.random.default_rng([seed, *person.name.encode()])
    answers, seconds = 0, 0.0
    if not quota.take():
        return 0
    reply = client.post(f"/api/campaigns/{campaign}/next")
    while task := reply["task"]:
        lease = f"/api/leases/{task['lease']}"
        try:
            tiers = _opinion(person, task, rng, hours=seconds / 3600)
        except gold.NotUnderstood:
            tiers = []
        if not tiers or labelers.skips(person, rng):
            reply = client.post(f"{lease}/skip", {"reason": "unclear", "next": True})
            continue
        if shuffle:
            tiers = labelers.shuffled(tiers, rng)
        spent = labelers.active_seconds(person, rng)
        seconds += spent
        labels = [[task["completions"][place]["label"] for place in tier] for tier in tiers]
        more = quota.take()
        reply = client.post(
            f"{lease}/submit",
            {"tiers": labels, "flags": [], "rationale": "", "active_ms": round(spent * 1000), "next": more},
        )
        answers += 1
        if not more:
            break
    return answers


def _opinion(person: labelers.Labeler, task: Json, rng: np.random.Generator, *, hours: float) -> labelers.Tiers:
    prompt = task["messages"][-1]["content"]
    replies = [completion["messages"][-1]["content"] for completion in task["completions"]]
    return labelers.rank(person, labelers.utilities(person, prompt, replies), rng, hours=hours)

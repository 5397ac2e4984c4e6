"""The sockets of the run pages. The pages are right without them: polling gives the same messages."""

from __future__ import annotations

from typing import Any

from django.http import Http404

from accounts.models import User
from config.consumers import TopicConsumer
from training.access import get_run
from training.events import changes_since, live_state
from training.models import TrainingRun


class RunConsumer(TopicConsumer):
    """Follow one run. The client says `{"after": seq}` once; from then on it gets what comes after, each event once."""

    policy = "run"
    interval = 0.05
    after: int | None = None

    def authorize(self, user: User) -> str:
        return get_run(user, self.route["run_id"]).topic

    def handle(self, message: dict[str, Any]) -> None:
        after = message["after"]
        if not isinstance(after, int) or isinstance(after, bool) or after < 0:
            raise ValueError("after must be the number of an event.")
        self.after = after

    def changes(self, user: User) -> list[dict[str, Any]]:
        if self.after is None:
            return []
        run = get_run(user, self.route["run_id"])
        messages = [changes_since(run, self.after)]
        while messages[-1]["more"]:
            messages.append(changes_since(run, messages[-1]["last"]))
        self.after = messages[-1]["last"]
        return messages


class RunListConsumer(TopicConsumer):
    """Follow the list of runs: the live columns of those that changed since the last message."""

    policy = "researcher"
    interval = 0.5
    shown = 50

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told: dict[str, dict[str, Any]] = {}

    def authorize(self, user: User) -> str:
        if not user.is_researcher:
            raise Http404
        return "runs"

    def changes(self, user: User) -> list[dict[str, Any]]:
        now = {run.public_id: live_state(run) for run in TrainingRun.objects.visible_to(user)[: self.shown]}
        changed = [state for key, state in now.items() if self.told.get(key) != state]
        self.told = now
        return [{"runs": changed}] if changed else []

"""Campaigns, items, imports, work, answers and runs of one Prefloop server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs, urlsplit

from prefloop_client.errors import ExportStopped, ImportStopped
from prefloop_client.models import (
    Campaign,
    Event,
    ExportFile,
    Import,
    Item,
    ListedItem,
    Member,
    Model,
    Next,
    OwnChat,
    Run,
    Submitted,
    parse,
)
from prefloop_client.transport import Transport

T = TypeVar("T")
Role = Literal["manager", "reviewer", "annotator"]
State = Literal["open", "paused", "closed"]
POLL = 1.0  # seconds between questions how far something is


class Client:
    """Everything a person with this token may do. Raises subclasses of `PrefloopError`.

    Requests that may be sent twice are: after a broken connection, an overloaded or a restarting server.
    """

    def __init__(self, base_url: str, token: str, *, timeout: float = 60.0) -> None:
        self._transport = Transport(base_url, token, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.http.close()

    # --- Campaigns ------------------------------------------------------------------------------------------------

    def campaigns(self) -> Iterator[Campaign]:
        """The campaigns you are a member of, newest first."""
        return self._pages(Campaign, "campaigns/")

    def campaign(self, campaign: str) -> Campaign:
        """One campaign, with its progress."""
        return parse(Campaign, self._get(f"campaigns/{campaign}"))

    def create_campaign(self, name: str, **fields: Any) -> Campaign:
        """A draft. Fields: `preset`, `protocol`, `form`, `overlap`, `order`, `guidelines` and what else the API has."""
        return parse(Campaign, self._post("campaigns/", {"name": name, **fields}))

    def update_campaign(self, campaign: str, **fields: Any) -> Campaign:
        """Change some of the same fields."""
        return parse(Campaign, self._send("PATCH", f"campaigns/{campaign}", json=fields, again=True))

    def set_state(self, campaign: str, state: State) -> Campaign:
        """Open, pause or close."""
        return parse(Campaign, self._post(f"campaigns/{campaign}/state", {"state": state}, again=True))

    def members(self, campaign: str) -> Iterator[Member]:
        """Who works in it."""
        return self._pages(Member, f"campaigns/{campaign}/members")

    def set_member(self, campaign: str, username: str, role: Role = "annotator") -> Member:
        """Add somebody who has an account, or change their role."""
        body = {"username": username, "role": role}
        return parse(Member, self._post(f"campaigns/{campaign}/members", body, again=True))

    def form(self, campaign: str, version: int) -> dict[str, Any]:
        """What the campaign asked in this version of its form, which answers name as `form_version`."""
        found: dict[str, Any] = self._get(f"campaigns/{campaign}/forms/{version}")["form"]
        return found

    def report(self, campaign: str) -> dict[str, Any]:
        """Progress, people, agreement and leaderboard, as the API describes them."""
        found: dict[str, Any] = self._get(f"campaigns/{campaign}/report")
        return found

    # --- Items and files ------------------------------------------------------------------------------------------

    def items(self, campaign: str, *, removed: bool = False) -> Iterator[ListedItem]:
        """All items without their texts, oldest first; or those that were taken out."""
        return self._pages(ListedItem, f"campaigns/{campaign}/items", {"removed": "true"} if removed else {})

    def item(self, campaign: str, item: str) -> Item:
        """One item with its completions and everybody's answers."""
        return parse(Item, self._get(f"campaigns/{campaign}/items/{item}"))

    def remove_item(self, campaign: str, item: str) -> None:
        """Take an item out: nobody is given it, and its answers do not count until it is restored."""
        self._send("DELETE", f"campaigns/{campaign}/items/{item}", again=True)

    def restore_item(self, campaign: str, item: str) -> None:
        """Put it back, with its answers."""
        self._post(f"campaigns/{campaign}/items/{item}/restore", again=True)

    def imports(self, campaign: str) -> Iterator[Import]:
        """The files that were brought in, newest first."""
        return self._pages(Import, f"campaigns/{campaign}/imports")

    def import_file(
        self,
        campaign: str,
        path: str | Path,
        *,
        form: str = "",
        columns: dict[str, Any] | None = None,
        on_progress: Callable[[Import], object] | None = None,
        wait: bool = True,
    ) -> Import:
        """Bring in a file, and wait until all of it was read, unless told not to.

        `form` names a format; `columns` maps a table of another form: `{"prompt": ..., "answers": [...]}`. The same
        file again brings nothing twice. Raises ImportStopped where a worker could not read on.
        """
        data = {"form": form} if form else {}
        if columns:
            data["columns"] = json.dumps(columns)
        path = Path(path)
        with path.open("rb") as file:
            sent = self._send("POST", f"campaigns/{campaign}/imports", files={"file": (path.name, file)}, data=data)
        return self._imported(campaign, parse(Import, sent), on_progress, wait)

    def sample_dataset(
        self, campaign: str, name: str, *, form: str = "", columns: dict[str, Any] | None = None, **which: Any
    ) -> dict[str, Any]:
        """What the first rows of a dataset of the Hugging Face hub would bring, as the API describes a preview.

        `which`: `subset` and `split`. Raises ImportStopped where it could not be read.
        """
        samples = f"campaigns/{campaign}/imports/dataset/samples"
        address = f"{samples}/{self._post(samples, {'name': name, **which})['id']}"
        reading = {"form": form} if form else {}
        if columns:
            reading["columns"] = json.dumps(columns)
        while not ((sample := self._get(address, reading))["preview"] or sample["failure"]):
            time.sleep(POLL)
        if sample["failure"]:
            raise ImportStopped(sample["failure"])
        preview: dict[str, Any] = sample["preview"]
        return preview

    def import_dataset(
        self,
        campaign: str,
        name: str,
        *,
        on_progress: Callable[[Import], object] | None = None,
        wait: bool = True,
        **fields: Any,
    ) -> Import:
        """Bring in a dataset of the Hugging Face hub. Fields: `subset`, `split`, `limit`, `form`, `columns`.

        Raises ImportStopped where a worker could not read on.
        """
        sent = self._post(f"campaigns/{campaign}/imports/dataset", {"name": name, **fields})
        return self._imported(campaign, parse(Import, sent), on_progress, wait)

    def import_report(self, campaign: str, import_id: int) -> Import:
        """How far an import is, with its first refused lines."""
        return parse(Import, self._get(f"campaigns/{campaign}/imports/{import_id}"))

    def _imported(
        self, campaign: str, record: Import, on_progress: Callable[[Import], object] | None, wait: bool
    ) -> Import:
        while wait and record.finished_at is None and not record.failure:
            if on_progress:
                on_progress(record)
            time.sleep(POLL)
            record = self.import_report(campaign, record.id)
        if record.failure:
            raise ImportStopped(record.failure)
        if on_progress:
            on_progress(record)
        return record

    # --- Work -----------------------------------------------------------------------------------------------------

    def next_task(self, campaign: str) -> Next:
        """The item you hold, or the next one."""
        return parse(Next, self._post(f"campaigns/{campaign}/next", again=True))

    def submit(self, lease: str, tiers: Sequence[Sequence[str]], *, next: bool = False, **fields: Any) -> Submitted:
        """Give a ranking: labels in tiers, best first; none with `cannot_tell=True`. Sent twice it is kept once.

        Fields: `cannot_tell`, `flags`, `rationale`, `details` (what the task's `form` asks for), `active_ms` and what
        else the API has.
        """
        body = {"tiers": [list(tier) for tier in tiers], "next": next, **fields}
        return parse(Submitted, self._post(f"leases/{lease}/submit", body, again=True))

    def skip(self, lease: str, reason: str, note: str = "") -> None:
        """Pass the item by: you do not get it again, others do."""
        self._post(f"leases/{lease}/skip", {"reason": reason, "note": note})

    def release(self, lease: str) -> None:
        """Give the item back unanswered."""
        self._post(f"leases/{lease}/release", again=True)

    def heartbeat(self, lease: str) -> None:
        """Say that the item is still being looked at."""
        self._post(f"leases/{lease}/heartbeat", again=True)

    def undo(self, campaign: str) -> Next:
        """Take your last answer back and get its item again."""
        return parse(Next, self._post(f"campaigns/{campaign}/undo"))

    # --- Live chat ------------------------------------------------------------------------------------------------

    def chat(self, campaign: str) -> OwnChat:
        """Your chat with two hidden models. Ask again while its state is `loading` or `writing`."""
        return parse(OwnChat, self._get(f"campaigns/{campaign}/chat"))

    def begin_chat(self, campaign: str) -> OwnChat:
        """Begin one; the one you had ends."""
        return parse(OwnChat, self._post(f"campaigns/{campaign}/chat"))

    def say(self, campaign: str, chat: str, turn: int, message: str) -> OwnChat:
        """Say something to both. Turns count from 0; the same turn sent again is no new one."""
        body = {"chat": chat, "turn": turn, "message": message}
        return parse(OwnChat, self._post(f"campaigns/{campaign}/chat/say", body, again=True))

    def ask_again(self, campaign: str, chat: str) -> OwnChat:
        """Ask who did not answer again."""
        return parse(OwnChat, self._post(f"campaigns/{campaign}/chat/again", {"chat": chat}))

    def vote(
        self, campaign: str, chat: str, choice: Literal["A", "B", "tie", "bad"], rationale: str = "", active_ms: int = 0
    ) -> OwnChat:
        """Say which conversation goes better; `bad`: neither. Sent twice it is one vote."""
        body = {"chat": chat, "choice": choice, "rationale": rationale, "active_ms": active_ms}
        return parse(OwnChat, self._post(f"campaigns/{campaign}/chat/vote", body, again=True))

    def end_chat(self, campaign: str) -> None:
        """Leave your chat."""
        self._send("DELETE", f"campaigns/{campaign}/chat", again=True)

    # --- Answers out ----------------------------------------------------------------------------------------------

    def export(self, campaign: str, what: str = "rankings") -> Iterator[dict[str, Any]]:
        """Accepted answers, row by row as they arrive. What there is: `docs/formats.md`."""
        with self._transport.open("GET", f"campaigns/{campaign}/export", params={"what": what}) as response:
            rest = b""
            for chunk in response.iter_bytes():
                # Only \n ends a line: httpx's own lines also end at characters that JSON texts may hold.
                *lines, rest = (rest + chunk).split(b"\n")
                yield from map(json.loads, lines)

    def save_export(self, campaign: str, path: str | Path, *, what: str = "rankings", container: str = "jsonl") -> None:
        """The same into a file: `jsonl`, `csv` or `parquet`. The file is there once it is complete."""
        self._save(f"campaigns/{campaign}/export", Path(path), {"what": what, "as": container})

    def save_large_export(
        self,
        campaign: str,
        path: str | Path,
        *,
        what: str = "rankings",
        container: str = "jsonl",
        on_progress: Callable[[ExportFile], object] | None = None,
    ) -> None:
        """The same, made by a worker before it is downloaded. Raises ExportStopped where it could not make it."""
        exports = f"campaigns/{campaign}/exports"
        file = parse(ExportFile, self._post(exports, {"what": what, "container": container}, again=True))
        while file.finished_at is None and not file.failure:
            if on_progress:
                on_progress(file)
            time.sleep(POLL)
            file = parse(ExportFile, self._get(f"{exports}/{file.id}"))
        if file.failure:
            raise ExportStopped(file.failure)
        self._save(f"{exports}/{file.id}/file", Path(path))

    def _save(self, address: str, target: Path, parameters: dict[str, Any] | None = None) -> None:
        draft = target.with_name(target.name + ".part")
        with self._transport.open("GET", address, params=parameters) as response, draft.open("wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
        draft.replace(target)

    # --- Training -------------------------------------------------------------------------------------------------

    def models(self) -> Iterator[Model]:
        """The models you may use, newest first."""
        return self._pages(Model, "artifacts/")

    def model(self, model: str) -> Model:
        """One model and where it comes from."""
        return parse(Model, self._get(f"artifacts/{model}"))

    def register_model(self, path: str, name: str = "") -> Model:
        """A base model by hub name or by a path on the server. The same path again gives the model there is."""
        return parse(Model, self._post("artifacts/", {"path": path, "name": name}, again=True))

    def runs(self, campaign: str = "") -> Iterator[Run]:
        """The runs you may see, newest first."""
        return self._pages(Run, "runs/", {"campaign": campaign} if campaign else {})

    def run(self, run: str) -> Run:
        """One run with its state and progress."""
        return parse(Run, self._get(f"runs/{run}"))

    def start_run(self, kind: Literal["sft", "reward", "ppo", "sampling"], campaign: str, **fields: Any) -> Run:
        """Start a run. Fields: `base`, `reward`, `name`, `settings`, `selection` and what else the API has."""
        return parse(Run, self._post("runs/", {"kind": kind, "campaign": campaign, **fields}))

    def stop_run(self, run: str) -> Run:
        """Finish the step, save, stop."""
        return parse(Run, self._post(f"runs/{run}/stop"))

    def resume_run(self, run: str) -> Run:
        """Go on from the newest checkpoint."""
        return parse(Run, self._post(f"runs/{run}/resume"))

    def run_events(self, run: str, after: int = 0) -> Iterator[Event]:
        """What a run has reported behind an event, so far."""
        more = True
        while more:
            page = self._get(f"runs/{run}/events", {"after": after})
            yield from (parse(Event, {**row, "data": row}) for row in page["results"])
            after, more = page["last"], page["more"]

    def wait_for_run(self, run: str, on_progress: Callable[[Run], object] | None = None) -> Run:
        """Wait until a run is over, however it ends."""
        while not (found := self.run(run)).is_over:
            if on_progress:
                on_progress(found)
            time.sleep(POLL)
        return found

    # --------------------------------------------------------------------------------------------------------------

    def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return self._transport.json("GET", path, params=params)

    def _post(self, path: str, body: dict[str, Any] | None = None, *, again: bool = False) -> Any:
        return self._transport.json("POST", path, json=body or {}, again=again)

    def _send(self, method: str, path: str, **options: Any) -> Any:
        return self._transport.json(method, path, **options)

    def _pages(self, cls: type[T], path: str, params: dict[str, Any] | None = None) -> Iterator[T]:
        query = {"page_size": 100, **(params or {})}
        while query:
            page = self._get(path, query)
            yield from (parse(cls, row) for row in page["results"])
            # Only its cursor: the token goes nowhere but to the server it was made for.
            cursor = parse_qs(urlsplit(page["next"] or "").query).get("cursor")
            query = {**query, "cursor": cursor[0]} if cursor else {}

"""How long a researcher waits from the engine's write to the screen: a real server, worker, engine and browser.

A throw-away site trains a reward model while a headless Chromium has its page open, with the loss as a table. Each row
of the table is one event; its delay is the time when the row stood in the page less the time in the event, by one
clock. The target is a p95 under 250 ms.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from demo import stages
from demo.client import Client
from demo.labelers import population, rank, utilities
from demo.processes import Processes, child_environment, free_port
from training.engine.rundir import RunDir, read_jsonl

ITEMS, EPOCHS = 300, 4
TARGET_MS = 250.0
# Rows of the first chart's table, each with the time at which it was first there.
WATCH = """() => {
  const chart = document.querySelector(".chart");
  chart.querySelector("[data-table]").click();
  window.shown = {};
  const seen = (cell) => { window.shown[cell.textContent] ??= Date.now(); };
  const look = () => chart.querySelectorAll("tbody th").forEach(seen);
  look();
  window.before = Object.keys(window.shown);
  new MutationObserver(look).observe(chart, { childList: true, subtree: true });
}"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="prefloop-bench-") as var:
        processes = Processes(Path(var), child_environment() | {"PREFLOOP_VAR": var})
        try:
            run, shown = watch_a_run(processes, free_port(8000))
        finally:
            processes.stop()
        report(delays(Path(var) / "runs" / run, shown))


def watch_a_run(processes: Processes, port: int) -> tuple[str, dict[str, int]]:
    """Start the site and a reward run; return the run and when (ms) each step was on screen."""
    url, password = f"http://127.0.0.1:{port}", "a password for this machine only"
    people = [{"username": "researcher", "role": "researcher", "password": password}]
    processes.start("accounts", [sys.executable, "-m", "demo.people"], stdin=json.dumps(people).encode())
    processes.finish("accounts")
    processes.start("server", [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)])
    processes.start("worker", [sys.executable, "manage.py", "worker"])
    processes.wait_for(url)
    with Client(url, "researcher", password) as researcher, sync_playwright() as playwright:
        campaign = stages.create_campaign(researcher, "Benchmark", protocol="ranking", overlap=1)
        stages.import_items(researcher, campaign, "ranked.jsonl", ranked())
        base = stages.base_model(researcher)
        settings = stages.REWARD_SETTINGS | {"epochs": EPOCHS}
        run = stages.start_run(researcher, "reward", "Watched", campaign=campaign, base=base, settings=settings)
        chromium = shutil.which("chromium")  # None: Playwright's own
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(base_url=url)
        sign_in(page, password)
        page.goto(f"/runs/{run}/")
        page.evaluate(WATCH)
        while (state := researcher.get(f"/api/runs/{run}"))["state"] in ("queued", "running"):
            time.sleep(1)
        if state["state"] != "succeeded":
            raise SystemExit(f"The run {state['state']}: {state['error']}")
        page.wait_for_timeout(1000)
        shown: dict[str, int] = page.evaluate("window.shown")
        for step in page.evaluate("window.before"):
            del shown[step]
        browser.close()
    return run, shown


def ranked() -> bytes:
    """Items with one simulated person's ranking each."""
    person, rng = population(0)[0], np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for line in stages.written(0, stages.questions(0, 0, ITEMS), 4).splitlines():
        row = json.loads(line)
        worth = utilities(person, row["messages"][-1]["content"], row["completions"])
        rows.append(row | {"ranking": rank(person, worth, rng), "labeler": person.name})
    return "\n".join(map(json.dumps, rows)).encode()


def sign_in(page: Page, password: str) -> None:
    page.goto("/accounts/login/")
    page.fill("[name=login]", "researcher")
    page.fill("[name=password]", password)
    page.press("[name=password]", "Enter")
    page.wait_for_url(lambda there: "login" not in there)


def delays(folder: Path, shown: dict[str, int]) -> list[float]:
    """Milliseconds from the event's time to the screen, for each step that the first chart showed."""
    written: dict[int, float] = {}
    for event in read_jsonl(RunDir(folder).events):
        if "loss/train" in event.get("metrics", {}):
            written.setdefault(event["step"], 1000 * event["time"])
    return sorted(at - written[int(step)] for step, at in shown.items() if int(step) in written)


def report(waits: list[float]) -> None:
    p50, p95 = (waits[int(len(waits) * part)] for part in (0.5, 0.95))
    print(f"push_delay: {len(waits)} events from the engine's write to the page")
    print(f"  p50 {p50:.0f} ms, p95 {p95:.0f} ms (target: under {TARGET_MS:.0f}), longest {waits[-1]:.0f} ms")


if __name__ == "__main__":
    main()

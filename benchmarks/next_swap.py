"""How long an annotator waits for the next item in the browser: from the key to the painted page, on a slow machine.

A real server, PostgreSQL with SLOTS (10,000) slots of long answers, and Chromium whose processor is slowed SLOWDOWN (4)
times. Somebody answers ANSWERS (100) pairs by key, reading each for READ (1.0) seconds. The time is the browser's own:
from the key event to the frame after the next item was put on the page. Beside it, the same without the item that is
fetched ahead. The target is a p95 under 100 ms.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import _labeling_site as sites

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SLOTS = int(os.environ.get("SLOTS", 10_000))
ANSWERS = int(os.environ.get("ANSWERS", 100))
SLOWDOWN = float(os.environ.get("SLOWDOWN", 4))
READ = float(os.environ.get("READ", 1.0))
TARGET_MS = 100.0

# The task is watched, not asked for: asking would itself take the processor's time.
WATCH = """() => {
  window.swaps = [];
  let pressed = 0;
  let lease = document.getElementById("task").dataset.lease;
  addEventListener("keydown", (event) => { pressed = event.timeStamp; }, true);
  new MutationObserver(() => {
    const now = document.getElementById("task")?.dataset.lease;
    if (!now || now === lease) return;
    lease = now;
    const from = pressed;
    requestAnimationFrame(() => { // the frame with the new item; a message after it comes when it has been painted
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => window.swaps.push(performance.now() - from);
      port2.postMessage(0);
    });
  }).observe(document.body, { childList: true, subtree: true });
}"""


def main() -> None:
    var = tempfile.mkdtemp(prefix="prefloop-bench-")
    os.environ["PREFLOOP_VAR"] = var
    atexit.register(shutil.rmtree, var, ignore_errors=True)  # first in, last out: after the server has stopped
    campaign, names = sites.set_up(people=2)
    from django.db import connection

    from config.push import connection_parameters

    database = connection_parameters() | {"dbname": connection.settings_dict["NAME"]}
    sites.fill(database, 1, SLOTS // sites.OVERLAP)
    site = sites.start_site(SLOTS, database, workers=1, log=Path(var, "site.log"))
    try:
        measure(f"http://127.0.0.1:{site.port}", campaign, names)
    finally:
        site.stop()


def measure(url: str, campaign: str, names: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    print(f"next_swap: {ANSWERS} answers by key, processor slowed {SLOWDOWN:g} times, {READ:g} s of reading each.")
    with sync_playwright() as playwright:
        executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        report("fetched ahead", swaps(browser, url, campaign, names[0]), TARGET_MS)
        report("fetched when asked for", swaps(browser, url, campaign, names[1], ahead=False))
        browser.close()


def swaps(browser: Browser, url: str, campaign: str, name: str, *, ahead: bool = True) -> list[float]:
    """Milliseconds of each, sorted."""
    page = browser.new_page(base_url=url, viewport={"width": 1440, "height": 900})
    if not ahead:
        page.route("**/ahead", lambda route: route.fulfill(status=204))
    begin(page, campaign, name)
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWDOWN})
    page.evaluate(WATCH)
    for number in range(ANSWERS):
        page.wait_for_timeout(1000 * READ)
        page.keyboard.press("12="[number % 3])
        page.wait_for_function("number => window.swaps.length === number", arg=number + 1)
    waits: list[float] = sorted(page.evaluate("window.swaps"))
    page.context.close()
    return waits


def begin(page: Page, campaign: str, name: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username or email").fill(name)
    page.get_by_label("Password").fill(sites.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/campaigns/")
    page.goto(f"/campaigns/{campaign}/label/")
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector("#answer")


def report(how: str, waits: list[float], target: float | None = None) -> None:
    p50, p95, worst = waits[len(waits) // 2], waits[int(len(waits) * 0.95)], waits[-1]
    aim = f" (target: under {target:.0f})" if target else ""
    print(f"  {how}: p50 {p50:.0f} ms, p95 {p95:.0f} ms{aim}, longest {worst:.0f} ms", flush=True)


if __name__ == "__main__":
    main()

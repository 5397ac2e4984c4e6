"""A researcher starts and watches runs in a real browser: live server, real worker, real engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from accounts.models import User
from labeling.models import Campaign
from tests.conftest import make_user
from tests.training.conftest import Worker, base, labeled, make_run, start_worker  # noqa: F401
from training.models import ModelArtifact, TrainingRun
from training.recording import Recorder
from training.supervisor import claim

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, WebSocketRoute

pytestmark = pytest.mark.browser
SignIn = Callable[["BrowserContext", User], None]
MakeRun = Callable[..., TrainingRun]
PATIENCE = 120_000  # milliseconds, for an engine that starts on a busy machine


@pytest.fixture
def claimed(make_run: MakeRun) -> TrainingRun:  # noqa: F811
    run = claim(make_run().pk)
    assert run is not None
    return run


def report(run: TrainingRun, seq: int, **values: float) -> None:
    """What the supervisor does when the engine wrote metrics."""
    metrics = {name.replace("__", "/"): value for name, value in values.items()}
    event = {"seq": seq, "type": "metrics", "step": seq, "time": 0.0, "metrics": metrics}
    Recorder(run, run.worker).progress([event], 100, {"state": "running", "step": seq, "total_steps": 9})


def mark(page: Page) -> None:
    """Leave something on the page that a reload would take away."""
    page.evaluate("window.notReloaded = true")


def assert_not_reloaded(page: Page) -> None:
    assert page.evaluate("window.notReloaded")


def test_a_researcher_starts_a_reward_run_and_sees_the_curve_move(
    page: Page,
    sign_in: SignIn,
    labeled: Campaign,  # noqa: F811
    base: ModelArtifact,  # noqa: F811
    researcher: User,
    start_worker: Callable[[], Worker],  # noqa: F811
) -> None:
    start_worker()
    sign_in(page.context, researcher)
    page.goto(f"/campaigns/{labeled.public_id}/")
    page.get_by_role("link", name="Train a reward model").click()
    page.get_by_label("Epochs").fill("15")
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_label("Batch size", exact=True).fill("2")
    page.get_by_role("button", name="Start the run").click()

    page.get_by_role("heading", name="Reward model: Support replies").wait_for()
    mark(page)
    loss = page.locator("section.chart:has(#chart-loss)")
    loss.locator("canvas").wait_for(timeout=PATIENCE)
    loss.get_by_role("button", name="Table").press("Enter")  # by keyboard
    rows = loss.locator("tbody tr")
    expect(rows).not_to_have_count(0, timeout=PATIENCE)
    expect(rows).not_to_have_count(rows.count(), timeout=PATIENCE)
    page.get_by_role("link", name="Start PPO against this reward model").wait_for(timeout=PATIENCE)
    assert_not_reloaded(page)
    run = TrainingRun.objects.get()
    assert run.state == "succeeded" and run.config["epochs"] == 15.0
    assert page.locator("#run-head .badge").inner_text() == "Succeeded"
    steps = run.events.filter(type="metrics", payload__metrics__has_key="loss/train").count()
    assert rows.count() >= steps > 20


def test_with_the_socket_blocked_the_page_polls(
    page: Page, sign_in: SignIn, claimed: TrainingRun, researcher: User
) -> None:
    opened: list[str] = []

    def refuse(socket: WebSocketRoute) -> None:
        opened.append(socket.url)
        socket.close(code=1011)

    page.route_web_socket("**/ws/**", refuse)
    sign_in(page.context, researcher)
    report(claimed, 1, loss__train=0.75)
    page.goto(claimed.get_absolute_url())
    mark(page)
    value = page.locator("[data-value='loss/train']")
    expect(value).to_have_text("0.75")
    report(claimed, 2, loss__train=0.5)
    expect(value).to_have_text("0.5", timeout=PATIENCE)
    expect(page.locator("[data-line]")).to_have_text("Step 2 of 9")
    Recorder(claimed, claimed.worker).failed("It was <b>hopeless</b>.")
    page.get_by_text("It was <b>hopeless</b>.").wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Resume").wait_for()
    assert_not_reloaded(page)
    assert opened


def test_the_list_follows_its_runs(
    page: Page,
    sign_in: SignIn,
    claimed: TrainingRun,
    researcher: User,
    make_run: MakeRun,  # noqa: F811
) -> None:
    sign_in(page.context, researcher)
    page.goto("/runs/")
    mark(page)
    page.get_by_text("The engine starts").wait_for()
    report(claimed, 3, loss__train=0.5)
    page.get_by_text("Step 3 of 9").wait_for()
    make_run()
    page.get_by_text("Waits for a worker").wait_for()
    assert page.locator("[data-run]").count() == 2
    assert_not_reloaded(page)


def test_a_person_who_may_only_look_gets_no_buttons(page: Page, sign_in: SignIn, claimed: TrainingRun) -> None:
    looking = make_user("looking", "researcher")
    assert claimed.campaign is not None
    claimed.campaign.memberships.create(user=looking, role="reviewer")
    sign_in(page.context, looking)
    page.goto(claimed.get_absolute_url())
    page.get_by_text("The engine starts").wait_for()
    assert page.get_by_role("button", name="Stop").count() == 0

"""An adapter of the LoRA family from the form to its model page, trained by a real engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from accounts.models import User
from labeling.models import Campaign
from tests.conftest import make_member
from tests.e2e.test_axe import violations
from tests.training.conftest import MODEL, label
from tests.training.test_supervisor import run_now
from training.models import ModelArtifact, TrainingRun

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser


@pytest.mark.timeout(300)
def test_a_kind_of_adapter_is_chosen_in_the_form_and_its_size_shown(
    page: Page, sign_in: Callable[[BrowserContext, User], None], campaign: Campaign, researcher: User
) -> None:
    make_member(campaign, researcher, "manager")
    label(campaign)
    ModelArtifact.objects.create(kind="base", name="Support desk", base_model=str(MODEL))
    sign_in(page.context, researcher)
    page.goto(f"/runs/new?kind=sft&campaign={campaign.public_id}")
    page.locator("details.fold > summary").first.click()
    page.get_by_label("Kind of adapter").select_option("DyLoRA")
    page.get_by_label("LoRA rank").fill("4")
    page.get_by_label("Threads").fill("1")
    page.get_by_label("Held-out share").fill("0.3")
    assert violations(page) == []
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/runs/*/")
    run = run_now(TrainingRun.objects.get())
    assert run.state == "succeeded", run.error
    model = ModelArtifact.objects.get(run=run)
    assert "eval/loss_rank_1" in model.metrics
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(run.get_absolute_url())
        assert " of the base (" in page.locator(".next").inner_text()
        page.goto(model.get_absolute_url())
        assert f"training.engine.merge {model.path} FOLDER" in page.get_by_label("Export").input_value()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert violations(page) == []
        if "SHOTS" in os.environ:
            page.screenshot(path=f"{os.environ['SHOTS']}/model-{width}.png", full_page=True)

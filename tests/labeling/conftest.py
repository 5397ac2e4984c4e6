"""Items to label: `make_items` fills a campaign the way an import does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from labeling.importing import import_rows
from labeling.models import Campaign, Item

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def make_items() -> Callable[..., list[Item]]:
    def make_items(campaign: Campaign, count: int, completions: int = 2) -> list[Item]:
        rows = [
            {"prompt": f"Question {n}?", "completions": [f"Answer {n}.{c}" for c in range(completions)]}
            for n in range(count)
        ]
        import_rows(campaign, rows, name="fixture")
        campaign.refresh_from_db()
        return list(campaign.items.order_by("id"))

    return make_items

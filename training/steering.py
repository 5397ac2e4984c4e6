"""Items of a campaign that a reward ensemble judges while it is at it, so that what teaches most can be asked first."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from labeling.models import Campaign, Item
from labeling.queue.steering import next_items, take_gains
from training.engine.rundir import CANDIDATES, RunDir, read_jsonl, write_jsonl
from training.models import TrainingRun

logger = logging.getLogger(__name__)

MOST = 5_000  # items judged
CHUNK = 500


def write_candidates(campaign: Campaign, rundir: RunDir) -> dict[str, int]:
    """Write what comes next in the campaign's queue; name and rows of the file. None where the order stays random."""
    if campaign.order != Campaign.Order.INFORMATIVE:
        return {}
    items = next_items(campaign, MOST * campaign.overlap)[:MOST]
    return {CANDIDATES: write_jsonl(rundir.data / CANDIDATES, _rows(items))} if items else {}


def hand_over(run: TrainingRun) -> None:
    """Give what a finished run says about items to its campaign's queue."""
    path = run.rundir.artifact / CANDIDATES
    if run.campaign is None or not path.exists():
        return
    try:
        gains = {str(row["item"]): float(row["gain"]) for row in read_jsonl(path)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("What run %s says about items cannot be read: %s", run.public_id, error)
        return
    take_gains(run.campaign, gains, model=run.name)


def _rows(items: list[int]) -> Iterator[dict[str, Any]]:
    for first in range(0, len(items), CHUNK):
        for item in Item.objects.filter(pk__in=items[first : first + CHUNK]).prefetch_related("completions"):
            completions = [completion.messages for completion in item.completions.all()]
            yield {"item": item.public_id, "messages": item.messages, "completions": completions}

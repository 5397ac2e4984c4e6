"""Freeze a campaign's accepted rankings into a file named after its own SHA-256: same content, same file.

Streamed: rankings are read in chunks and written line by line, so a million rankings need no more memory than a few
hundred. Items and completions never change after import; the one query over rankings decides what is in. Messages go
from the database into the file as the JSON text they are: a person waits for a hundred thousand rankings, and making
objects of them takes ten times as long.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.postgres.aggregates import ArrayAgg, StringAgg
from django.db.models import OuterRef, Subquery, TextField
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from accounts.models import User
from labeling.models import Campaign, Completion, Ranking
from labeling.protocols.questionnaire import Details, edited_completions, ideal_answer, share_of_strength
from labeling.quality.reliability import UNKNOWN_WEIGHT
from labeling.quality.reports import labeler_weights
from training.models import DatasetSnapshot

CHUNK = 2000


class NothingToFreeze(Exception):
    """No accepted ranking fits the filters; the message says what to do."""


class BadSelection(ValueError):
    """An option that chooses rankings or prompts makes no sense; the message says which."""


@dataclass(frozen=True)
class SnapshotFilters:
    """What goes into a snapshot. Empty fields filter nothing."""

    origin: str = ""
    """`person` or `imported`."""
    labelers: tuple[str, ...] = ()
    """Pseudonyms of the people whose rankings are taken."""
    without: tuple[str, ...] = ()
    """Pseudonyms of the people whose rankings are left out."""
    weigh: bool = False
    """Give each ranking the weight that its labeler's reliability deserves, instead of 1."""

    def __post_init__(self) -> None:
        if self.origin and self.origin not in Ranking.Origin.values:
            raise BadSelection(
                _("origin must be {values}, not {origin!r}.").format(
                    values=" or ".join(Ranking.Origin.values), origin=self.origin
                )
            )


def freeze(campaign: Campaign, *, by: User, filters: SnapshotFilters | None = None) -> DatasetSnapshot:
    """Write the snapshot file. Its row is returned unsaved, to be stored with the run. Raises NothingToFreeze."""
    filters = filters or SnapshotFilters()
    weights = _weights(campaign) if filters.weigh else None
    counts = Counts()
    folder = Path(settings.SNAPSHOTS_DIR)
    digest = hashlib.sha256()
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".freezing-")  # readable by the owner only
    try:
        with os.fdopen(descriptor, "wb") as file:
            for line in _lines(campaign, filters, weights, counts):
                digest.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if not counts.rankings:
            raise NothingToFreeze(
                _("This campaign has no accepted rankings that fit. Label some items, or import rankings, first.")
            )
        os.replace(temporary, folder / f"{digest.hexdigest()}.jsonl")
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return DatasetSnapshot(
        campaign=campaign,
        filters=asdict(filters),
        counts=counts.as_dict(),
        sha256=digest.hexdigest(),
        created_by=by,
    )


def _weights(campaign: Campaign) -> dict[str, float]:
    """What an answer of each labeler is worth; not in it is who has not been judged. Raises NothingToFreeze."""
    weights = labeler_weights(campaign)
    if not weights:
        raise NothingToFreeze(
            _(
                "Nobody's reliability is known: people are judged by items that at least two others answered, too. "
                "Ask for more answers per item, or train without weights."
            )
        )
    return weights


def _lines(
    campaign: Campaign, filters: SnapshotFilters, weights: dict[str, float] | None, counts: Counts
) -> Iterator[bytes]:
    """Rows of `data/rankings.jsonl`, in the order in which the items came in and were ranked."""
    rankings = Ranking.objects.ranked().filter(campaign=campaign)  # who cannot tell teaches nothing
    if filters.origin:
        rankings = rankings.filter(origin=filters.origin)
    if filters.labelers:
        rankings = rankings.filter(labeler__in=filters.labelers)
    if filters.without:
        rankings = rankings.exclude(labeler__in=filters.without)
    as_text = Cast("messages", TextField())
    completions = Completion.objects.filter(item=OuterRef("item")).order_by().values("item")
    joined = completions.values(joined=StringAgg(as_text, delimiter=",", order_by="index"))
    sources = completions.values(sources=ArrayAgg("source", order_by="index"))
    rows = rankings.order_by("item_id", "id").values_list(
        *("item__public_id", Cast("item__messages", TextField()), Subquery(joined), Subquery(sources)),
        *("tiers", "labeler", "details"),
    )
    for item, messages, answers, written_by, tiers, labeler, details in rows.iterator(chunk_size=CHUNK):
        counts.add(item, tiers, labeler)
        weight = 1.0 if weights is None else weights.get(labeler, UNKNOWN_WEIGHT)
        facts = {"item": item, "labeler": labeler, "tiers": tiers, "weight": weight}
        if any(written_by):
            facts["sources"] = [source or None for source in written_by]
        if details:
            facts |= _said_besides(details, answers)
        rest = json.dumps(facts, ensure_ascii=False)
        yield f'{{"messages": {messages}, "completions": [{answers}], {rest[1:]}\n'.encode()


def _said_besides(details: Details, answers: str) -> dict[str, Any]:
    """What losses and demonstrations are made from: strength, improved completions, the ideal answer."""
    said: dict[str, Any] = {"strength": share_of_strength(details), "ideal": ideal_answer(details)}
    if details.get("answers", {}).get("edit"):
        said["edited"] = edited_completions(details, json.loads(f"[{answers}]"))
    return {name: value for name, value in said.items() if value is not None}


class Counts:
    """Counted while the rows stream by."""

    def __init__(self) -> None:
        self.rankings = self.pairs = self.ties = self.no_preference = 0
        self.items: set[str] = set()
        self.labelers: set[str] = set()

    def add(self, item: str, tiers: list[list[int]], labeler: str) -> None:
        sizes = [len(tier) for tier in tiers]
        total = sum(sizes)
        tied = sum(size * (size - 1) // 2 for size in sizes)
        self.rankings += 1
        self.ties += tied
        self.pairs += total * (total - 1) // 2 - tied
        self.no_preference += len(sizes) < 2
        self.items.add(item)
        self.labelers.add(labeler)

    def as_dict(self) -> dict[str, int]:
        """`pairs` are strict preferences, `ties` equal pairs, `no_preference` rankings with one tier only."""
        return {
            "rankings": self.rankings,
            "items": len(self.items),
            "labelers": len(self.labelers),
            "pairs": self.pairs,
            "ties": self.ties,
            "no_preference": self.no_preference,
        }

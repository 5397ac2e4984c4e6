"""Files in: items with their completions and slots, imported rankings, and a report of every line refused.

Good lines are kept in batches, each one transaction; an import that is cut off can be brought again, because an item is
known by the hash of its prompt and completions and an imported ranking by its labeler and tiers. The campaign's row is
locked during a batch, so imports and changes of the overlap come one after another.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_noop

from accounts.ids import new_public_id
from accounts.models import User
from labeling import audit
from labeling.campaigns import sizes_of
from labeling.data.containers import read_rows
from labeling.data.copying import as_json, copy_rows, new_ids
from labeling.data.files import BadLine
from labeling.data.formats.base import Format
from labeling.data.formats.registry import Parsed, parse_rows
from labeling.data.rows import ParsedRow
from labeling.events import campaign_changed
from labeling.models import Campaign, Completion, Import, Item, Ranking, RefusedLines, Slot, new_random_key
from labeling.protocols.basics import Tiers
from labeling.protocols.questionnaire import Details
from labeling.quality.gold import mark_imported
from labeling.quality.leaks import scan_rows
from labeling.webhooks import import_finished

BATCH_ROWS, BATCH_CHARACTERS = 500, 8_000_000
MAX_ERRORS = 100  # named on the import itself
MAX_REFUSED = 1_000_000  # kept in all; further ones are counted
MAX_REASON = 500  # characters
UNNAMED = "imported:"  # labeler of rankings whose file names none


Refused = dict[str, Any]


class ImportFailed(Exception):
    """Nothing can be imported; the message says why. Bad lines never raise, they are in the report."""


def import_file(
    campaign: Campaign, file: BinaryIO, *, name: str, user: User | None = None, chosen: Format | None = None
) -> Import:
    """Bring in a file of any kind; without a chosen format, each row shows its own. The report is a saved `Import`."""
    parsed = parse_rows(read_rows(file), campaign.protocol, chosen, sizes=sizes_of(campaign))
    return import_parsed(campaign, parsed, name=name, user=user)


def import_rows(campaign: Campaign, rows: Iterable[Any], *, name: str, user: User | None = None) -> Import:
    """The same for rows that are objects already."""
    parsed = parse_rows(enumerate(rows, 1), campaign.protocol, sizes=sizes_of(campaign))
    return import_parsed(campaign, parsed, name=name, user=user)


def import_parsed(campaign: Campaign, parsed: Parsed, *, name: str, user: User | None) -> Import:
    """The same for rows that were read already."""
    record = new_import(campaign, name=name, user=user)
    continue_import(record, parsed)
    return record


def new_import(campaign: Campaign, *, name: str, user: User | None) -> Import:
    """An import of which nothing was read yet."""
    if campaign.state == Campaign.State.CLOSED:
        raise ImportFailed(gettext_noop("The campaign is closed."))
    name = name.replace("\x00", "")[:255] or "unnamed"
    audit.record(user, "items.import", name, campaign=campaign)
    return Import.objects.create(campaign=campaign, user=user, name=name)


def continue_import(record: Import, parsed: Parsed, *, stop: Callable[[], bool] = lambda: False) -> bool:
    """Bring in items, from the import's position on, until `stop` is true after a batch. Whether all was read."""
    batch: list[ParsedRow] = []
    refused: list[Refused] = []
    characters, waiting = 0, 0
    for number, row in parsed:
        record.position += 1
        waiting += 1
        if isinstance(row, BadLine):
            refused.append({"line": number, "reason": str(row)[:MAX_REASON]})
        else:
            batch.append(row)
            characters += _size(row)
        if waiting >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            _store(record, batch, refused)
            batch, refused, characters, waiting = [], [], 0, 0
            if stop():
                return False
    record.finished_at = timezone.now()
    _store(record, batch, refused)
    return True


def _size(row: ParsedRow) -> int:
    conversations = [row.messages, *(completion.messages for completion in row.completions)]
    return sum(len(message["content"]) for message in chain.from_iterable(conversations))


@transaction.atomic
def _store(record: Import, rows: list[ParsedRow], refused: list[Refused]) -> None:
    campaign = Campaign.objects.select_for_update(no_key=True).get(pk=record.campaign_id)
    item_of = dict(
        campaign.items.filter(content_hash__in={row.content_hash for row in rows}).values_list("content_hash", "pk")
    )
    known = set(item_of.values())
    new: dict[str, int] = {}  # content hash -> the first row that has it
    for index, row in enumerate(rows):
        if row.content_hash not in item_of:
            new.setdefault(row.content_hash, index)
    Campaign.objects.filter(pk=campaign.pk).update(slot_count=F("slot_count") + len(new) * campaign.overlap)
    item_of |= _create_items(campaign, record, [rows[index] for index in new.values()])
    created = {item_of[rows[index].content_hash]: rows[index] for index in new.values()}
    mark_imported(campaign, {item: row.meta for item, row in created.items()})
    scan_rows(campaign, created)
    rankings = _new_rankings(campaign, record, rows, item_of, known)
    new_rankings = [(item_of[rows[n].content_hash], *rankings[n], rows[n].details) for n in rankings]
    _create_rankings(campaign, new_rankings, out=_out(known) if rankings else set())

    accepted = len(rankings.keys() | new.values())
    record.accepted += accepted
    record.duplicates += len(rows) - accepted
    record.rankings += len(rankings)
    counts = ["accepted", "duplicates", "rankings", "rejected", "position", "finished_at"]
    record.save(update_fields=[*counts, *_report(record, refused)])
    if record.finished_at:
        import_finished(record)
    campaign_changed(campaign)


def _report(record: Import, refused: list[Refused]) -> list[str]:
    """Count refused lines and keep them; which of the import's fields changed beside the counts."""
    kept = refused[: max(0, MAX_REFUSED - record.rejected)]
    if kept:
        lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
        RefusedLines.objects.create(source=record, data=zlib.compress(lines.encode("utf-8", "replace")))
    record.rejected += len(refused)
    shown = refused[: max(0, MAX_ERRORS - len(record.errors))]
    record.errors += shown
    return ["errors"] if shown else []


def refused_lines(record: Import) -> Iterator[Refused]:
    """Every refused line with its reason; from the millionth on they are only counted."""
    for data in record.refused.order_by("pk").values_list("data", flat=True).iterator(chunk_size=50):
        yield from map(json.loads, zlib.decompress(data).splitlines())


def _create_items(campaign: Campaign, record: Import, rows: list[ParsedRow]) -> dict[str, int]:
    """Items with their completions and slots; their keys by content hash, in the order of the rows."""
    now, keys = timezone.now(), new_ids(Item, len(rows))
    created = list(zip(keys, rows, strict=True))
    copy_rows(
        Item,
        ["id", "campaign_id", "public_id", "messages", "content_hash", "meta", "source_import_id", "created_at"],
        (
            (
                key,
                campaign.pk,
                new_public_id(),
                as_json(row.messages),
                row.content_hash,
                as_json(row.meta),
                record.pk,
                now,
            )
            for key, row in created
        ),
    )
    copy_rows(
        Completion,
        ["item_id", "index", "messages", "source", "meta"],
        (
            (key, index, as_json(new.messages), new.source, as_json(new.meta))
            for key, row in created
            for index, new in enumerate(row.completions)
        ),
    )
    copy_rows(
        Slot,
        ["campaign_id", "item_id", "state", "priority", "random_key", "shown_order"],
        (
            (campaign.pk, key, Slot.State.OPEN.value, 0, new_random_key(), "[]")
            for key in keys
            for _ in range(campaign.overlap)
        ),
    )
    return {row.content_hash: key for key, row in created}


def _new_rankings(
    campaign: Campaign, record: Import, rows: list[ParsedRow], item_of: dict[str, int], known: set[int]
) -> dict[int, tuple[str, Tiers]]:
    """Labeler and tiers that are not there yet, by row. Unnamed labelers of all files are one labeler."""
    imported = Ranking.objects.filter(item__in=known, origin=Ranking.Origin.IMPORTED)
    seen = {_key(*values) for values in imported.values_list("item_id", "labeler", "tiers")}
    rankings: dict[int, tuple[str, Tiers]] = {}
    for index, row in enumerate(rows):
        labeler = row.labeler or (UNNAMED + record.name)[:120]
        if row.tiers is None or (key := _key(item_of[row.content_hash], labeler, row.tiers)) in seen:
            continue
        seen.add(key)
        rankings[index] = labeler, row.tiers
    return rankings


def _out(items: set[int]) -> set[int]:
    """Those that were taken out of the campaign; what comes in for them again does not count either."""
    return set(Item.objects.filter(pk__in=items).exclude(removed_at=None).values_list("pk", flat=True))


def _create_rankings(campaign: Campaign, rankings: list[tuple[int, str, Tiers, Details]], *, out: set[int]) -> None:
    same = {
        "campaign_id": campaign.pk,
        "origin": Ranking.Origin.IMPORTED.value,
        "shown_order": "[]",
        "flags": "[]",
        "rationale": "",
        "active_ms": 0,
        "protocol": campaign.protocol,
        "guidelines_version": campaign.guidelines_version,
        "late": False,
        "created_at": timezone.now(),
    }
    copy_rows(
        Ranking,
        ["item_id", "status", "labeler", "tiers", "cannot_tell", "details", "public_id", *same],
        (
            (
                item,
                (Ranking.Status.REMOVED if item in out else Ranking.Status.ACCEPTED).value,
                labeler,
                as_json(tiers),
                not tiers,
                as_json(details),
                new_public_id(),
                *same.values(),
            )
            for item, labeler, tiers, details in rankings
        ),
    )


def _key(item: int, labeler: str, tiers: Any) -> tuple[int, str, str]:
    return item, UNNAMED if labeler.startswith(UNNAMED) else labeler, json.dumps(tiers)

"""Accepted answers out, as JSON lines, read with a server-side cursor: memory does not grow with the campaign.

`rankings` has what people gave, one line each, and can be imported again. `preferences` is derived from it in TRL's
form: `chosen`, `rejected`, their shared `prompt` where there is one, and `mu`, the probability that chosen is better.
A tie has `mu` 0.5; who trains on chosen and rejected alone should leave those lines out. Who could not tell is in
`rankings`, marked `cannot_tell` and without tiers, and gives no preferences. People appear by pseudonym. `propensity`
is how likely the item was to be chosen, null where the order was random: averages over chosen items need it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from labeling.models import Campaign, Completion, Ranking
from rewardmodel.stats.pairs import preferences_of

CHUNK = 200


def export_lines(campaign: Campaign, what: str) -> Iterator[bytes]:
    """The lines of an export; `what` is a key of `EXPORTS`. Late answers are in it, marked so."""
    rankings = campaign.rankings.accepted().order_by("item_id", "pk")
    rows_of = EXPORTS[what]
    for ranking in (
        rankings.select_related("item", "slot").prefetch_related("item__completions").iterator(chunk_size=CHUNK)
    ):
        for row in rows_of(ranking):
            yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _ranking_rows(ranking: Ranking) -> Iterator[dict[str, Any]]:
    item = ranking.item
    yield {
        "id": ranking.public_id,
        "item": item.public_id,
        "messages": item.messages,
        "completions": [
            {"messages": completion.messages, "source": completion.source, "meta": completion.meta}
            for completion in item.completions.all()
        ],
        "tiers": ranking.tiers,
        "cannot_tell": ranking.cannot_tell,
        "labeler": ranking.labeler,
        "origin": ranking.origin,
        "shown_order": ranking.shown_order,
        "flags": ranking.flags,
        "rationale": ranking.rationale,
        "active_ms": ranking.active_ms,
        "late": ranking.late,
        "propensity": ranking.slot.propensity if ranking.slot else None,
        "protocol": ranking.protocol,
        "guidelines_version": ranking.guidelines_version,
        "created_at": ranking.created_at.isoformat(),
        "meta": item.meta,
    }


def _preference_rows(ranking: Ranking) -> Iterator[dict[str, Any]]:
    completions: list[Completion] = list(ranking.item.completions.all())
    prompt = {"prompt": ranking.item.messages} if ranking.item.messages else {}
    for preference in preferences_of(ranking.tiers):
        chosen, rejected = completions[preference.chosen], completions[preference.rejected]
        yield prompt | {
            "chosen": chosen.messages,
            "rejected": rejected.messages,
            "mu": preference.mu,
            "weight": preference.weight,
            "labeler": ranking.labeler,
            "item": ranking.item.public_id,
            "ranking": ranking.public_id,
            "chosen_source": chosen.source,
            "rejected_source": rejected.source,
        }


EXPORTS: dict[str, Callable[[Ranking], Iterator[dict[str, Any]]]] = {
    "rankings": _ranking_rows,
    "preferences": _preference_rows,
}

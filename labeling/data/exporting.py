"""Accepted answers out, read with a server-side cursor: memory does not grow with the campaign.

`EXPORTS` are what there is to get: all that people gave, or what common tools take, derived from it. Each comes as JSON
lines; those with the same few columns in every row also as CSV and Parquet. docs/formats.md says what each keeps.
People appear by pseudonym. `propensity` is how likely the item was to be chosen, null where the order was random:
averages over chosen items need it. Late answers are in it, marked so in `rankings`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from django.utils.translation import gettext_noop

from labeling.data.parquet import MISSING, is_installed, write_parquet
from labeling.models import Campaign, Completion, Item, Kind, Ranking
from labeling.protocols.basics import Message
from labeling.protocols.questionnaire import edited_completions, ideal_answer, share_of_strength
from labeling.quality.gold import is_right
from labeling.querysets import RankingQuerySet
from rewardmodel.stats.pairs import Preference, preferences_of

CHUNK = 200
EDITED, IDEAL = "edited", "written"  # sources of what annotators wrote
CONTAINERS = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
FORMULA = re.compile(r"'*[=+\-@\t\r]")
Row = dict[str, Any]


@dataclass(frozen=True)
class Export:
    """`rows` makes rows of rankings, which come by item. `columns` (names and kinds) are those of CSV and Parquet.

    With `checks` the rankings are those that tell about people instead of those that count.
    """

    title: str
    rows: Callable[[Iterable[Ranking]], Iterator[Row]]
    columns: dict[str, str] = field(default_factory=dict)
    checks: bool = False

    @property
    def containers(self) -> list[str]:
        return list(CONTAINERS) if self.columns else ["jsonl"]


class NoSuchExport(Exception):
    """There is no such export, or not in this container; the message says what there is."""


def check_export(what: str, container: str) -> None:
    """Raises NoSuchExport."""
    if what not in EXPORTS:
        raise NoSuchExport(f"what: Choose one of: {', '.join(EXPORTS)}.")
    if container not in EXPORTS[what].containers:
        raise NoSuchExport(f"as: Choose one of: {', '.join(EXPORTS[what].containers)}.")
    if container == "parquet" and not is_installed():
        raise NoSuchExport(f"as: {MISSING}")


def exported_rankings(campaign: Campaign, what: str) -> RankingQuerySet:
    """What an export reads."""
    checks = campaign.rankings.given().exclude(kind=Kind.NORMAL).select_related("item__gold")
    return checks if EXPORTS[what].checks else campaign.rankings.accepted()


def export_lines(
    campaign: Campaign, what: str, container: str = "jsonl", *, on_answer: Callable[[], object] = lambda: None
) -> Iterator[bytes]:
    """The bytes of an export in pieces; `what` is a key of `EXPORTS`, `container` one of its `containers`."""
    export = EXPORTS[what]
    rankings = exported_rankings(campaign, what).order_by("item_id", "pk")
    read = rankings.select_related("item", "slot").prefetch_related("item__completions").iterator(chunk_size=CHUNK)
    rows = export.rows(_telling(read, on_answer))
    if container == "csv":
        return as_csv(rows, export.columns)
    if container == "parquet":
        return write_parquet(rows, export.columns)
    return (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _telling(rankings: Iterable[Ranking], on_answer: Callable[[], object]) -> Iterator[Ranking]:
    for ranking in rankings:
        on_answer()
        yield ranking


def as_csv(rows: Iterable[Row], columns: dict[str, str]) -> Iterator[bytes]:
    """Rows as CSV that no spreadsheet computes, in pieces."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(name, row.get(name)) for name in columns])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    if text.tell():  # the header alone
        yield text.getvalue().encode()


def _cell(name: str, value: Any) -> str:
    """Text that no spreadsheet computes: a formula gets an apostrophe in front, which our import takes off again."""
    text = "" if value is None else _plain(name, value)
    return f"'{text}" if FORMULA.match(text) else text


def _plain(name: str, value: Any) -> str:
    """The text of what is one, or of a single message that is read as the same again; else JSON."""
    if (
        isinstance(value, list)
        and len(value) == 1
        and value[0]["role"] == ("user" if name == "prompt" else "assistant")
    ):
        content: str = value[0]["content"]
        if not content.startswith(("[{", "[]", "\n\nHuman:")):
            return content
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- Ours ---------------------------------------------------------------------------------------------------------


def _ranking_rows(rankings: Iterable[Ranking]) -> Iterator[Row]:
    for ranking in rankings:
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
            "details": ranking.details,
            "active_ms": ranking.active_ms,
            "late": ranking.late,
            "propensity": ranking.slot.propensity if ranking.slot else None,
            "protocol": ranking.protocol,
            "guidelines_version": ranking.guidelines_version,
            "form_version": ranking.form_version,
            "created_at": ranking.created_at.isoformat(),
            "meta": item.meta,
        }


def _check_rows(rankings: Iterable[Ranking]) -> Iterator[Row]:
    """`right` is null for repeats, and for an item that is gold no more."""
    for ranking in rankings:
        gold = getattr(ranking.item, "gold", None) if ranking.kind == Kind.GOLD else None
        yield {
            "id": ranking.public_id,
            "item": ranking.item.public_id,
            "kind": ranking.kind,
            "labeler": ranking.labeler,
            "tiers": ranking.tiers,
            "cannot_tell": ranking.cannot_tell,
            "gold": gold.tiers if gold else None,
            "right": is_right(ranking.tiers, gold.tiers) if gold else None,
            "active_ms": ranking.active_ms,
            "created_at": ranking.created_at.isoformat(),
        }


# --- TRL ----------------------------------------------------------------------------------------------------------


def _preferences(rankings: Iterable[Ranking]) -> Iterator[tuple[Ranking, list[Completion], Preference]]:
    for ranking in rankings:
        completions = list(ranking.item.completions.all())
        for preference in preferences_of(ranking.tiers):
            yield ranking, completions, preference


def _preference_rows(rankings: Iterable[Ranking]) -> Iterator[Row]:
    """The pairs of each ranking, and each completion that its labeler improved before what it was."""
    for ranking in rankings:
        completions = list(ranking.item.completions.all())
        margin = share_of_strength(ranking.details) or 0.0
        for chosen, rejected, mu, weight in preferences_of(ranking.tiers):
            better, worse = completions[chosen], completions[rejected]
            yield _preference_row(ranking, better.messages, worse, mu, weight, margin, better.source)
        edited = edited_completions(ranking.details, [completion.messages for completion in completions])
        for messages, original in zip(edited, completions, strict=True):
            if messages:
                yield _preference_row(ranking, messages, original, 1.0, 1.0, 0.0, EDITED)


def _preference_row(
    ranking: Ranking,
    chosen: list[Message],
    rejected: Completion,
    mu: float,
    weight: float,
    margin: float,
    source: str,
) -> Row:
    prompt = {"prompt": ranking.item.messages} if ranking.item.messages else {}
    return prompt | {
        "chosen": chosen,
        "rejected": rejected.messages,
        "mu": mu,
        "weight": weight,
        "margin": margin,
        "labeler": ranking.labeler,
        "item": ranking.item.public_id,
        "ranking": ranking.public_id,
        "chosen_source": source,
        "rejected_source": rejected.source,
    }


def _unpaired_rows(rankings: Iterable[Ranking]) -> Iterator[Row]:
    """The best tier is good, the last one is not; what is between them, and ties of all, say nothing.

    Of answers that are both bad, none is good.
    """
    for ranking in rankings:
        both_bad = ranking.details.get("both_bad", False)
        if not ranking.item.messages or not (len(ranking.tiers) > 1 or both_bad):
            continue
        completions = list(ranking.item.completions.all())
        for label, tier in ((True, [] if both_bad else ranking.tiers[0]), (False, ranking.tiers[-1])):
            for index in tier:
                yield {
                    "prompt": ranking.item.messages,
                    "completion": completions[index].messages,
                    "label": label,
                    "source": completions[index].source,
                    "labeler": ranking.labeler,
                    "item": ranking.item.public_id,
                    "ranking": ranking.public_id,
                }


def _sft_rows(rankings: Iterable[Ranking]) -> Iterator[Row]:
    """Of an item what people wrote or improved themselves; else what most put first, the earliest of several such."""
    for item, answers in _by_item(rankings):
        completions = list(item.completions.all())
        firsts = Counter(index for ranking in answers if len(ranking.tiers) > 1 for index in ranking.tiers[0])
        examples = list(_written(answers, completions))
        if firsts and not examples:
            best = completions[max(sorted(firsts), key=firsts.__getitem__)]
            examples = [(best.messages, best.source)]
        for messages, source in examples:
            yield {"messages": item.messages + messages, "source": source, "item": item.public_id}


def _written(rankings: list[Ranking], completions: list[Completion]) -> Iterator[tuple[list[Message], str]]:
    for ranking in rankings:
        if messages := ideal_answer(ranking.details):
            yield messages, IDEAL
        for edited in edited_completions(ranking.details, [completion.messages for completion in completions]):
            if edited:
                yield edited, EDITED


def _by_item(rankings: Iterable[Ranking]) -> Iterator[tuple[Item, list[Ranking]]]:
    for _, group in groupby(rankings, key=lambda ranking: ranking.item_id):
        answers = list(group)
        yield answers[0].item, answers


# --- Open-Assistant and arena -------------------------------------------------------------------------------------


def _trees(rankings: Iterable[Ranking]) -> Iterator[Row]:
    """One tree an item. Ranks are the order of the mean places that people gave; equal means are equal ranks."""
    for item, answers in _by_item(rankings):
        if not item.messages:
            continue  # conversations without a common beginning are no tree
        places = defaultdict(list)
        for ranking in answers:
            for place, tier in enumerate(ranking.tiers):
                for index in tier:
                    places[index].append(place)
        means = {index: sum(given) / len(given) for index, given in places.items()}
        rank_of = {mean: rank for rank, mean in enumerate(sorted(set(means.values())))}
        replies = []
        for completion in item.completions.all():
            rank = rank_of[means[completion.index]] if completion.index in means else None
            replies.append(_node(completion.messages, []) | {"rank": rank, "source": completion.source})
        yield {
            "message_tree_id": item.public_id,
            "tree_state": "ready_for_export",
            "prompt": _node(item.messages, replies),
        }


def _node(messages: list[Message], replies: list[Row]) -> Row:
    """Messages below one another, and the replies below the last one."""
    for message in reversed(messages):
        role = "prompter" if message["role"] == "user" else message["role"]
        replies = [{"role": role, "text": message["content"], "replies": replies}]
    return replies[0]


def _battles(rankings: Iterable[Ranking]) -> Iterator[Row]:
    """A battle for each preference, with the sides in the order of the file: the side tells nothing."""
    for ranking, completions, preference in _preferences(rankings):
        a, b = sorted((preference.chosen, preference.rejected))
        shared = ranking.item.messages
        yield {
            "question_id": ranking.item.public_id,
            "model_a": completions[a].source,
            "model_b": completions[b].source,
            "winner": _winner(ranking, preference, a),
            "judge": ranking.labeler,
            "conversation_a": shared + completions[a].messages,
            "conversation_b": shared + completions[b].messages,
            "turn": sum(message["role"] == "user" for message in shared + completions[a].messages),
            "tstamp": ranking.created_at.timestamp(),
        }


def _winner(ranking: Ranking, preference: Preference, a: int) -> str:
    if preference.mu == 0.5:
        return "tie (bothbad)" if ranking.details.get("both_bad") else "tie"
    return "model_a" if preference.chosen == a else "model_b"


PREFERENCE_COLUMNS = {
    "prompt": "messages",
    "chosen": "messages",
    "rejected": "messages",
    "mu": "number",
    "weight": "number",
    "margin": "number",
    "labeler": "text",
    "item": "text",
    "ranking": "text",
    "chosen_source": "text",
    "rejected_source": "text",
}
UNPAIRED_COLUMNS = {
    "prompt": "messages",
    "completion": "messages",
    "label": "flag",
    "source": "text",
    "labeler": "text",
    "item": "text",
    "ranking": "text",
}
EXPORTS = {
    "rankings": Export(gettext_noop("Rankings, with everything there is"), _ranking_rows),
    "preferences": Export(gettext_noop("TRL preference pairs"), _preference_rows, PREFERENCE_COLUMNS),
    "unpaired": Export(gettext_noop("TRL unpaired preferences"), _unpaired_rows, UNPAIRED_COLUMNS),
    "sft": Export(
        gettext_noop("Conversations for SFT"), _sft_rows, {"messages": "messages", "source": "text", "item": "text"}
    ),
    "oasst": Export(gettext_noop("Open-Assistant trees"), _trees),
    "arena": Export(gettext_noop("Arena battles"), _battles),
    "checks": Export(gettext_noop("Answers to hidden checks"), _check_rows, checks=True),
}

"""Places in completions that may give away who wrote them, found before anybody compares them.

Found are models and providers by name, a model that says what it is, the completion's own source, and names that the
campaign lists. What the prompt names already gives nothing away. Every import is looked through; where the campaign
wants it, such items are held back until somebody has looked at them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet

from accounts.models import User
from labeling.audit import record
from labeling.data.rows import ParsedRow
from labeling.models import Campaign, Gold, Item, Leak, QualityRules
from labeling.protocols.basics import Message
from labeling.queue.overlap import set_overlap

NAMES = (
    "ChatGPT", "GPT-3", "GPT-4", "GPT-5", "OpenAI", "Claude", "Anthropic", "Gemini", "Bard", "DeepMind", "Llama",
    "Meta AI", "Mistral", "Mixtral", "Qwen", "Alibaba Cloud", "DeepSeek", "Vicuna", "Grok", "xAI", "Copilot",
    "Gemma", "Cohere", "Baichuan", "ERNIE Bot", "Moonshot AI", "Open Assistant", "StableLM", "Zephyr", "Falcon",
)  # fmt: skip
LOWERED = {name.lower(): name for name in NAMES}
SELF = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence|large)(?: language)? model"
    r"|i(?: am|'m|’m) an? (?:ai |large )?language model"
    r"|(?:i was|i am|i'm|’m) (?:trained|developed|created|made) by \w+)",
    re.IGNORECASE,
)
SELF_HINTS = (
    "language model",
    "ai model",
    "large model",
    "intelligence model",
    "trained by",
    "developed by",
    "created by",
    "made by",
)
SHORTEST = 4  # characters of a source that is looked for
AROUND = 60  # characters shown on each side
RESCAN = 20_000  # newest items, when somebody asks for it
BATCH = 500


@dataclass(frozen=True)
class Found:
    """One place: in which completion, what gives it away, and the words around it."""

    index: int
    what: str
    excerpt: str


def find_leaks(
    prompt: Sequence[Message], completions: Sequence[Sequence[Message]], sources: Sequence[str], own: Sequence[str] = ()
) -> list[Found]:
    """The first place for each name in each completion."""
    asked = "\n".join(message["content"] for message in prompt).lower()
    found = []
    for index, (messages, source) in enumerate(zip(completions, sources, strict=True)):
        text = _text(messages)
        lowered = text.lower()
        more = {name.lower(): name for name in [*own, *([source] if len(source) >= SHORTEST else [])]}
        for name in [name for low, name in (LOWERED | more).items() if low in lowered and low not in asked]:
            match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
            if match:
                found.append(Found(index, name[:80], _around(text, match)))
        if any(hint in lowered for hint in SELF_HINTS) and (match := SELF.search(text)):
            found.append(Found(index, match.group()[:80], _around(text, match)))
    return found


def scan_rows(campaign: Campaign, rows: Mapping[int, ParsedRow]) -> None:
    """Look through new items, by their keys."""
    read = {
        item: (row.messages, [one.messages for one in row.completions], [one.source for one in row.completions])
        for item, row in rows.items()
    }
    _keep(campaign, read)


@transaction.atomic
def scan_again(campaign: Campaign, *, by: User) -> int:
    """Look through the newest items anew, after names were added. In how many there is something new.

    What was found before stays as it is: an item that somebody has looked at is not held back for it again.
    """
    newest = list(campaign.items.filter(removed_at=None).order_by("-pk").values_list("pk", flat=True)[:RESCAN])
    known = set(Leak.objects.filter(campaign=campaign).values_list("item", "index", "what"))
    count = 0
    for start in range(0, len(newest), BATCH):
        read = {}
        for item in Item.objects.filter(pk__in=newest[start : start + BATCH]).prefetch_related("completions"):
            completions = list(item.completions.all())
            read[item.pk] = (
                item.messages,
                [one.messages for one in completions],
                [one.source for one in completions],
            )
        count += _keep(campaign, read, known)
    record(by, "items.scan", campaign, items=len(newest), found=count)
    return count


def shown(campaign: Campaign) -> QuerySet[Leak]:
    """What was found in its items, without those that were taken out."""
    return campaign.leaks.filter(item__removed_at=None).select_related("item")


@transaction.atomic
def release(item: Item, *, by: User) -> None:
    """Somebody has looked: the item is usual work."""
    held = Leak.objects.filter(item=item, held=True)
    if held.update(held=False):
        if not Gold.objects.filter(item=item).exists():
            set_overlap(item.campaign, [item.pk], None)
        record(by, "items.release", item.public_id, campaign=item.campaign)


Read = tuple[Sequence[Message], Sequence[Sequence[Message]], Sequence[str]]


def _keep(campaign: Campaign, rows: Mapping[int, Read], known: Set[tuple[int, int, str]] = frozenset()) -> int:
    rules = QualityRules.objects.filter(campaign=campaign).first() or QualityRules()
    own = [name for line in rules.leak_words.splitlines() if (name := line.strip())]
    leaks = [
        Leak(
            campaign=campaign,
            item_id=item,
            index=one.index,
            what=one.what,
            excerpt=one.excerpt,
            held=rules.hold_leaks,
        )
        for item, row in rows.items()
        for one in find_leaks(*row, own)
        if (item, one.index, one.what) not in known
    ]
    Leak.objects.bulk_create(leaks)
    leaky = {leak.item_id for leak in leaks}
    if rules.hold_leaks and leaky:
        set_overlap(campaign, leaky, 0)
    return len(leaky)


def _text(messages: Sequence[Message]) -> str:
    """What was written by the source: not what users said in between."""
    return "\n".join(message["content"] for message in messages if message["role"] != "user")


def _around(text: str, match: re.Match[str]) -> str:
    start, end = max(match.start() - AROUND, 0), min(match.end() + AROUND, len(text))
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"[:240]

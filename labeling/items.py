"""Items as managers and reviewers read them: lists that read no payload, one item with everything about it."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Count, Prefetch, Q, QuerySet
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.functions import Left
from django.shortcuts import get_object_or_404

from labeling.models import Campaign, Item, Ranking
from labeling.querysets import COUNTED

TITLE = 400  # characters of its last turn that name an item in a list
STANDING = (Ranking.Status.ACCEPTED, Ranking.Status.REMOVED)  # of an item, in the campaign or taken out


def listed(campaign: Campaign, *, removed: bool = False) -> QuerySet[Item]:
    """Its items, or those that were taken out, for a list: of the payload only a `title`."""
    last_turn = KeyTextTransform("content", KeyTransform(-1, "messages"))
    items = campaign.items.filter(removed_at__isnull=not removed).order_by("pk")
    return items.annotate(title=Left(last_turn, TITLE)).only("campaign", "public_id", "created_at", "removed_at")


def title_of(item: Item) -> str:
    """What `listed` called it; whole conversations without a common beginning have no name."""
    title: str | None = getattr(item, "title", None)
    return title or ""


def with_counts(page: Sequence[Item]) -> list[tuple[Item, int, int]]:
    """Items with their numbers of completions and of answers, counted for the items of this page only."""
    items = Item.objects.filter(pk__in=[item.pk for item in page])
    standing = Q(rankings__status__in=STANDING, rankings__kind__in=COUNTED)
    sizes = dict(items.values_list("pk").annotate(n=Count("completions")))
    answers = dict(items.values_list("pk").annotate(n=Count("rankings", filter=standing)))
    return [(item, sizes[item.pk], answers[item.pk]) for item in page]


def get_item(campaign: Campaign, item_id: str) -> Item:
    """One item with its completions and everybody's answers that stand. Raises Http404."""
    standing = Ranking.objects.filter(status__in=STANDING, kind__in=COUNTED).order_by("pk")
    answers = Prefetch("rankings", standing.select_related("user", "campaign"))
    found = campaign.items.prefetch_related("completions", answers)
    return get_object_or_404(found, public_id=item_id.replace("\x00", ""))

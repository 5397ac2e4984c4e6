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


def listed(campaign: Campaign) -> QuerySet[Item]:
    """Its items for a list: of the payload only a `title`."""
    last_turn = KeyTextTransform("content", KeyTransform(-1, "messages"))
    return campaign.items.order_by("pk").annotate(title=Left(last_turn, TITLE)).only("public_id", "created_at")


def title_of(item: Item) -> str:
    """What `listed` called it; whole conversations without a common beginning have no name."""
    title: str | None = getattr(item, "title", None)
    return title or ""


def with_counts(page: Sequence[Item]) -> list[tuple[Item, int, int]]:
    """Items with their numbers of completions and of answers, counted for the items of this page only."""
    items = Item.objects.filter(pk__in=[item.pk for item in page])
    accepted = Q(rankings__status=Ranking.Status.ACCEPTED, rankings__kind__in=COUNTED)
    sizes = dict(items.values_list("pk").annotate(n=Count("completions")))
    answers = dict(items.values_list("pk").annotate(n=Count("rankings", filter=accepted)))
    return [(item, sizes[item.pk], answers[item.pk]) for item in page]


def get_item(campaign: Campaign, item_id: str) -> Item:
    """One item with its completions and everybody's accepted answers. Raises Http404."""
    accepted = Ranking.objects.accepted().select_related("user", "campaign").order_by("pk")
    found = campaign.items.prefetch_related("completions", Prefetch("rankings", accepted))
    return get_object_or_404(found, public_id=item_id.replace("\x00", ""))

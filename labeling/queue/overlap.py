"""How many answers each item gets: the campaign's overlap, or the item's own (`Item.overlap`).

An item has its own where nobody shall be given it as a usual one (0: gold, held back), and where `adaptive` found that
it needs more answers or fewer. Slots are locked before they are changed, so no answer can fill a slot that is about to
become void; an answer to a voided lease is kept as an extra. An item that was taken out (`removal`) gets none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from labeling.models import Campaign, Item, Slot

LOCK_SLOTS = """
SELECT count(*) FROM (SELECT FROM labeling_slot slot
                      WHERE {which} AND state IN ('open', 'leased') AND kind = 'normal' ORDER BY id FOR UPDATE) locked
"""
WANTED = "CASE WHEN item.removed_at IS NULL THEN COALESCE(item.overlap, %(overlap)s) ELSE 0 END"
# Done slots count first, then leased, then open, then void ones: what is beyond the overlap in this order is void.
FIT_SLOTS = f"""
WITH ranked AS (
    SELECT slot.id, {WANTED} AS wanted, row_number() OVER (
        PARTITION BY item_id
        ORDER BY array_position(ARRAY['done', 'leased', 'open', 'void'], state::text), slot.id) AS place
    FROM labeling_slot slot JOIN labeling_item item ON item.id = slot.item_id WHERE {{which}} AND kind = 'normal'
), lapsed AS (
    INSERT INTO labeling_lapsedlease (lease, campaign_id, item_id, user_id, shown_order)
    SELECT lease, campaign_id, item_id, user_id, shown_order FROM labeling_slot JOIN ranked USING (id)
    WHERE place > wanted AND state = 'leased'
)
UPDATE labeling_slot slot
SET state = CASE WHEN place > wanted THEN 'void' ELSE 'open' END,
    user_id = NULL, lease = NULL, leased_at = NULL, expires_at = NULL, shown_order = '[]'
FROM ranked
WHERE ranked.id = slot.id AND state <> 'done' AND (state = 'void') = (place <= wanted)
RETURNING slot.state
"""
MISSING_SLOTS = f"""
SELECT item.id, {WANTED} - count(slot.id)
FROM labeling_item item LEFT JOIN labeling_slot slot ON slot.item_id = item.id AND slot.kind = 'normal'
WHERE {{which}} GROUP BY item.id HAVING count(slot.id) < {WANTED}
"""


def is_out(item: int, person: int | None) -> bool:
    """Whether the item was taken out (`removal`); so it stays until the transaction ends.

    Locks the slots of it that the person holds, then the item. Ask while their `Contribution` is locked.
    """
    list(Slot.objects.select_for_update().filter(item=item, user=person).order_by("pk").values("pk"))
    rows = Item.objects.select_for_update(no_key=True).filter(pk=item)
    return rows.values_list("removed_at", flat=True).get() is not None


@transaction.atomic
def set_overlap(campaign: Campaign, items: Iterable[int], overlap: int | None) -> None:
    """Give these items an overlap of their own, or (None) that of the campaign again."""
    campaign = Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
    keys = list(items)
    with connection.cursor() as cursor:  # before the items, as everybody does
        cursor.execute(LOCK_SLOTS.format(which="slot.item_id = ANY(%(items)s)"), {"items": keys})
    Item.objects.filter(pk__in=keys, campaign=campaign).update(overlap=overlap)
    fit_slots(campaign, keys)


def fit_slots(campaign: Campaign, items: list[int] | None = None) -> None:
    """Give every item, or these, as many slots as wanted, or as it has answers if these are more (also if one is taken
    back). Needs the campaign's row locked.
    """
    parameters: dict[str, Any] = {"campaign": campaign.pk, "overlap": campaign.overlap, "items": items}
    of_slots = "slot.campaign_id = %(campaign)s" if items is None else "slot.item_id = ANY(%(items)s)"
    of_items = "item.campaign_id = %(campaign)s" if items is None else "item.id = ANY(%(items)s)"
    with connection.cursor() as cursor:
        cursor.execute(LOCK_SLOTS.format(which=of_slots), parameters)
        changed = [state for (state,) in cursor.execute(FIT_SLOTS.format(which=of_slots), parameters).fetchall()]
        missing = cursor.execute(MISSING_SLOTS.format(which=of_items), parameters).fetchall()
    new = [Slot(campaign=campaign, item_id=item) for item, count in missing for _ in range(count)]
    Slot.objects.bulk_create(new, batch_size=5000)
    more = len(new) + changed.count(Slot.State.OPEN) - changed.count(Slot.State.VOID)
    Campaign.objects.filter(pk=campaign.pk).update(slot_count=F("slot_count") + more)
    campaign.refresh_from_db(fields=["slot_count"])

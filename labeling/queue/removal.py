"""Taking items out of a campaign, and putting them back.

Nobody is given an item that is out, neither as usual work nor as a check. Its answers stay as they are, with the status
`removed`: they count nowhere that accepted ones do (exports, statistics, training), and are accepted again when the
item is back. What a person did stays in their own counts, because it was work. An answer that was on its way is kept
as an extra, with the same status.

Locks are taken in the order: people's `Contribution`, slots, the item, rankings; of people, this one needs none.
Whatever else changes an answer that stands or leases a done slot again, takes a late answer or gives a check locks the
item, too (`overlap.is_out`). A usual submit need not: it holds its slot until its answer is there to be seen.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.models import User
from labeling.audit import record
from labeling.events import campaign_changed
from labeling.models import Campaign, Item, Kind, Ranking, Slot
from labeling.queue.assignment import put_back
from labeling.queue.overlap import fit_slots


@transaction.atomic
def remove_item(item: Item, *, now: datetime, by: User | None = None) -> Item:
    """Nobody is given the item, and its answers do not count. One that is out already stays as it is."""
    campaign = _locked(item)
    if Item.objects.filter(pk=item.pk, removed_at=None).update(removed_at=now):
        _put_back_checks(item)
        fit_slots(campaign, [item.pk])
        Ranking.objects.filter(item=item, status=Ranking.Status.ACCEPTED).update(status=Ranking.Status.REMOVED)
        record(by, "items.remove", item.public_id, campaign=campaign)
        campaign_changed(campaign)
    item.refresh_from_db(fields=["removed_at"])
    return item


@transaction.atomic
def restore_item(item: Item, *, by: User | None = None) -> Item:
    """The item is given out again where answers are missing, and the answers it had count. Not out: nothing changes."""
    campaign = _locked(item)
    if Item.objects.filter(pk=item.pk, removed_at__isnull=False).update(removed_at=None):
        fit_slots(campaign, [item.pk])
        Ranking.objects.filter(item=item, status=Ranking.Status.REMOVED).update(status=Ranking.Status.ACCEPTED)
        record(by, "items.restore", item.public_id, campaign=campaign)
        campaign_changed(campaign)
    item.refresh_from_db(fields=["removed_at"])
    return item


def _locked(item: Item) -> Campaign:
    """The campaign; it and all slots of the item are locked."""
    campaign = Campaign.objects.select_for_update(no_key=True).get(pk=item.campaign_id)
    list(Slot.objects.select_for_update().filter(item=item).order_by("pk").values("pk"))
    return campaign


def _put_back_checks(item: Item) -> None:
    """Whoever holds the item as a check gets the next check when it is due."""
    held = Slot.objects.filter(item=item, state=Slot.State.LEASED).exclude(kind=Kind.NORMAL)
    for slot in held.select_related("user"):
        if slot.user is not None:
            put_back(slot.user, slot)

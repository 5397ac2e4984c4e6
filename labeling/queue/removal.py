"""Taking items out of a campaign, and putting them back.

Nobody is given an item that is out, neither as usual work nor as a check. Its answers stay as they are, with the status
`removed`: they count nowhere that accepted ones do (exports, statistics, training), and are accepted again when the
item is back. What a person did stays in their own counts, because it was work. An answer that was on its way is kept
as an extra, with the same status.

Locks are taken in the order: the campaign's row, the `Contribution` of everybody, the item, slots, rankings. Who
answers late or is given a check locks the item, too (`overlap.is_out`), so no answer is accepted beside this.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.models import User
from labeling.audit import record
from labeling.events import campaign_changed
from labeling.models import Campaign, Item, Kind, Ranking, Slot
from labeling.queue.assignment import put_back
from labeling.queue.checks import check_again
from labeling.queue.overlap import fit_slots


@transaction.atomic
def remove_item(item: Item, *, now: datetime, by: User | None = None) -> Item:
    """Nobody is given the item, and its answers do not count. One that is out already stays as it is."""
    campaign = _locked(item)
    _put_back_checks(campaign, item)
    if not Item.objects.filter(pk=item.pk, removed_at=None).update(removed_at=now):
        return _fresh(item)
    fit_slots(campaign, [item.pk])
    Ranking.objects.filter(item=item, status=Ranking.Status.ACCEPTED).update(status=Ranking.Status.REMOVED)
    record(by, "items.remove", item.public_id, campaign=campaign)
    campaign_changed(campaign)
    return _fresh(item)


@transaction.atomic
def restore_item(item: Item, *, by: User | None = None) -> Item:
    """The item is given out again where answers are missing, and the answers it had count. Not out: nothing changes."""
    campaign = _locked(item)
    if not Item.objects.filter(pk=item.pk).exclude(removed_at=None).update(removed_at=None):
        return _fresh(item)
    fit_slots(campaign, [item.pk])
    Ranking.objects.filter(item=item, status=Ranking.Status.REMOVED).update(status=Ranking.Status.ACCEPTED)
    record(by, "items.restore", item.public_id, campaign=campaign)
    campaign_changed(campaign)
    return _fresh(item)


def _locked(item: Item) -> Campaign:
    """The campaign; it and everybody in it are locked.

    Not only who has to do with the item now: others may get it meanwhile, and undo locks an answer before its slot.
    """
    campaign = Campaign.objects.select_for_update(no_key=True).get(pk=item.campaign_id)
    list(campaign.contributions.select_for_update(no_key=True).order_by("pk").values_list("pk"))
    return campaign


def _put_back_checks(campaign: Campaign, item: Item) -> None:
    """Whoever holds the item as a check is given another one."""
    for slot in Slot.objects.filter(item=item, state=Slot.State.LEASED).exclude(kind=Kind.NORMAL):
        person = campaign.contributions.select_related("user").get(user=slot.user_id)
        put_back(person.user, slot)
        check_again(person)


def _fresh(item: Item) -> Item:
    item.refresh_from_db(fields=["removed_at"])
    return item

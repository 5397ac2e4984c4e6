"""Who did what, as a table that only grows: the database refuses to change or delete an entry.

Recorded is what changes a campaign, who may work in it, what counts, or what leaves it; ordinary answers are not, they
are append-only themselves. `VERBS` are all there are, with the words that pages show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from labeling.models import AuditEntry, Campaign

VERBS = {
    "campaign.create": _("created the campaign"),
    "campaign.change": _("changed settings"),
    "campaign.state": _("changed the state"),
    "campaign.delete": _("deleted the campaign"),
    "campaign.restore": _("restored the campaign"),
    "campaign.rules": _("changed the quality rules"),
    "campaign.chat": _("set up the live chat"),
    "member.set": _("set a role"),
    "member.remove": _("removed a member"),
    "person.pause": _("paused a person"),
    "person.resume": _("let a person go on"),
    "person.role": _("changed a site role"),
    "person.active": _("switched an account on or off"),
    "person.erase": _("erased a person"),
    "items.import": _("imported"),
    "items.scan": _("looked for names again"),
    "items.release": _("released held items"),
    "items.remove": _("took an item out"),
    "items.restore": _("put an item back"),
    "items.export": _("exported"),
    "gold.mark": _("made an item gold"),
    "gold.unmark": _("took gold back"),
    "review.accept": _("accepted an answer"),
    "review.return": _("returned an answer"),
    "review.replace": _("replaced an answer"),
    "pay.export": _("exported times and pay"),
    "invitation.create": _("made an invitation"),
    "invitation.revoke": _("revoked an invitation"),
    "token.create": _("made an API token"),
    "token.revoke": _("revoked an API token"),
}
PAGE_SIZE = 50


def record(
    actor: User | None, verb: str, target: object = "", *, campaign: Campaign | None = None, **facts: Any
) -> None:
    """Write down one act, in the transaction of the act. No actor: the system did it by itself."""
    if verb not in VERBS:
        raise ValueError(f"{verb} is no verb of the audit log.")
    AuditEntry.objects.create(
        campaign=target if isinstance(target, Campaign) else campaign,
        actor=actor,
        actor_name=actor.username if actor else "",
        verb=verb,
        target=str(target)[:200],
        facts=facts,
    )


def entries(
    campaign: Campaign | None, *, verb: str = "", actor: str = "", before: int | None = None
) -> tuple[Sequence[AuditEntry], int | None]:
    """A page of the log, newest first, and the key of the next page: of a campaign, or (None) of the whole site."""
    found: QuerySet[AuditEntry] = AuditEntry.objects.select_related("campaign").order_by("-pk")
    if campaign is not None:
        found = found.filter(campaign=campaign)
    conditions = Q()
    if verb:
        conditions &= Q(verb=verb)
    if actor:
        conditions &= Q(actor_name__iexact=actor)
    if before is not None:
        conditions &= Q(pk__lt=before)
    page = list(found.filter(conditions)[: PAGE_SIZE + 1])
    return page[:PAGE_SIZE], page[PAGE_SIZE - 1].pk if len(page) > PAGE_SIZE else None

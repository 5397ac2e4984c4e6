"""Campaigns: creating, changing, opening and closing, members.

A draft is opened once there is something to do in it; open and paused turn into each other; closed can be opened
again. Nothing turns back into a draft. People work only while a campaign is open.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import CampaignRole, User
from labeling.audit import record
from labeling.events import campaign_changed
from labeling.models import Campaign, LiveChat, Membership, PastForm, QualityRules
from labeling.protocols.basics import InvalidRanking
from labeling.protocols.presets import PRESETS
from labeling.protocols.questionnaire import PLAIN, Form, parse_form
from labeling.queue.overlap import fit_slots
from labeling.queue.steering import start_over
from labeling.webhooks import campaign_state_changed

TRANSITIONS = {
    "draft": {"open", "closed"},
    "open": {"paused", "closed"},
    "paused": {"open", "closed"},
    "closed": {"open"},
}
EDITABLE = ("name", "guidelines", "protocol", "form", "overlap", "order", "edit_minutes")


class CampaignChangeRefused(Exception):
    """The campaign cannot be changed like this; the message says why."""


@transaction.atomic
def create_campaign(
    user: User,
    *,
    name: str,
    guidelines: str = "",
    preset: str = "plain",
    protocol: str = "",
    form: dict[str, Any] | None = None,
    overlap: int = 1,
    order: str = "random",
) -> Campaign:
    """A new draft, managed by `user`. What is not given of protocol and form is the preset's. Raises InvalidForm."""
    protocol = protocol or PRESETS[preset].protocol
    campaign = Campaign.objects.create(
        name=name,
        guidelines=guidelines,
        protocol=protocol,
        form=_kept(parse_form(PRESETS[preset].form.document() if form is None else form, protocol)),
        overlap=overlap,
        order=order,
        created_by=user,
    )
    Membership.objects.create(campaign=campaign, user=user, role=CampaignRole.MANAGER)
    record(user, "campaign.create", campaign)
    return campaign


@transaction.atomic
def change_state(campaign: Campaign, state: str, *, by: User | None = None) -> Campaign:
    """Open, pause or close. Asking for the state it has changes nothing. Raises CampaignChangeRefused."""
    campaign = _locked(campaign)
    if state == campaign.state:
        return campaign
    if state not in TRANSITIONS[campaign.state]:
        raise CampaignChangeRefused(
            _("A campaign that is {state} cannot become {wanted}.").format(state=campaign.state, wanted=state)
        )
    if state == Campaign.State.OPEN and (reason := obstacle_of(campaign)):
        raise CampaignChangeRefused(reason)
    record(by, "campaign.state", campaign, before=campaign.state, after=state)
    campaign.state = state
    campaign.save(update_fields=["state"])
    campaign_changed(campaign)
    campaign_state_changed(campaign)
    return campaign


def obstacle_of(campaign: Campaign) -> str:
    """Why opening it would give nobody anything to do, and what to do about it; empty where it would."""
    if campaign.slot_count or LiveChat.objects.filter(pk=campaign.pk).exists():
        return ""
    items = campaign.items.filter(removed_at=None)
    if not items.exists():
        return _("Import items first: there is nothing to compare yet.")
    if campaign.leaks.filter(held=True, item__removed_at=None).exists():
        return _("The items are held back, as they may show who wrote an answer. Look at the source leaks first.")
    trains = QualityRules.objects.filter(campaign=campaign, practice_items__gt=0).exists()
    if trains and campaign.golds.filter(item__removed_at=None).exclude(explanation="").exists():
        return ""
    return _(
        "All items are gold, which only checks people. Import usual items as well, or explain the gold items and let "
        "the quality rules train newcomers with them."
    )


@transaction.atomic
def update_campaign(campaign: Campaign, *, by: User | None = None, **changes: Any) -> Campaign:
    """Change name, guidelines or form (a new version), overlap (slots follow), order or, before any item, the protocol.

    A preset is its protocol and form, where these are not given.

    Raises CampaignChangeRefused, InvalidForm.
    """
    campaign = _locked(campaign)
    if preset := PRESETS.get(changes.pop("preset", "")):
        changes = {"protocol": preset.protocol, "form": preset.form.document()} | changes
    if {"form", "protocol"} & changes.keys():
        form = parse_form(changes.get("form", campaign.form), changes.get("protocol", campaign.protocol))
        changes["form"] = _kept(form)
    old_form = PastForm(campaign=campaign, version=campaign.form_version, form=campaign.form)
    fields = [field for field in EDITABLE if field in changes and changes[field] != getattr(campaign, field)]
    if fields:
        record(by, "campaign.change", campaign, **{field: _brief(changes[field]) for field in fields})
    for field in fields:
        setattr(campaign, field, changes[field])
    if "protocol" in fields and campaign.items.exists():
        raise CampaignChangeRefused(_("The protocol is fixed once items are imported."))
    if "guidelines" in fields:
        campaign.guidelines_version += 1
    if "form" in fields:
        old_form.save()
        campaign.form_version += 1
    campaign.save(update_fields=[*fields, "guidelines_version", "form_version"])
    if "overlap" in fields:
        fit_slots(campaign)
    if "order" in fields:
        start_over(campaign)  # last: claims that find nothing wait for it, so it must wait for nobody
    campaign_changed(campaign)
    return campaign


def form_of(campaign: Campaign, version: int | None = None) -> Form:
    """What the campaign asks, or asked in an earlier version. Raises InvalidRanking where there was no such version."""
    if version is None or version == campaign.form_version:
        return parse_form(campaign.form)
    past = campaign.past_forms.filter(version=version).values_list("form", flat=True).first()
    if past is None:
        raise InvalidRanking(_("This campaign's questions never had the version {version}.").format(version=version))
    return parse_form(past)


def sizes_of(campaign: Campaign) -> tuple[int, int]:
    """How many completions new items have, fewest and most."""
    return form_of(campaign).sizes(campaign.protocol)


def _brief(value: Any) -> Any:
    """Enough of a setting to know it again in the audit log."""
    return value if isinstance(value, (int, bool)) else str(value)[:200]


def _kept(form: Form) -> dict[str, Any]:
    """Its document; the plain form is kept as nothing."""
    return {} if form == PLAIN else form.document()


@transaction.atomic
def set_member(campaign: Campaign, user: User, role: str, *, by: User | None = None) -> Membership:
    """Add a person, or change what they may do."""
    record(by, "member.set", user.username, campaign=campaign, role=role)
    return Membership.objects.update_or_create(campaign=campaign, user=user, defaults={"role": role})[0]


@transaction.atomic
def remove_member(campaign: Campaign, user: User, *, by: User | None = None) -> None:
    """What they answered stays."""
    record(by, "member.remove", user.username, campaign=campaign)
    Membership.objects.filter(campaign=campaign, user=user).delete()


def _locked(campaign: Campaign) -> Campaign:
    return Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)

"""The tabs of a campaign's pages: five groups, and below them the pages of the open one."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse
from django.utils.translation import gettext, gettext_noop

from accounts.models import CampaignRole
from labeling.access import MANAGER, REPORT_ROLES
from labeling.models import Campaign


@dataclass(frozen=True)
class Page:
    """A page that a tab leads to; `name` is what `campaign_context` is told, `protocol` the only one that has it."""

    name: str
    url: str
    label: str
    roles: tuple[CampaignRole, ...] = MANAGER
    protocol: str = ""


@dataclass(frozen=True)
class Tab:
    """A link; `current` is what `aria-current` says of it."""

    label: str
    href: str
    current: str


GROUPS: dict[str, tuple[Page, ...]] = {
    gettext_noop("Overview"): (Page("overview", "campaign_detail", gettext_noop("Overview"), REPORT_ROLES),),
    gettext_noop("Items"): (
        Page("items", "campaign_items", gettext_noop("All items"), REPORT_ROLES),
        Page("import", "campaign_import", gettext_noop("Import")),
        Page("gold", "campaign_gold", gettext_noop("Gold items")),
        Page("leaks", "campaign_leaks", gettext_noop("Source leaks"), REPORT_ROLES),
    ),
    gettext_noop("People"): (
        Page("quality", "campaign_quality", gettext_noop("Quality"), REPORT_ROLES),
        Page("review", "campaign_review", gettext_noop("Review"), REPORT_ROLES),
        Page("members", "campaign_members", gettext_noop("Members")),
        Page("invitations", "campaign_invitations", gettext_noop("Invitations")),
    ),
    gettext_noop("Results"): (
        Page("report", "campaign_report", gettext_noop("Report"), REPORT_ROLES),
        Page("health", "campaign_health", gettext_noop("Health"), REPORT_ROLES),
        Page("exports", "campaign_exports", gettext_noop("Export"), REPORT_ROLES),
    ),
    gettext_noop("Settings"): (
        Page("settings", "campaign_settings", gettext_noop("General")),
        Page("form", "campaign_form", gettext_noop("Questions")),
        Page("rules", "campaign_rules", gettext_noop("Quality rules")),
        Page("chat", "campaign_live_chat", gettext_noop("Live chat"), protocol=Campaign.Protocol.CONVERSATION),
        Page("webhooks", "campaign_webhooks", gettext_noop("Webhooks")),
        Page("log", "campaign_log", gettext_noop("Log")),
    ),
}


def tabs_of(campaign: Campaign, role: str, page: str, path: str) -> tuple[list[Tab], list[Tab]]:
    """The groups, and the pages of the one that `page` is in (none where it is alone), for who looks at `path`."""
    groups: list[Tab] = []
    below: list[Tab] = []
    for label, pages in GROUPS.items():
        open_to = [one for one in pages if role in one.roles and one.protocol in ("", campaign.protocol)]
        tabs = [_tab(one, campaign, is_here=one.name == page, path=path) for one in open_to]
        is_open = any(one.name == page for one in open_to)
        if len(tabs) == 1:
            groups += tabs
        elif tabs:
            groups.append(Tab(gettext(label), tabs[0].href, "true" if is_open else ""))
            below = tabs if is_open else below
    return groups, below


def _tab(page: Page, campaign: Campaign, *, is_here: bool, path: str) -> Tab:
    """The page itself, or (of one item, one person) the page that it belongs to."""
    href = reverse(page.url, args=[campaign.public_id])
    return Tab(gettext(page.label), href, ("page" if href == path else "true") if is_here else "")

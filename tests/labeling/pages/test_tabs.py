"""The tabs of a campaign: each page is in them once, they lead where one may go, and they say where one is."""

from __future__ import annotations

import re

import pytest

from accounts.models import User
from labeling.models import Campaign
from labeling.pages.tabs import GROUPS
from tests.conftest import client_for
from tests.labeling.conftest import add_items

LINK = re.compile(r'<a href="([^"]+)"(?: aria-current="(\w+)")?>([^<]+)</a>')


def rows_of(page: str) -> list[dict[str, tuple[str, str]]]:
    """Of each row of tabs: label, with its address and what `aria-current` says."""
    rows = re.findall(r'<nav class="tabs(?:-below)?".*?</nav>', page, re.DOTALL)
    return [{label: (href, current) for href, current, label in LINK.findall(row)} for row in rows]


@pytest.fixture
def conversations(campaign: Campaign) -> Campaign:
    """A campaign that has every page."""
    campaign.protocol = "conversation"
    campaign.save(update_fields=["protocol"])
    return campaign


def test_every_tab_leads_to_a_page_that_says_where_one_is(conversations: Campaign, manager: User) -> None:
    client = client_for(manager)
    seen = []
    for group, pages in GROUPS.items():
        for page in pages:
            address = f"/campaigns/{conversations.public_id}/"
            top = rows_of(client.get(address).text)[0]
            rows = rows_of(client.get(top[group][0]).text)
            here = rows[-1][page.label]
            answer = client.get(here[0])
            assert answer.status_code == 200
            rows = rows_of(answer.text)
            assert [label for label, (_, current) in rows[0].items() if current] == [group]
            assert [label for label, (_, current) in rows[-1].items() if current == "page"] == [page.label]
            assert len(rows) == (2 if len(pages) > 1 else 1)
            seen.append(here[0])
    assert len(set(seen)) == len(seen) == sum(map(len, GROUPS.values()))


def test_a_reviewer_sees_only_what_they_may_open(conversations: Campaign, reviewer: User) -> None:
    client = client_for(reviewer)
    top = rows_of(client.get(f"/campaigns/{conversations.public_id}/").text)[0]
    assert list(top) == ["Overview", "Items", "People", "Results"]
    below = {label: rows_of(client.get(href).text)[-1] for label, (href, _) in top.items()}
    assert {group: list(row) for group, row in below.items()} == {
        "Overview": list(top),
        "Items": ["All items", "Source leaks"],
        "People": ["Quality", "Review"],
        "Results": ["Report", "Health", "Export"],
    }
    assert all(client.get(href).status_code == 200 for row in below.values() for href, _ in row.values())


def test_annotators_have_no_tabs_and_pairs_no_live_chat(campaign: Campaign, annotator: User, manager: User) -> None:
    assert rows_of(client_for(annotator).get(f"/campaigns/{campaign.public_id}/").text) == []
    settings = client_for(manager).get(f"/campaigns/{campaign.public_id}/settings")
    assert "Log" in rows_of(settings.text)[1] and "Live chat" not in rows_of(settings.text)[1]


def test_the_page_of_one_item_belongs_to_the_list(campaign: Campaign, manager: User) -> None:
    item = add_items(campaign, 1)[0]
    rows = rows_of(client_for(manager).get(f"/campaigns/{campaign.public_id}/items/{item.public_id}/").text)
    assert rows[1]["All items"][1] == rows[0]["Items"][1] == "true"

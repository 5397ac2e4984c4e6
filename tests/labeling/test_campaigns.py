"""What may become of a campaign, and that its slots follow."""

from __future__ import annotations

from itertools import permutations

import pytest

from accounts.models import User
from labeling.campaigns import (
    TRANSITIONS,
    CampaignChangeRefused,
    change_state,
    create_campaign,
    remove_member,
    set_member,
    update_campaign,
)
from labeling.data.importing import import_rows
from labeling.models import Campaign, Contribution, LapsedLease, Membership, Slot
from labeling.quality.gold import mark_gold
from labeling.quality.rules import change_rules
from tests.conftest import client_for, make_member, make_user
from tests.labeling.conftest import add_items, claim, submit


def slots_per_item(campaign: Campaign) -> list[int]:
    campaign.refresh_from_db()
    counts = [item.slots.exclude(state="void").count() for item in campaign.items.order_by("pk")]
    assert sum(counts) == campaign.slot_count
    return counts


def test_a_new_campaign_is_a_draft_managed_by_its_creator(researcher: User):
    campaign = create_campaign(researcher, name="New", protocol="ranking", overlap=3)
    assert (campaign.state, campaign.protocol, campaign.overlap, campaign.slot_count) == ("draft", "ranking", 3, 0)
    assert Membership.objects.get().role == "manager"


@pytest.mark.parametrize(("before", "after"), list(permutations(TRANSITIONS, 2)))
def test_states_change_along_the_transitions_only(campaign: Campaign, before: str, after: str):
    add_items(campaign, 1)
    campaign.state = before
    campaign.save(update_fields=["state"])
    if after in TRANSITIONS[before]:
        assert change_state(campaign, after).state == after
    else:
        with pytest.raises(CampaignChangeRefused, match=before):
            change_state(campaign, after)
    campaign.refresh_from_db()
    assert (campaign.state == after) == (after in TRANSITIONS[before])
    assert change_state(campaign, campaign.state).state == campaign.state


def test_an_empty_campaign_is_not_opened(researcher: User):
    with pytest.raises(CampaignChangeRefused, match="Import items first"):
        change_state(create_campaign(researcher, name="Empty"), "open")


def test_new_guidelines_are_a_new_version(campaign: Campaign):
    assert update_campaign(campaign, guidelines="Be fair.", name="Renamed").guidelines_version == 2
    assert update_campaign(campaign, guidelines="Be fair.").guidelines_version == 2


def test_the_protocol_is_fixed_once_there_are_items(campaign: Campaign):
    assert update_campaign(campaign, protocol="ranking").protocol == "ranking"
    add_items(campaign, 1)
    with pytest.raises(CampaignChangeRefused, match="protocol"):
        update_campaign(campaign, protocol="pair", name="Other")
    campaign.refresh_from_db()
    assert campaign.name != "Other"


def test_members_change_role_and_leave_and_their_answers_stay(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    submit(anna, claim(anna, campaign))
    assert set_member(campaign, anna, "reviewer").role == "reviewer"
    remove_member(campaign, anna)
    assert not campaign.memberships.filter(user=anna).exists()
    assert campaign.rankings.accepted().count() == 1


def test_slots_follow_the_overlap(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 2)
    campaign = update_campaign(campaign, overlap=3)
    assert slots_per_item(campaign) == [3, 3]
    first, second = claim(anna, campaign), claim(ben, campaign)
    submit(anna, first)
    submit(ben, second)
    for person in (anna, ben):
        submit(person, claim(person, campaign))
    assert slots_per_item(campaign) == [3, 3]
    assert Slot.objects.filter(state="done").count() == 4
    # Fewer than there are answers: the answers stay, everything else is void.
    campaign = update_campaign(campaign, overlap=1)
    assert slots_per_item(campaign) == [2, 2]
    assert Slot.objects.filter(state="void").count() == 2
    assert Contribution.objects.get(user=anna).done == 2
    # Void slots come back before new ones are made.
    campaign = update_campaign(campaign, overlap=4)
    assert slots_per_item(campaign) == [4, 4]
    assert Slot.objects.count() == 8
    add_items(campaign, 3)
    assert slots_per_item(campaign) == [4, 4, 4]


def test_a_lower_overlap_keeps_leased_slots_before_open_ones_and_remembers_the_rest(
    campaign: Campaign, anna: User, ben: User
):
    campaign = update_campaign(campaign, overlap=3)
    add_items(campaign, 1)
    tasks = {claim(anna, campaign).lease, claim(ben, campaign).lease}
    campaign = update_campaign(campaign, overlap=2)
    assert set(Slot.objects.filter(state="leased").values_list("lease", flat=True)) == tasks
    campaign = update_campaign(campaign, overlap=1)
    kept = Slot.objects.get(state="leased").lease
    assert {kept, LapsedLease.objects.get().lease} == tasks
    assert slots_per_item(campaign) == [1]


def test_a_campaign_of_gold_items_says_what_it_needs_and_opens_for_training(campaign: Campaign, manager: User):
    campaign.state = "draft"
    campaign.save(update_fields=["state"])
    golds = [mark_gold(item, tiers=[[0], [1]], user=manager) for item in add_items(campaign, 2)]
    address = f"/campaigns/{campaign.public_id}/"
    page = client_for(manager).get(address).text
    assert "All items are gold" in page and 'value="open"' not in page
    with pytest.raises(CampaignChangeRefused, match="All items are gold"):
        change_state(campaign, "open")
    change_rules(campaign, practice_items=2)
    with pytest.raises(CampaignChangeRefused, match="explain the gold items"):
        change_state(campaign, "open")
    mark_gold(golds[0].item, tiers=[[0], [1]], user=manager, explanation="The other one is rude.")
    assert 'value="open"' in client_for(manager).get(address).text
    assert change_state(campaign, "open").state == "open"
    nina = make_member(campaign, make_user("nina"), "annotator")
    newcomer = client_for(nina)
    assert newcomer.post(f"{address}label/next")["Location"].endswith("/label/practice/")
    campaign.contributions.create(user=nina, practised=True)
    assert "nothing to answer here" in newcomer.post(f"{address}label/next", follow=True).text


def test_a_campaign_whose_items_are_all_held_back_says_so(campaign: Campaign, manager: User):
    campaign.state = "draft"
    campaign.save(update_fields=["state"])
    change_rules(campaign, hold_leaks=True)
    import_rows(campaign, [{"prompt": "Who?", "completions": ["I am ChatGPT.", "Nobody."]}], name="leaky")
    with pytest.raises(CampaignChangeRefused, match="held back"):
        change_state(campaign, "open")

"""Campaign pages: who sees what, and what a manager can do there."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from accounts.models import User
from labeling.campaigns import change_state, create_campaign
from labeling.models import Campaign, Membership
from labeling.pages.items import PAGE_SIZE
from tests.conftest import client_for, make_member, make_user
from tests.labeling.conftest import add_items, claim, submit

GOOD = {"prompt": "Why?", "completions": ["Because.", "For a reason."]}


def url(name: str, campaign: Campaign, *arguments: Any) -> str:
    return reverse(name, args=[campaign.public_id, *arguments])


def upload(*lines: Any) -> SimpleUploadedFile:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return SimpleUploadedFile("pairs.jsonl", text.encode())


def test_the_list_shows_ones_own_campaigns_with_ones_own_count(
    campaign: Campaign, foreign_campaign: Campaign, annotator: User
) -> None:
    add_items(campaign, count=4)
    submit(annotator, claim(annotator, campaign))
    page = client_for(annotator).get(reverse("campaign_list"))
    assert campaign.name in page.text
    assert foreign_campaign.name not in page.text
    assert "1 of 4 answers" in page.text
    assert "1 by you" in page.text
    assert url("label_next", campaign) in page.text
    assert "New campaign" not in page.text


def test_an_empty_list_says_how_a_campaign_comes_about(outsider: User, researcher: User) -> None:
    assert "when its manager adds you" in client_for(outsider).get(reverse("campaign_list")).text
    assert reverse("campaign_new") in client_for(researcher).get(reverse("campaign_list")).text


def test_only_an_open_campaign_can_be_labeled_from_the_list(campaign: Campaign, annotator: User) -> None:
    change_state(campaign, "paused")
    page = client_for(annotator).get(reverse("campaign_list"))
    assert "Paused by its managers" in page.text
    assert url("label_next", campaign) not in page.text


def test_a_researcher_creates_a_draft_and_manages_it(researcher: User, annotator: User) -> None:
    data = {"name": "Tone", "preset": "instructgpt", "overlap": 3, "guidelines": "# Be kind"}
    client = client_for(researcher)
    assert client.post(reverse("campaign_new"), data | {"overlap": 0}).status_code == 422
    response = client.post(reverse("campaign_new"), data)
    made = Campaign.objects.get(name="Tone")
    assert response["Location"] == url("campaign_import", made)
    assert (made.state, made.protocol, made.overlap, made.guidelines) == ("draft", "ranking", 3, "# Be kind")
    assert made.memberships.get().role == "manager"
    assert client_for(annotator).post(reverse("campaign_new"), data).status_code == 404


def test_the_guidelines_preview_is_what_annotators_see(annotator: User) -> None:
    page = client_for(annotator).post(
        reverse("campaign_guidelines_preview"), {"guidelines": "**b** <script>x</script>"}
    )
    assert "<p><strong>b</strong> &lt;script&gt;x&lt;/script&gt;</p>" in page.text


def test_managers_see_who_answers_and_annotators_do_not(
    campaign: Campaign, manager: User, reviewer: User, annotator: User
) -> None:
    add_items(campaign, count=4)
    submit(annotator, claim(annotator, campaign), active_ms=61_000)
    for user in (manager, reviewer):
        page = client_for(user).get(url("campaign_detail", campaign))
        assert "Who answers" in page.text
        assert "1 min 1 s" in page.text
        assert "25 %" in page.text
    page = client_for(annotator).get(url("campaign_detail", campaign))
    assert "Who answers" not in page.text
    assert "Guidelines" in page.text


def test_the_live_part_is_the_same_as_on_the_page(campaign: Campaign, reviewer: User) -> None:
    add_items(campaign)
    client = client_for(reviewer)
    fragment = client.get(url("campaign_live", campaign)).text
    assert "<html" not in fragment
    assert fragment.strip() in client.get(url("campaign_detail", campaign)).text


def test_training_is_offered_to_researchers_only(campaign: Campaign, manager: User) -> None:
    add_items(campaign)
    link = f"{reverse('run_new')}?kind=reward&amp;campaign={campaign.public_id}"
    assert link not in client_for(manager).get(url("campaign_detail", campaign)).text
    scientist = make_member(campaign, make_user("scientist", "researcher"), "manager")
    assert link not in client_for(scientist).get(url("campaign_detail", campaign)).text  # nothing to learn from yet
    submit(manager, claim(manager, campaign))
    assert link in client_for(scientist).get(url("campaign_detail", campaign)).text


def test_agreement_is_a_number_or_says_why_there_is_none(campaign: Campaign, reviewer: User, annotator: User) -> None:
    client = client_for(reviewer)
    assert "Nothing was judged by two people." in client.get(url("campaign_report", campaign)).text
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    add_items(campaign, count=6)
    for user in (reviewer, annotator):
        for n in range(6):
            submit(user, claim(user, campaign), [[0], [1]] if n % 2 else [[1], [0]])
    page = client.get(url("campaign_report", campaign)).text
    assert "Undefined" not in page
    assert "From 12 answers" in page


@pytest.mark.parametrize("packed", [False, True])
def test_an_import_reports_line_numbers_and_reasons(campaign: Campaign, manager: User, packed: bool) -> None:
    file = upload(GOOD, "not json", GOOD, {"prompt": "no completions"})
    if packed:
        file = SimpleUploadedFile("pairs.jsonl.gz", gzip.compress(file.read()))
    page = client_for(manager).post(url("campaign_import", campaign), {"file": file}, follow=True)
    record = campaign.imports.get()
    assert (record.accepted, record.duplicates, record.rejected) == (1, 1, 2)
    assert '<td class="number">2</td><td>The line is not valid JSON' in page.text
    assert '<td class="number">4</td>' in page.text


def test_a_preview_shows_items_formats_and_reasons_and_stores_nothing(campaign: Campaign, manager: User) -> None:
    row = {"chosen": "\n\nHuman: Hi\n\nAssistant: **Good**", "rejected": "\n\nHuman: Hi\n\nAssistant: <b>bad</b>"}
    client = client_for(manager)
    page = client.post(url("campaign_import", campaign), {"file": upload(row, {"prompt": 1}), "preview": "1"})
    assert page.status_code == 200
    assert "Preview of the first 2 rows" in page.text
    assert "50 % read as hh-rlhf" in page.text
    assert "<strong>Good</strong>" in page.text
    assert "<b>bad" not in page.text
    assert "row 2, A line needs" in page.text
    assert not campaign.imports.exists()
    cut = {"file": upload(row, '{"chosen": "\\n\\nHu'), "preview": "1", "cut": "1"}
    assert "Refused" not in client.post(url("campaign_import", campaign), cut).text


def test_columns_of_a_table_are_chosen_then_imported(campaign: Campaign, manager: User) -> None:
    client = client_for(manager)

    def post(**fields: str) -> Any:
        file = SimpleUploadedFile("table.csv", b"Question,One,Two,Better\nWhy?,Because.,So.,two\n")
        return client.post(url("campaign_import", campaign), {"file": file, "form": "columns", **fields}, follow=True)

    page = post(preview="1")
    assert '<option value="Question">Question</option>' in page.text
    assert "Say which columns" in post().text
    chosen = {
        "column-prompt": "Question",
        "column-answer_a": "One",
        "column-answer_b": "Two",
        "column-winner": "Better",
    }
    assert "Ranked: B &gt; A" in post(preview="1", **chosen).text
    post(**chosen)
    ranking = campaign.rankings.get()
    assert ranking.tiers == [[1], [0]]
    assert ranking.item.messages == [{"role": "user", "content": "Why?"}]


def test_a_format_that_was_chosen_is_used(campaign: Campaign, manager: User) -> None:
    client_for(manager).post(url("campaign_import", campaign), {"file": upload(GOOD), "form": "arena"})
    assert "does not look like Arena" in campaign.imports.get().errors[0]["reason"]


def test_a_reason_quotes_a_hostile_line_harmlessly(campaign: Campaign, manager: User) -> None:
    row = {"messages": [{"role": "<script>alert(1)</script>\u202e", "content": "x"}], "completions": ["a", "b"]}
    page = client_for(manager).post(url("campaign_import", campaign), {"file": upload(row)}, follow=True)
    assert campaign.imports.get().rejected == 1
    assert "<script>alert" not in page.text


def test_an_import_into_a_closed_campaign_is_refused_with_the_reason(campaign: Campaign, manager: User) -> None:
    change_state(campaign, "closed")
    page = client_for(manager).post(url("campaign_import", campaign), {"file": upload(GOOD)})
    assert page.status_code == 422
    assert "The campaign is closed." in page.text


def test_items_are_paged_by_key(campaign: Campaign, reviewer: User) -> None:
    add_items(campaign, count=PAGE_SIZE + 5)
    client = client_for(reviewer)
    first = client.get(url("campaign_items", campaign))
    assert len(first.context["rows"]) == PAGE_SIZE
    second = client.get(url("campaign_items", campaign) + f"?after={first.context['next']}")
    assert len(second.context["rows"]) == 5
    assert second.context["next"] is None
    seen = {item.pk for page in (first, second) for item, _, _ in page.context["rows"]}
    assert len(seen) == PAGE_SIZE + 5
    assert client.get(url("campaign_items", campaign) + "?after=' OR 1=1").status_code == 200


def test_a_reviewer_reads_sources_and_everybodys_answers(campaign: Campaign, reviewer: User, annotator: User) -> None:
    item = add_items(campaign, count=1)[0]
    item.completions.filter(index=1).update(source="model-b")
    submit(annotator, claim(annotator, campaign), [[1], [0]], flags=["opinion"], rationale="*clear*")
    page = client_for(reviewer).get(url("campaign_item", campaign, item.public_id)).text
    assert "model-b" in page
    assert "B &gt; A" in page
    assert "annotator" in page
    assert "<em>clear</em>" in page
    assert "opinion or moral judgment" in page


def test_an_item_is_found_in_its_own_campaign_only(campaign: Campaign, foreign_campaign: Campaign, admin: User) -> None:
    item = add_items(campaign, count=1)[0]
    assert client_for(admin).get(url("campaign_item", campaign, item.public_id)).status_code == 200
    assert client_for(admin).get(url("campaign_item", foreign_campaign, item.public_id)).status_code == 404


def test_settings_change_the_campaign_and_make_a_new_version_of_the_guidelines(
    campaign: Campaign, manager: User
) -> None:
    data = {"name": "New name", "protocol": "pair", "overlap": 2, "guidelines": "New"}
    client_for(manager).post(url("campaign_settings", campaign), data)
    campaign.refresh_from_db()
    assert (campaign.name, campaign.overlap, campaign.guidelines_version) == ("New name", 2, 2)


def test_the_protocol_is_fixed_once_there_are_items(campaign: Campaign, manager: User) -> None:
    add_items(campaign)
    data = {"name": campaign.name, "protocol": "ranking", "overlap": 1, "guidelines": ""}
    client_for(manager).post(url("campaign_settings", campaign), data)
    campaign.refresh_from_db()
    assert campaign.protocol == "pair"


def test_a_refused_change_shows_the_campaign_as_it_is(campaign: Campaign, manager: User) -> None:
    page = client_for(manager).post(url("campaign_settings", campaign), {"name": "", "protocol": "pair", "overlap": 1})
    assert page.status_code == 422
    assert f"<h1>{campaign.name}</h1>" in page.text


def test_opening_pausing_and_closing(admin: User) -> None:
    draft = create_campaign(admin, name="Draft")
    client = client_for(admin)
    page = client.post(url("campaign_state", draft), {"state": "open"}, follow=True)
    assert "Import items first" in page.text
    add_items(draft)
    for state in ("open", "paused", "open", "closed"):
        client.post(url("campaign_state", draft), {"state": state})
        draft.refresh_from_db()
        assert draft.state == state
    assert "cannot become paused" in client.post(url("campaign_state", draft), {"state": "paused"}, follow=True).text


def test_members_are_added_changed_and_removed(campaign: Campaign, manager: User, outsider: User) -> None:
    client, page = client_for(manager), url("campaign_members", campaign)
    assert "Nobody here has this user name" in client.post(page, {"username": "ghost", "role": "annotator"}).text
    client.post(page, {"username": outsider.username, "role": "annotator"})
    membership = Membership.objects.get(campaign=campaign, user=outsider)
    client.post(url("campaign_member_role", campaign, outsider.pk), {"role": "reviewer"})
    membership.refresh_from_db()
    assert membership.role == "reviewer"
    client.post(url("campaign_member_remove", campaign, outsider.pk))
    assert not Membership.objects.filter(pk=membership.pk).exists()
    assert client.post(url("campaign_member_remove", campaign, outsider.pk)).status_code == 404


def test_a_manager_who_leaves_lands_where_they_may_be(campaign: Campaign, manager: User) -> None:
    response = client_for(manager).post(url("campaign_member_remove", campaign, manager.pk))
    assert response["Location"] == reverse("campaign_list")


MANAGERS = ["campaign_import", "campaign_members", "campaign_settings"]
REVIEWERS = ["campaign_live", "campaign_report", "campaign_items"]


@pytest.mark.parametrize("name", [*MANAGERS, *REVIEWERS])
def test_pages_for_managers_and_reviewers_do_not_exist_for_others(
    campaign: Campaign, reviewer: User, annotator: User, outsider: User, name: str
) -> None:
    assert client_for(annotator).get(url(name, campaign)).status_code == 404
    assert client_for(outsider).get(url(name, campaign)).status_code == 404
    assert client_for(reviewer).get(url(name, campaign)).status_code == (404 if name in MANAGERS else 200)

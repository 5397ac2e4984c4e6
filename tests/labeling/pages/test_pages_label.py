"""The annotator's screen over HTTP: as a plain form, as htmx, and when something went wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from labeling.access import get_lease
from labeling.campaigns import change_state
from labeling.display.screen import shared_turns
from labeling.models import Campaign, Ranking, Skip, Slot
from labeling.queue.annotation import submit_ranking
from labeling.queue.assignment import LEAVE_LEASE, Task, claim_next, current_task, release
from tests.conftest import client_for, make_member, make_user
from tests.labeling.conftest import add_items

HTMX = {"HX-Request": "true"}


def url(name: str, campaign: Campaign, *arguments: Any) -> str:
    return reverse(name, args=[campaign.public_id, *arguments])


def held(user: User, campaign: Campaign) -> Task:
    task = claim_next(user, campaign, now=timezone.now())
    assert task is not None
    return task


def only_ranking() -> Ranking:
    return Ranking.objects.get()


@pytest.fixture
def ranking_campaign(campaign: Campaign) -> Campaign:
    campaign.protocol = "ranking"
    campaign.save(update_fields=["protocol"])
    add_items(campaign, count=2, completions=4)
    return campaign


def test_a_get_hands_nothing_out(campaign: Campaign, annotator: User) -> None:
    add_items(campaign)
    page = client_for(annotator).get(url("label", campaign))
    assert "Ready when you are" in page.text
    assert current_task(annotator, campaign) is None
    assert client_for(annotator).get(url("label_next", campaign)).status_code == 405


def test_start_leads_to_an_item_that_stays_on_the_page(campaign: Campaign, annotator: User) -> None:
    add_items(campaign)
    client = client_for(annotator)
    page = client.post(url("label_next", campaign), follow=True)
    task = current_task(annotator, campaign)
    assert task is not None
    assert task.messages[0]["content"] in page.text
    assert client.get(url("label", campaign)).context["screen"].task.lease == task.lease


@pytest.mark.parametrize(("choice", "expected"), [("A", [["A"], ["B"]]), ("B", [["B"], ["A"]]), ("tie", [["A", "B"]])])
def test_a_pair_is_stored_as_it_was_shown(
    campaign: Campaign, annotator: User, choice: str, expected: list[list[str]]
) -> None:
    add_items(campaign, count=8)
    task = held(annotator, campaign)
    index = {shown.label: shown.index for shown in task.completions}
    data = {"choice": choice, "active_ms": "1234", "rationale": "because", "flags": ["hallucination"]}
    response = client_for(annotator).post(url("label_submit", campaign, task.lease), data)
    assert response.status_code == 302
    ranking = only_ranking()
    assert [sorted(tier) for tier in ranking.tiers] == [sorted(index[label] for label in tier) for tier in expected]
    assert (ranking.active_ms, ranking.rationale, ranking.flags) == (1234, "because", ["hallucination"])
    assert ranking.shown_order == [shown.index for shown in task.completions]


def test_ranks_become_tiers_and_those_without_one_stay_out(ranking_campaign: Campaign, annotator: User) -> None:
    task = held(annotator, ranking_campaign)
    index = {shown.label: shown.index for shown in task.completions}
    data = {"rank_A": "3", "rank_B": "1", "rank_C": "3", "rank_D": "", "partial": "yes"}
    client_for(annotator).post(url("label_submit", ranking_campaign, task.lease), data)
    assert [sorted(tier) for tier in only_ranking().tiers] == [[index["B"]], sorted([index["A"], index["C"]])]


@pytest.mark.parametrize("ranks", [{}, {"rank_A": "1", "rank_B": "2"}])
def test_cannot_tell_is_neither_a_tie_nor_a_skip(
    ranking_campaign: Campaign, annotator: User, ranks: dict[str, str]
) -> None:
    task = held(annotator, ranking_campaign)
    path = url("label_submit", ranking_campaign, task.lease)
    fragment = client_for(annotator).post(path, {"choice": "cannot_tell"} | ranks, headers=HTMX)
    assert "Saved: You cannot tell" in fragment.text and "1 by you" in fragment.text
    assert (only_ranking().tiers, only_ranking().cannot_tell) == ([], True)
    assert not Skip.objects.exists()


def test_nothing_is_prefilled(ranking_campaign: Campaign, annotator: User) -> None:
    client = client_for(annotator)
    page = client.post(url("label_next", ranking_campaign), follow=True)
    task = page.text.partition('id="task"')[2]
    assert " selected" not in task
    assert " checked" not in task


def test_leaving_some_unranked_is_asked_about_once_and_keeps_what_was_entered(
    ranking_campaign: Campaign, annotator: User
) -> None:
    task = held(annotator, ranking_campaign)
    client, path = client_for(annotator), url("label_submit", ranking_campaign, task.lease)
    data = {"rank_A": "2", "rank_B": "1", "rationale": "half <b>done</b>", "flags": "opinion"}
    page = client.post(path, data)
    assert page.status_code == 422
    assert "C, D: no rank yet" in page.text
    assert page.text.count("<option selected>") == 2
    assert "half &lt;b&gt;done&lt;/b&gt;" in page.text
    assert 'value="opinion" checked' in page.text
    assert not Ranking.objects.exists()
    assert client.post(path, data | {"partial": "yes"}).status_code == 302
    assert only_ranking().rationale == "half <b>done</b>"


NO_ANSWERS = [
    {},
    {"rank_A": "1"},
    {"rank_A": "one", "rank_B": "2"},
    {"rank_A": "1", "rank_B": "-1"},
    {"choice": "Z"},
    {"choice": "A", "flags": "nonsense"},
    {"choice": "A", "active_ms": "soon"},
    {"choice": "A", "rationale": "x" * 10_001},
]


@pytest.mark.parametrize("data", NO_ANSWERS)
def test_what_is_no_answer_is_refused_and_said(ranking_campaign: Campaign, annotator: User, data: Any) -> None:
    task = held(annotator, ranking_campaign)
    client, path = client_for(annotator), url("label_submit", ranking_campaign, task.lease)
    assert client.post(path, data).status_code == 422
    fragment = client.post(path, data, headers=HTMX)
    assert fragment.status_code == 422
    assert fragment["HX-Retarget"] == "#task-problem"
    assert "<html" not in fragment.text
    assert not Ranking.objects.exists()


def test_a_submit_by_htmx_returns_the_next_item_progress_and_undo_at_once(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=2)
    first = held(annotator, campaign)
    path = url("label_submit", campaign, first.lease)
    fragment = client_for(annotator).post(path, {"choice": "A"}, headers=HTMX)
    task = current_task(annotator, campaign)
    assert task is not None
    assert task.item != first.item
    assert str(task.lease) in fragment.text
    assert 'id="label-progress" class="label-progress" hx-swap-oob="true"' in fragment.text
    assert "1 of 2 answers · 1 by you" in fragment.text
    assert "Saved: A &gt; B" in fragment.text
    assert 'form="undo-form">Undo</button>' in fragment.text
    assert "<html" not in fragment.text


def test_submitting_twice_keeps_one_answer(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=3)
    task = held(annotator, campaign)
    client, path = client_for(annotator), url("label_submit", campaign, task.lease)
    for _ in range(2):
        assert client.post(path, {"choice": "A"}, headers=HTMX).status_code == 200
    assert Ranking.objects.count() == 1


def test_an_answer_that_cannot_be_taken_stays_on_the_page(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=3)
    task = held(annotator, campaign)
    client, path = client_for(annotator), url("label_submit", campaign, task.lease)
    client.post(path, {"choice": "A"})
    fragment = client.post(path, {"choice": "B"}, headers=HTMX)
    assert fragment.status_code == 409
    assert fragment["HX-Retarget"] == "#task-problem"
    assert "You have answered this already" in fragment.text
    assert "What you entered is still here." in fragment.text
    page = client.post(path, {"choice": "B", "rationale": "my words"})
    assert page.status_code == 409
    assert "You have answered this already" in page.text


def test_without_a_script_a_refused_answer_is_repeated_to_the_person(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=1)
    task = held(annotator, campaign)
    client, path = client_for(annotator), url("label_submit", campaign, task.lease)
    client.post(path, {"choice": "A"})
    page = client.post(path, {"choice": "B", "rationale": "my words"})
    assert "You had entered: <b>B &gt; A</b>" in page.text
    assert "my words" in page.text


def test_a_late_answer_is_kept_and_said(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=1)
    task = held(annotator, campaign)
    release(annotator, get_lease(annotator, task.lease))
    other = make_member(campaign, make_user("other"), "annotator")
    others = held(other, campaign)
    submit_ranking(other, get_lease(other, others.lease), tiers=[[0], [1]], now=timezone.now())
    fragment = client_for(annotator).post(url("label_submit", campaign, task.lease), {"choice": "A"}, headers=HTMX)
    assert "Kept as an extra answer" in fragment.text
    assert Ranking.objects.filter(late=True, user=annotator).count() == 1


def test_skip_needs_a_reason_and_gives_the_next_item(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=2)
    task = held(annotator, campaign)
    client, path = client_for(annotator), url("label_skip", campaign, task.lease)
    refused = client.post(path, {}, headers=HTMX)
    assert (refused.status_code, Skip.objects.count()) == (422, 0)
    fragment = client.post(path, {"reason": "expertise", "note": "law"}, headers=HTMX)
    assert task.item not in fragment.text
    assert Skip.objects.get().note == "law"
    following = current_task(annotator, campaign)
    assert following is not None
    assert following.item != task.item


def test_undo_gives_the_item_back_and_withdraws_the_answer(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=2)
    task = held(annotator, campaign)
    client = client_for(annotator)
    client.post(url("label_submit", campaign, task.lease), {"choice": "A"})
    fragment = client.post(url("label_undo", campaign), headers=HTMX)
    assert "Your last answer was taken back" in fragment.text
    assert "0 of 2 answers · 0 by you" in fragment.text
    assert only_ranking().status == Ranking.Status.WITHDRAWN
    again = current_task(annotator, campaign)
    assert again is not None
    assert again.item == task.item
    assert client.post(url("label_undo", campaign), headers=HTMX).status_code == 409


def test_an_empty_queue_names_the_cause(campaign: Campaign, annotator: User) -> None:
    client = client_for(annotator)
    assert "Nothing has been imported" in client.post(url("label_next", campaign), follow=True).text
    add_items(campaign, count=1)
    task = held(annotator, campaign)
    fragment = client.post(url("label_submit", campaign, task.lease), {"choice": "A"}, headers=HTMX)
    assert "Every item has all the answers it needs" in fragment.text
    change_state(campaign, "paused")
    assert "paused by its managers" in client.post(url("label_next", campaign), follow=True).text


def test_heartbeat_and_release_answer_by_status_alone(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=1)
    task = held(annotator, campaign)
    client = client_for(annotator)
    assert client.post(url("label_heartbeat", campaign, task.lease)).status_code == 204
    assert client.post(url("label_release", campaign, task.lease)).status_code == 204
    other = make_member(campaign, make_user("other"), "annotator")
    assert current_task(annotator, campaign) == replace(task, expires_at=Slot.objects.get().expires_at)  # a reload
    assert claim_next(other, campaign, now=timezone.now()) is None
    assert claim_next(other, campaign, now=timezone.now() + LEAVE_LEASE) is not None
    assert client.post(url("label_heartbeat", campaign, task.lease)).status_code == 409


@pytest.mark.parametrize("name", ["label_submit", "label_skip", "label_heartbeat", "label_release"])
def test_a_lease_is_its_holders_alone_and_belongs_to_its_campaign(
    campaign: Campaign, foreign_campaign: Campaign, annotator: User, outsider: User, name: str
) -> None:
    add_items(campaign, count=1)
    task = held(annotator, campaign)
    make_member(foreign_campaign, annotator, "annotator")
    mate = make_member(campaign, make_user("mate"), "annotator")
    for user, place, lease in (
        (outsider, campaign, task.lease),
        (mate, campaign, task.lease),
        (annotator, foreign_campaign, task.lease),
        (annotator, campaign, uuid4()),
    ):
        assert client_for(user).post(url(name, place, lease), {"choice": "A"}).status_code == 404
    assert not Ranking.objects.exists()
    assert current_task(annotator, campaign) is not None


def test_a_post_without_the_csrf_token_is_refused(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, count=1)
    client = Client(enforce_csrf_checks=True)
    client.force_login(annotator)
    assert client.post(url("label_next", campaign)).status_code == 403


def test_sources_never_reach_the_annotator(campaign: Campaign, annotator: User) -> None:
    item = add_items(campaign, count=1)[0]
    item.completions.update(source="secret-model-7b")
    page = client_for(annotator).post(url("label_next", campaign), follow=True)
    assert "Answer 0.0" in page.text
    assert "secret-model-7b" not in page.text


def test_model_text_sits_where_htmx_does_not_look(campaign: Campaign, annotator: User) -> None:
    item = add_items(campaign, count=1)[0]
    for completion in item.completions.all():
        completion.messages = [{"role": "assistant", "content": "<b hx-get=/x>*hello*</b>"}]
        completion.save()
    page = client_for(annotator).post(url("label_next", campaign), follow=True)
    assert page.text.count("hx-disable><p>&lt;b hx-get=/x&gt;<em>hello</em>") == 2


def test_long_conversations_are_folded_and_short_ones_are_not(campaign: Campaign, annotator: User) -> None:
    item = add_items(campaign, count=1)[0]
    item.messages = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(9)]
    item.save()
    screen = client_for(annotator).post(url("label_next", campaign), follow=True).context["screen"]
    assert [message["content"] for message in screen.earlier] == [f"turn {n}" for n in range(5)]
    assert [message["content"] for message in screen.recent] == [f"turn {n}" for n in range(5, 9)]


def test_opening_turns_that_all_share_are_shown_once() -> None:
    def turns(*texts: str) -> list[Any]:
        return [{"role": "user", "content": text} for text in texts]

    assert shared_turns([turns("a", "b", "c"), turns("a", "b", "d")]) == 2
    assert shared_turns([turns("a", "b"), turns("a", "b", "c")]) == 1
    assert shared_turns([turns("a"), turns("a")]) == 0
    assert shared_turns([turns("x"), turns("y")]) == 0

"""A person's own answers: the list, and changing one in time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from labeling.campaigns import change_state, update_campaign
from labeling.models import Campaign, Ranking
from labeling.queue import history
from labeling.queue.assignment import claim_next
from labeling.queue.history import own_answers
from tests.conftest import client_for, make_member, make_user
from tests.labeling.conftest import add_items, submit


def answer(user: User, campaign: Campaign, times: int = 1) -> Ranking:
    for _ in range(times):
        task = claim_next(user, campaign, now=timezone.now())
        assert task is not None
        ranking = submit(user, task, [[task.completions[1].index], [task.completions[0].index]], timezone.now())
    return ranking


def url(campaign: Campaign, ranking: Ranking | None = None) -> str:
    return f"/campaigns/{campaign.public_id}/label/answers/" + (f"{ranking.public_id}/" if ranking else "")


def test_the_list_shows_own_answers_in_the_letters_of_the_screen(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, 3)
    mine = answer(annotator, campaign)
    answer(make_member(campaign, make_user("other"), "annotator"), campaign)
    page = client_for(annotator).get(url(campaign))
    assert [row.ranking for row in page.context["answers"]] == [mine]
    assert "B &gt; A" in page.text
    assert mine.item.messages[0]["content"] in page.text


def test_long_lists_are_paged_by_the_last_answer_shown(
    campaign: Campaign, annotator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE", 2)
    monkeypatch.setattr("labeling.pages.history.PAGE", 2)
    add_items(campaign, 5)
    answer(annotator, campaign, times=5)
    client, seen, link = client_for(annotator), [], url(campaign)
    while True:
        page = client.get(link)
        seen += [row.ranking.pk for row in page.context["answers"]]
        if not page.context["more"]:
            break
        link = f"{url(campaign)}?before={seen[-1]}"
    assert seen == sorted(annotator.rankings.values_list("pk", flat=True), reverse=True)
    assert client.get(url(campaign) + "?before=x").status_code == 200


def test_an_answer_is_changed_in_time_and_the_old_one_is_kept(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, 1)
    ranking = answer(annotator, campaign)
    client = client_for(annotator)
    page = client.get(url(campaign, ranking))
    assert "You answered: <b>B &gt; A</b>" in page.text
    assert 'id="skip-form"' not in page.text and "data-heartbeat" not in page.text
    response = client.post(url(campaign, ranking), {"choice": "A", "active_ms": "500", "rationale": "misread"})
    assert response.status_code == 302
    new = Ranking.objects.get(status="accepted")
    assert (new.previous, new.tiers, new.rationale) == (ranking, list(reversed(ranking.tiers)), "misread")
    assert client.get(url(campaign, ranking)).status_code == 404  # changed since
    assert client.post(url(campaign, new), {"choice": "Z"}).status_code == 422


def test_after_that_time_or_without_an_open_campaign_answers_stay(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, 1)
    ranking = answer(annotator, campaign)
    now = timezone.now()
    assert own_answers(annotator, campaign, now=now + timedelta(minutes=59))[0].editable
    assert not own_answers(annotator, campaign, now=now + timedelta(minutes=61))[0].editable
    update_campaign(campaign, edit_minutes=0)
    refused = client_for(annotator).post(url(campaign, ranking), {"choice": "A"}, follow=True)
    assert "The time to change this answer is over." in refused.text
    update_campaign(campaign, edit_minutes=10)
    change_state(campaign, "paused")
    campaign.refresh_from_db()
    assert not own_answers(annotator, campaign, now=now)[0].editable
    assert Ranking.objects.count() == 1


def test_nobody_elses_answer_can_be_seen_or_changed(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, 1)
    ranking = answer(annotator, campaign)
    other = make_member(campaign, make_user("other"), "manager")
    assert client_for(other).get(url(campaign, ranking)).status_code == 404
    assert client_for(other).post(url(campaign, ranking), {"choice": "A"}).status_code == 404

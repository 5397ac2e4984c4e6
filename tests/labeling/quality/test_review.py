"""Reviewers accept, return and replace answers; nothing is overwritten, and the queue stays right."""

from __future__ import annotations

from datetime import timedelta

import pytest

from accounts.models import User
from labeling.models import Campaign, Ranking, Review
from labeling.protocols.basics import InvalidRanking
from labeling.quality.review import CannotReview, accept, next_to_review, replace, send_back, waiting
from labeling.quality.rules import change_rules
from labeling.queue.assignment import claim_next
from labeling.queue.progress import progress
from tests.conftest import client_for
from tests.labeling.conftest import NOW, add_items, claim, submit


def test_flagged_contradicted_and_random_answers_wait(
    campaign: Campaign, anna: User, ben: User, reviewer: User
) -> None:
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    add_items(campaign, 3)
    for person, orders in ((anna, ([[0], [1]],) * 3), (ben, ([[0], [1]], [[1], [0]], [[0], [1]]))):
        by_item = dict(zip(campaign.items.order_by("pk").values_list("public_id", flat=True), orders, strict=True))
        for _ in range(3):
            task = claim(person, campaign)
            flags = ["opinion"] if person == anna and task.item == list(by_item)[0] else []
            submit(person, task, by_item[task.item], flags=flags)
    found = []
    while (one := next_to_review(campaign, reviewer)) is not None:
        found.append((one.ranking.user, one.because))
        accept(one.ranking, by=reviewer)
    assert sorted(found, key=str) == sorted([(anna, "flagged"), (anna, "contradicted"), (ben, "contradicted")], key=str)
    change_rules(campaign, review_share=100)
    assert waiting(campaign, reviewer) == 3
    assert next_to_review(campaign, reviewer).because == "random"
    assert waiting(campaign, anna) == 2  # nobody reviews their own


def test_a_returned_answer_comes_back_to_its_person_first_with_the_comment(
    campaign: Campaign, anna: User, ben: User, reviewer: User
) -> None:
    add_items(campaign, 3)
    ranking = submit(anna, claim(anna, campaign))
    held = claim(anna, campaign)
    with pytest.raises(CannotReview, match="needs a comment"):
        send_back(ranking, by=reviewer, comment=" ", now=NOW)
    send_back(ranking, by=reviewer, comment="B names the <b>wrong</b> item.", now=NOW + timedelta(minutes=1))
    ranking.refresh_from_db()
    assert ranking.status == "returned" and not Ranking.objects.accepted().exists()
    assert progress(anna, campaign).done == 0
    assert claim(ben, campaign).item not in (held.item, ranking.item.public_id)
    task = claim(anna, campaign, NOW + timedelta(minutes=2))
    assert (task.item, task.comment) == (ranking.item.public_id, "B names the <b>wrong</b> item.")
    text = client_for(anna).get(f"/campaigns/{campaign.public_id}/label/").text
    assert "Please look again" in text and "&lt;b&gt;wrong" in text
    again = submit(anna, task, [[1], [0]], now=NOW + timedelta(minutes=2))
    assert (again.status, again.slot, again.late) == ("accepted", ranking.slot, False)
    assert progress(anna, campaign).done == 1
    assert claim(anna, campaign).item == held.item


def test_who_does_not_come_back_leaves_the_item_to_others(
    campaign: Campaign, anna: User, ben: User, reviewer: User
) -> None:
    add_items(campaign, 1)
    ranking = submit(anna, claim(anna, campaign))
    send_back(ranking, by=reviewer, comment="Look again.", now=NOW)
    assert claim_next(ben, campaign, now=NOW + timedelta(days=6)) is None
    assert claim(ben, campaign, now=NOW + timedelta(days=8)).comment == ""  # it was for her


def test_a_decision_counts_instead_of_the_answer(campaign: Campaign, anna: User, reviewer: User) -> None:
    add_items(campaign, 2)
    ranking = submit(anna, claim(anna, campaign), [[0], [1]])
    with pytest.raises(InvalidRanking):
        replace(ranking, by=reviewer, tiers=[[0], [7]])
    review = replace(ranking, by=reviewer, tiers=[[1], [0]], comment="B is right.")
    ranking.refresh_from_db()
    (decided,) = Ranking.objects.accepted()
    assert ranking.status == "replaced" and review.replacement == decided and decided.previous == ranking
    assert (decided.tiers, decided.user, decided.kind) == ([[1], [0]], reviewer, "adjudicated")
    assert progress(anna, campaign).done == 1
    assert claim(reviewer, campaign).item != ranking.item.public_id


def test_an_answer_is_reviewed_once_and_not_by_its_own_person(campaign: Campaign, anna: User, reviewer: User) -> None:
    add_items(campaign, 1)
    ranking = submit(anna, claim(anna, campaign))
    with pytest.raises(CannotReview, match="your own"):
        accept(ranking, by=anna)
    accept(ranking, by=reviewer)
    with pytest.raises(CannotReview, match="already"):
        accept(ranking, by=reviewer)
    assert Review.objects.count() == 1


def test_the_reviewers_page_decides(campaign: Campaign, anna: User, ben: User, reviewer: User) -> None:
    add_items(campaign, 3)
    change_rules(campaign, review_share=100)
    rankings = [submit(anna, claim(anna, campaign)) for _ in range(3)]
    client, path = client_for(reviewer), f"/campaigns/{campaign.public_id}/review/"
    assert "3 answers wait for review" in client.get(path).text
    for ranking, data in zip(
        rankings,
        (
            {"verdict": "accept"},
            {"verdict": "return", "comment": "Look again."},
            {"verdict": "replace", "order": "B > A"},
        ),
        strict=True,
    ):
        client.post(f"{path}{ranking.public_id}", data)
    assert list(Review.objects.order_by("pk").values_list("verdict", flat=True)) == ["accept", "return", "replace"]
    text = client.get(path).text
    assert "Nothing waits for review" in text and "Look again." in text
    assert "already" in client.post(f"{path}{rankings[0].public_id}", {"verdict": "accept"}, follow=True).text
    assert client_for(ben).get(path).status_code == 404
    assert list(campaign.audit.filter(actor=reviewer).order_by("pk").values_list("verb", flat=True)) == [
        "review.accept",
        "review.return",
        "review.replace",
    ]

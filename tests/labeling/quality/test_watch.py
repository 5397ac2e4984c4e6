"""Who answers without reading is found and paused, honest people are not, and a manager has the last word."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.utils import timezone

from accounts.models import User
from benchmarks.thoughtless import rates
from labeling.models import Campaign, Contribution, QualityRules, Ranking
from labeling.pages.forms import RulesForm
from labeling.quality.fraud import Given, signs_of
from labeling.quality.gold import mark_gold
from labeling.quality.people import answering, person_report
from labeling.quality.rules import change_rules
from labeling.quality.statistics import refresh_wanted
from labeling.quality.watch import latest_answers, look_after_people, pause, resume
from labeling.queue.assignment import claim_next
from tests.conftest import client_for, make_user
from tests.labeling.conftest import NOW, add_items, claim, submit
from tests.labeling.quality.test_quality import GOOD, REVERSED, answers


def person(campaign: Campaign, user: User) -> Contribution:
    return campaign.contributions.select_related("user", "campaign").get(user=user)


def test_bots_are_caught_and_honest_people_are_not() -> None:
    """The stated rates are those of 5,000 honest people and 1,000 of each bot (`python -m benchmarks thoughtless`)."""
    found = rates(people=1000, bots=100, seed=3)
    caught = {name: row["signs"] for name, row in found.items()}
    assert caught["honest"] <= 0.02
    assert min(caught[name] for name in ("hasty", "one_sided", "alternating", "copying")) >= 0.98
    assert caught["nearly_one_sided"] >= 0.8
    assert caught["guessing"] <= 0.02 < found["guessing"]["30 gold"]  # at a human pace only gold tells
    assert found["honest"]["30 gold"] <= 0.01 and found["guessing"]["30 gold"] >= 0.6


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("fast", [Given(1.0, 2000, number % 3 % 2, 2) for number in range(30)]),
        ("side", [Given(60.0, 2000, 0, 2) for _ in range(30)]),
        ("pattern", [Given(60.0, 2000, number % 2, 2) for number in range(40)]),
        ("words", [Given(60.0, 2000, number % 3 % 2, 2, "It is simply better.") for number in range(30)]),
    ],
)
def test_each_sign_is_seen_by_itself_and_needs_enough_answers(name: str, given: list[Given]) -> None:
    assert [sign.name for sign in signs_of(given)] == [name]
    assert signs_of(given[:7]) == []


def answer_all(campaign: Campaign, user: User, count: int, **answer: Any) -> None:
    for number in range(count):
        task = claim(user, campaign)
        order = [completion.index for completion in task.completions]
        submit(user, task, [[order[number % 3 % 2]], [order[1 - number % 3 % 2]]], **answer)


def test_answers_are_read_with_their_times_lengths_and_sides(campaign: Campaign, anna: User) -> None:
    add_items(campaign, 3)
    answer_all(campaign, anna, 1, active_ms=9000, rationale="Because.")
    answer_all(campaign, anna, 1)
    first, second = latest_answers(person(campaign, anna))
    assert (first.seconds, first.place, first.sides, first.rationale) == (9, 0, 2, "Because.")
    assert first.characters == len("Answer 0.0") * 2
    assert second.seconds is not None and 0 <= second.seconds < 60  # since the answer before


def test_a_worker_pauses_by_the_rules_and_a_manager_lets_go_on(
    campaign: Campaign, anna: User, ben: User, admin: User
) -> None:
    add_items(campaign, 120)
    answer_all(campaign, anna, 30, active_ms=100)
    answer_all(campaign, ben, 30, active_ms=30_000)
    assert look_after_people() == 0  # without rules nobody is judged
    change_rules(campaign, pause_suspects=True)
    assert (look_after_people(), look_after_people()) == (1, 0)
    assert "faster than the texts can be read" in person(campaign, anna).paused_because
    assert person(campaign, ben).paused_at is None
    assert claim_next(anna, campaign, now=NOW) is None
    page = client_for(anna).get(f"/campaigns/{campaign.public_id}/label/?empty").text
    assert "paused for the moment" in page and "faster" not in page  # kind, and no lesson for bots
    resume(person(campaign, anna), by=admin)
    assert claim_next(anna, campaign, now=NOW) is not None
    answer_all(campaign, ben, 15, active_ms=30_000)
    assert look_after_people() == 0  # what she gave before is forgiven
    verbs = campaign.audit.order_by("pk").values_list("verb", "actor_name")
    assert [one for one in verbs if one[0].startswith("person")] == [("person.pause", ""), ("person.resume", "admin")]


def test_gold_answered_wrong_pauses_when_it_is_sure(campaign: Campaign, anna: User, ben: User) -> None:
    for item in add_items(campaign, 30)[:12]:
        mark_gold(item, tiers=[[0], [1]], user=None)
    change_rules(campaign, check_every=1, gold_accuracy=70)
    for number in range(12):
        submit(anna, claim(anna, campaign), [[1], [0]])
        submit(ben, claim(ben, campaign), [[0], [1]] if number % 6 else [[1], [0]])
    assert look_after_people() == 1
    assert person(campaign, anna).paused_because == "0 of 12 gold items answered right; 70 % are asked for"
    assert person(campaign, ben).paused_at is None


def test_a_pause_by_hand_gives_back_what_is_held(campaign: Campaign, anna: User, ben: User, manager: User) -> None:
    add_items(campaign, 1)
    task = claim(anna, campaign)
    pause(person(campaign, anna), because="we should talk", by=manager)
    assert claim(ben, campaign).item == task.item
    assert submit(anna, task).late  # kept all the same


def test_the_report_of_a_person_has_everything(campaign: Campaign, anna: User, reviewer: User, manager: User) -> None:
    add_items(campaign, 25)
    yesterday = timezone.now() - timedelta(days=1)
    with patch("django.utils.timezone.now", return_value=yesterday):
        answer_all(campaign, anna, 8, active_ms=4000)
    answer_all(campaign, anna, 16, active_ms=4000)
    report = person_report(person(campaign, anna))
    assert [day.answers for day in report.days] == [8, 16]
    assert report.days[0].median_seconds == 4
    assert report.first.count == 24 and report.first.value is not None
    assert report.row.contribution.user == anna == answering(campaign).get().user
    path = f"/campaigns/{campaign.public_id}/quality/"
    text = client_for(reviewer).get(f"{path}{anna.pk}/").text
    assert "Answers a day" in text and "no gold item came yet" in text.lower() and "Pause anna" not in text
    assert "anna" in client_for(reviewer).get(path).text
    client = client_for(manager)
    assert "Pause anna" in client.get(f"{path}{anna.pk}/").text
    client.post(f"{path}{anna.pk}/pause", {"because": "too quick"})
    assert "Too quick" in client.get(path).text
    client.post(f"{path}{anna.pk}/resume")
    assert person(campaign, anna).paused_at is None


def test_rules_are_changed_on_a_page_and_checks_follow(campaign: Campaign, anna: User, manager: User) -> None:
    add_items(campaign, 3)
    submit(anna, claim(anna, campaign))
    client, path = client_for(manager), f"/campaigns/{campaign.public_id}/quality/rules"
    assert "Check every so many items" in client.get(path).text
    grouped = [name for names in RulesForm.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(RulesForm.base_fields)  # each is on the page
    values = {name: value for name, value in RulesForm(instance=QualityRules()).initial.items() if value is not False}
    values |= {"check_every": 5, "hourly_pay": "12.50"}
    assert client.post(path, values).status_code == 302
    assert person(campaign, anna).next_check in range(1, 6)
    assert client.post(path, values | {"check_every": 5000}).status_code == 422
    assert campaign.audit.get(verb="campaign.rules").facts == {"check_every": 5, "hourly_pay": "12.50"}


def test_who_says_the_reverse_of_the_others_is_paused_once_statistics_say_so(campaign: Campaign) -> None:
    campaign.overlap = 3
    campaign.save(update_fields=["overlap"])
    items = add_items(campaign, 200)
    planted = answers(REVERSED, *[GOOD] * 5, items=200)
    people = [make_user(f"person-{number}") for number in range(6)]
    for user in people:
        campaign.contributions.create(user=user, labeler=user.username, done=100)
    Ranking.objects.bulk_create(
        Ranking(
            item=items[item],
            campaign=campaign,
            user=people[number],
            labeler=people[number].username,
            tiers=tiers,
            shown_order=shown,
            active_ms=60_000,
            protocol="pair",
            guidelines_version=1,
        )
        for item, number, tiers, shown in zip(planted.items, planted.people, planted.tiers, planted.shown, strict=True)
    )
    change_rules(campaign, pause_suspects=True)
    assert look_after_people() == 0  # nobody has computed any statistics yet, but they were asked for
    assert refresh_wanted() == 1
    campaign.rules.__class__.objects.update(watched=0)
    assert look_after_people() == 1
    assert "opposite" in person(campaign, people[0]).paused_because

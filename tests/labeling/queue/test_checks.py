"""Gold items and repeats: when they come, that nothing tells them apart, and what they tell about people."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from labeling.access import get_lease
from labeling.data.exporting import export_lines
from labeling.data.importing import import_rows
from labeling.models import Campaign, Gold, QualityRules, Ranking, Slot
from labeling.protocols.basics import InvalidRanking
from labeling.quality.gold import candidates_of, is_right, mark_gold, results_of, share_alike, unmark_gold
from labeling.quality.reports import campaign_report
from labeling.queue.annotation import submit_and_claim, undo_last
from labeling.queue.assignment import Task, claim_next, release, skip
from labeling.queue.checks import REPEAT_AFTER
from labeling.queue.progress import progress, why_empty
from tests.conftest import client_for
from tests.labeling.conftest import NOW, add_items, claim, submit

A_FIRST, B_FIRST = [[0], [1]], [[1], [0]]


def check_every(campaign: Campaign, every: int) -> None:
    QualityRules.objects.create(campaign=campaign, check_every=every)


def kind_of(task: Task) -> str:
    return Slot.objects.get(lease=task.lease).kind


def answer(person: User, campaign: Campaign, count: int, tiers: list[list[int]] = A_FIRST) -> list[str]:
    """Answer so many items; what kinds they were."""
    kinds = []
    for _ in range(count):
        task = claim(person, campaign)
        kinds.append(kind_of(task))
        submit(person, task, tiers)
    return kinds


@pytest.fixture
def golds(campaign: Campaign) -> list[Gold]:
    """Six gold items of thirty-six; two people answer each of the others."""
    Campaign.objects.filter(pk=campaign.pk).update(overlap=2)
    golds = [mark_gold(item, tiers=A_FIRST, user=None) for item in add_items(campaign, 36)[:6]]
    campaign.refresh_from_db()
    return golds


def test_each_so_many_items_of_a_person_hold_exactly_one_check(campaign: Campaign, golds: list[Gold], anna: User):
    check_every(campaign, 5)
    kinds = answer(anna, campaign, 30)
    blocks = [kinds[start : start + 5] for start in range(0, 30, 5)]
    assert [5 - block.count("normal") for block in blocks] == [1] * 6
    count = Counter(kinds)
    assert (count["normal"], count["gold"] + count["repeat"]) == (24, 6) and min(count.values()) > 1
    assert kinds.index("gold") < REPEAT_AFTER < kinds.index("repeat")
    assert set(anna.rankings.filter(kind="gold").values_list("item", flat=True)) <= {gold.pk for gold in golds}


def test_a_repeat_is_something_answered_a_while_ago_and_comes_once(campaign: Campaign, anna: User):
    add_items(campaign, 30)
    check_every(campaign, 3)
    answer(anna, campaign, 36)
    repeats = list(anna.rankings.filter(kind="repeat").order_by("pk"))
    assert len(repeats) > 5
    assert len({ranking.item_id for ranking in repeats}) == len(repeats)
    for repeat in repeats:
        first = anna.rankings.get(item=repeat.item_id, kind="normal")
        assert anna.rankings.filter(kind="normal", pk__gt=first.pk, pk__lt=repeat.pk).count() >= REPEAT_AFTER


def test_checks_cost_usual_claims_nothing(campaign: Campaign, golds: list[Gold], anna: User):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            task = claim_next(anna, campaign, now=NOW)
        assert task is not None and kind_of(task) == "normal"
        submit(anna, task)
        return len(captured)

    answer(anna, campaign, 1)
    before = queries()
    check_every(campaign, 1000)
    campaign.contributions.update(next_check=999)
    assert queries() == before


def test_nothing_tells_a_check_from_any_other_item(campaign: Campaign, golds: list[Gold], anna: User):
    check_every(campaign, 1)
    client = client_for(anna)
    answers = [client.post(f"/api/campaigns/{campaign.public_id}/next").json() for _ in range(2)]
    task = claim(anna, campaign)
    assert kind_of(task) == "gold"
    for found in answers:
        found["task"].pop("form")  # the campaign's, whose questions have kinds as well
    text = json.dumps(answers) + client.get(f"/campaigns/{campaign.public_id}/label/").text
    assert not [word for word in ("gold", "repeat", "check_") if word in text] and "kind" not in answers[0]["task"]
    before, path = progress(anna, campaign), f"/api/campaigns/{campaign.public_id}"
    submit(anna, task)
    after, seen = progress(anna, campaign), client.get(path).json()["progress"]
    assert (after.mine, after.shown, after.done) == (before.mine + 1, before.shown + 1, before.done)
    assert (seen["mine"], seen["done"]) == (after.mine, after.shown)


def test_answers_to_checks_are_no_preferences(campaign: Campaign, golds: list[Gold], anna: User):
    check_every(campaign, 1)
    assert answer(anna, campaign, 3) == ["gold"] * 3
    assert progress(anna, campaign).done == 0 and progress(anna, campaign).total == 60
    assert list(export_lines(campaign, "rankings")) == [] == list(export_lines(campaign, "preferences"))
    assert campaign_report(campaign).qualities == []
    rows = [json.loads(line) for line in export_lines(campaign, "checks")]  # unless they are asked for
    labeler = campaign.contributions.get().labeler
    assert [(row["kind"], row["labeler"], row["right"]) for row in rows] == [("gold", labeler, True)] * 3
    assert not Ranking.objects.accepted().exists() and Ranking.objects.given().count() == 3


def test_who_leaves_a_check_gets_one_at_once_and_who_skips_gold_does_not_get_it_again(
    campaign: Campaign, golds: list[Gold], anna: User
):
    check_every(campaign, 1000)
    add_items(campaign, 36)
    campaign.contributions.create(user=anna, next_check=0)
    task = claim(anna, campaign)
    assert kind_of(task) == "gold"
    assert release(anna, get_lease(anna, task.lease))
    assert not Slot.objects.filter(kind="gold").exists()
    again = claim(anna, campaign)
    assert kind_of(again) == "gold"
    skip(anna, get_lease(anna, again.lease), reason="unclear")
    assert kind_of(claim(anna, campaign)) == "normal"
    # The answer of the page that was left comes in after all.
    late = submit(anna, task)
    assert (late.kind, late.late, late.slot) == ("gold", True, None)
    assert campaign.contributions.get(user=anna).checks == 1


def test_a_check_can_be_taken_back_and_answered_again(campaign: Campaign, golds: list[Gold], anna: User):
    check_every(campaign, 1)
    answer(anna, campaign, 1, B_FIRST)
    task = undo_last(anna, campaign, now=NOW)
    assert task is not None and kind_of(task) == "gold"
    assert campaign.contributions.get(user=anna).checks == 0
    submit_and_claim(anna, get_lease(anna, task.lease), tiers=A_FIRST, now=NOW)
    assert results_of(campaign, [anna.pk])[anna.pk].gold.value == 1


def test_an_expired_check_is_nobody_elses(campaign: Campaign, golds: list[Gold], anna: User, ben: User):
    check_every(campaign, 1)
    task = claim(anna, campaign)
    Slot.objects.filter(lease=task.lease).update(expires_at=NOW)
    campaign.slots.filter(kind="normal").update(state="void")
    campaign.golds.exclude(item__public_id=task.item).delete()
    QualityRules.objects.update(check_every=0)
    assert claim_next(ben, campaign, now=NOW) is None
    assert claim(anna, campaign).lease == task.lease


def test_an_item_that_becomes_gold_is_nobodys_usual_work_until_it_is_not(campaign: Campaign, anna: User):
    item, other = add_items(campaign, 2)
    with pytest.raises(InvalidRanking, match="which one is better"):
        mark_gold(item, tiers=[[0, 1]], user=None)
    mark_gold(item, tiers=B_FIRST, user=anna, explanation="B answers the question.")
    campaign.refresh_from_db()
    assert campaign.slot_count == 1
    assert claim(anna, campaign).item == other.public_id
    unmark_gold(item)
    campaign.refresh_from_db()
    assert campaign.slot_count == 2 == campaign.slots.exclude(state="void").count()


def test_a_file_can_bring_gold(campaign: Campaign):
    row = {"prompt": "2 + 2?", "completions": ["4", "5"]}
    rows = [
        row | {"gold": A_FIRST, "gold_explanation": "It is 4."},
        row | {"prompt": "3 + 3?", "gold": "yes"},
        row | {"prompt": "4 + 4?"},
    ]
    import_rows(campaign, rows, name="file")
    gold = Gold.objects.get()
    assert (gold.tiers, gold.explanation) == (A_FIRST, "It is 4.")
    campaign.refresh_from_db()
    assert campaign.slot_count == 2


def test_right_is_what_prefers_the_same():
    gold = [[0], [1, 2]]
    assert is_right([[0], [2], [1]], gold) and is_right([[0], [1, 2]], gold)
    assert not is_right([[0, 1], [2]], gold)  # a tie where one is better
    assert not is_right([[0], [1]], gold)  # one left unranked
    assert not is_right([], gold)  # cannot tell
    assert share_alike([[0], [1], [2]], [[0], [2], [1]]) == pytest.approx(2 / 3)


def test_results_say_who_answers_right_and_who_says_the_same_again(
    campaign: Campaign, golds: list[Gold], anna: User, ben: User
):
    check_every(campaign, 2)
    answer(anna, campaign, 30)
    answer(ben, campaign, 30, B_FIRST)
    found = results_of(campaign, [anna.pk, ben.pk])
    assert found[anna.pk].gold.value == found[anna.pk].consistency.value == 1
    wrong = found[ben.pk]
    assert (wrong.gold.value, wrong.gold.count, wrong.consistency.value) == (0, 6, 1)
    assert wrong.gold.high is not None and wrong.gold.high < 0.5


def test_items_that_people_agree_about_can_become_gold(campaign: Campaign, anna: User, ben: User, manager: User):
    campaign.overlap = 3
    campaign.save(update_fields=["overlap"])
    agreed, disputed = add_items(campaign, 2)
    for person in (anna, ben, manager):
        for _ in range(2):
            task = claim(person, campaign)
            disputes = task.item == disputed.public_id and person == ben
            submit(person, task, B_FIRST if disputes else A_FIRST)
    (found,) = candidates_of(campaign)
    assert (found.item, found.tiers, found.people) == (agreed.public_id, A_FIRST, 3)
    mark_gold(agreed, tiers=found.tiers, user=manager)
    assert candidates_of(campaign) == []
    assert Ranking.objects.accepted().filter(item=agreed).count() == 3  # what people gave stays


def test_who_is_paused_is_given_nothing_and_told_so(campaign: Campaign, anna: User):
    add_items(campaign, 2)
    held = claim(anna, campaign)
    campaign.contributions.update(paused_at=NOW)
    assert claim_next(anna, campaign, now=NOW) is None
    assert "paused for the moment" in why_empty(anna, campaign, now=NOW)
    submit(anna, held)  # what they have on the screen is taken
    campaign.contributions.update(paused_at=None)
    assert claim_next(anna, campaign, now=NOW) is not None

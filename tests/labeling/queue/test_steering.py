"""Queues in which what teaches most comes first: what is chosen, when, and that nobody waits for it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from labeling.access import get_lease
from labeling.campaigns import change_state, update_campaign
from labeling.data.exporting import export_lines
from labeling.data.importing import import_rows
from labeling.models import Campaign, Item, ItemGain, Slot, Steering
from labeling.queue import steering
from labeling.queue.annotation import undo_last
from labeling.queue.assignment import claim_next, release
from labeling.queue.steering import FEWEST, choose_next, order_queues, standing, take_gains
from tests.conftest import client_for, make_member, make_user
from tests.labeling.conftest import NOW, add_items, claim, submit

CLOSE, FAR, OTHER_FAR = ("close one", "close two"), ("close one", "far"), ("close two", "far")


def add_duels(campaign: Campaign, sources: tuple[str, ...], count: int) -> set[str]:
    """Items that show one completion of each source; their public ids."""
    before = set(campaign.items.values_list("public_id", flat=True))
    rows = [
        {
            "prompt": f"Question {len(before) + n}?",
            "completions": [{"text": f"Answer {k}", "source": source} for k, source in enumerate(sources)],
        }
        for n in range(count)
    ]
    import_rows(campaign, rows, name="duels")
    campaign.refresh_from_db()
    return set(campaign.items.values_list("public_id", flat=True)) - before


def answer_all(user: User, campaign: Campaign) -> None:
    """Of two close sources each wins as often; the far one nearly always loses."""
    turns: Counter[tuple[str, ...]] = Counter()
    while task := claim_next(user, campaign, now=NOW):
        sources = tuple(Item.objects.get(public_id=task.item).completions.values_list("source", flat=True))
        turns[sources] += 1
        upset = turns[sources] % (2 if "far" not in sources else 10) == 0
        submit(user, task, [[1], [0]] if upset else [[0], [1]])


@pytest.fixture
def steered(campaign: Campaign, anna: User) -> Campaign:
    """Twenty answers about each two of three sources, of which two are close and one is far behind."""
    update_campaign(campaign, order="informative")
    campaign.refresh_from_db()
    for sources in (CLOSE, FAR, OTHER_FAR):
        add_duels(campaign, sources, 20)
    answer_all(anna, campaign)
    return campaign


def queue(campaign: Campaign) -> list[str]:
    """Public ids of the items with open slots, first to last."""
    rows = campaign.slots.filter(state="open").order_by("priority", "random_key").values_list("item__public_id")
    return list(dict.fromkeys(item for (item,) in rows))


def chosen(campaign: Campaign) -> Any:
    return campaign.slots.filter(state="open", priority__lt=0).order_by("priority")


# --- What is chosen ---


def test_the_items_that_teach_most_come_first(steered: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "EXPLORE", 0.0)
    far, close = add_duels(steered, FAR, 10), add_duels(steered, CLOSE, 10)
    assert order_queues() == 1
    assert set(queue(steered)[:5]) <= close
    assert [slot.priority for slot in chosen(steered)] == list(range(-20, 0))
    assert {slot.propensity for slot in chosen(steered)} == {1.0}
    assert set(queue(steered)) == far | close
    task = claim(make_member(steered, make_user("ben"), "annotator"), steered)
    assert task.item in close


def test_answers_change_the_order(steered: Campaign, ben: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that nobody has seen comes first, until it is known better than the others."""
    monkeypatch.setattr(steering, "EXPLORE", 0.0)
    new, _ = add_duels(steered, ("far", "new"), 50), add_duels(steered, CLOSE, 4)
    order_queues()
    assert set(queue(steered)[:3]) <= new
    while task := claim_next(ben, steered, now=NOW):
        submit(ben, task, [[0, 1]])
    add_duels(steered, ("far", "new"), 10)
    close = add_duels(steered, CLOSE, 10)
    assert order_queues() == 1
    assert set(queue(steered)[:3]) <= close


def test_every_candidate_may_be_chosen_and_the_propensity_says_how_likely(
    steered: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "EXPLORE", 0.5)
    far = add_duels(steered, FAR, 10)
    add_duels(steered, CLOSE, 10)
    firsts: Counter[bool] = Counter()
    for turn in range(40):
        row, _ = Steering.objects.update_or_create(campaign=steered, defaults={"turn": turn})
        choose_next(steered, turn=turn, random=np.random.default_rng(turn))
        slots = list(chosen(steered).select_related("item"))
        for left, slot in zip(range(20, 0, -1), slots, strict=True):
            assert slot.propensity >= steering.EXPLORE / left - 1e-12
        firsts[slots[0].item.public_id in far] += 1
        if slots[0].item.public_id in far:
            assert slots[0].propensity == pytest.approx(steering.EXPLORE / 20)
    assert 0 < firsts[True] < 25  # ten expected: half of the half that is explored


def test_items_that_teach_the_same_come_at_random(campaign: Campaign, anna: User) -> None:
    update_campaign(campaign, order="informative")
    items = add_items(campaign, 30)
    take_gains(campaign, {item.public_id: 0.2 for item in items}, model="Ensemble")
    order_queues()
    first = queue(campaign)
    Steering.objects.update(wanted=True)
    order_queues()
    assert set(first) == set(queue(campaign)) and first != queue(campaign)
    assert first != [item.public_id for item in items]


def test_disagreement_of_a_trained_ensemble_goes_before_sources(
    steered: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "EXPLORE", 0.0)
    far = sorted(add_duels(steered, FAR, 10))
    close = add_duels(steered, CLOSE, 10)
    done = steered.slots.filter(state="done").first().item.public_id
    take_gains(steered, {name: number / 100 for number, name in enumerate(far)} | {done: 9.0}, model="Ensemble 3")
    assert order_queues() == 1
    assert queue(steered)[:10] == far[::-1]
    assert standing(steered).judge == "Ensemble 3"
    assert set(queue(steered)[10:]) == close  # what the ensemble has not judged keeps its random order
    assert chosen(steered).count() == 10
    # A newer ensemble's replace them; where none of them is open, sources judge again.
    take_gains(steered, {done: 1.0}, model="Ensemble 4")
    assert ItemGain.objects.count() == 1 and order_queues() == 1
    assert standing(steered).judge == "" and set(queue(steered)[:5]) <= close


def test_without_sources_the_order_stays_random_and_the_page_says_why(
    campaign: Campaign, anna: User, manager: User
) -> None:
    update_campaign(campaign, order="informative")
    campaign.refresh_from_db()
    add_items(campaign, FEWEST + 5)
    page = f"/campaigns/{campaign.public_id}/"
    assert order_queues() == 0
    assert f"Random until {FEWEST} answers: 0 so far." in client_for(manager).get(page).content.decode()
    for _ in range(FEWEST):
        submit(anna, claim(anna, campaign))
    before = queue(campaign)
    assert order_queues() == 1
    assert queue(campaign) == before and not chosen(campaign).exists()
    content = client_for(manager).get(page).content.decode()
    assert "nothing known tells items apart" in content
    assert order_queues() == 0  # nothing new


def test_the_page_says_what_is_chosen_by_what(steered: Campaign, manager: User) -> None:
    page = f"/campaigns/{steered.public_id}/"
    add_duels(steered, CLOSE, 30)
    order_queues()
    for address in (page, f"{page}live"):
        content = client_for(manager).get(address).content.decode()
        assert "<b>30</b> answers that should teach most come next, chosen from 30 items" in content
        assert "the strengths of the sources" in content and "10 % are drawn at random" in content
    update_campaign(steered, order="random")
    assert "teach most" not in client_for(manager).get(page).content.decode()


# --- When ---


def test_a_queue_is_due_when_enough_is_new_or_little_is_left(
    steered: Campaign, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_duels(steered, CLOSE, 60)
    assert (order_queues(), order_queues()) == (1, 0)
    for expected in [0] * (FEWEST - 1) + [1, 0]:
        submit(ben, claim(ben, steered))
        assert order_queues() == expected
    row = Steering.objects.get()
    Steering.objects.update(answers=1000)  # then ten more are no news
    steering_answers = steering._answers(steered)
    monkeypatch.setattr(steering, "_answers", lambda campaign: 1000 + steering_answers - row.answers)
    assert order_queues() == 0
    chosen(steered).update(priority=0)
    assert order_queues() == 1  # the chosen ones are used up
    assert chosen(steered).exists()


def test_only_open_campaigns_that_want_it_are_ordered(steered: Campaign, foreign_campaign: Campaign) -> None:
    add_duels(steered, CLOSE, 5)
    add_duels(foreign_campaign, CLOSE, 5)
    change_state(steered, "paused")
    assert order_queues() == 0
    change_state(steered, "open")
    assert order_queues() == 1
    assert chosen(steered).exists() and not chosen(foreign_campaign).exists()
    assert standing(foreign_campaign) is None


def test_going_back_to_random_puts_everything_back_and_stops_a_choice_on_its_way(steered: Campaign) -> None:
    add_duels(steered, CLOSE, 5)
    order_queues()
    turn = Steering.objects.get().turn
    update_campaign(steered, order="random")
    choose_next(steered, turn=turn, random=np.random.default_rng(0))
    assert not chosen(steered).exists() and not steered.slots.exclude(propensity=None).exists()
    assert order_queues() == 0
    update_campaign(steered, order="informative")
    assert order_queues() == 1 and chosen(steered).exists()


def test_of_two_workers_one_chooses(steered: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    add_duels(steered, CLOSE, 5)
    turns: list[int] = []

    def begin(campaign: Campaign, *, turn: int, random: Any) -> None:
        turns.append(turn)
        if len(turns) == 1:
            Steering.objects.update(wanted=True)  # another worker looks while this one works
            order_queues()
        choose_next(campaign, turn=turn, random=random)

    monkeypatch.setattr(steering, "choose_next", begin)
    order_queues()
    made_at = Steering.objects.get().made_at
    assert turns == [turns[0], turns[0] + 1] and made_at is not None
    choose_next(steered, turn=turns[0], random=np.random.default_rng(0))  # the older one comes late
    assert Steering.objects.get().made_at == made_at


# --- Beside people's work ---


def test_leased_and_done_slots_are_left_alone_and_answers_keep_their_propensity(
    steered: Campaign, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "AHEAD", 100)  # all are chosen
    update_campaign(steered, overlap=3)  # so that items of leased and done slots have open ones, too
    steered.refresh_from_db()
    add_duels(steered, CLOSE, 12)
    order_queues()
    task = claim(ben, steered)
    held = Slot.objects.get(lease=task.lease)
    assert held.priority < 0 and held.propensity
    taken = steered.slots.exclude(state="open").order_by("pk").values()
    before = list(taken)
    Steering.objects.update(wanted=True)
    order_queues()
    assert list(taken.all()) == before and len(before) == 61
    assert chosen(steered).filter(item=held.item).exists()
    ranking = submit(ben, task)
    update_campaign(steered, order="random")
    rows = {row["id"]: row for row in map(json.loads, export_lines(steered, "rankings"))}
    assert rows[ranking.public_id]["propensity"] == held.propensity
    assert {row["propensity"] for row in rows.values() if row["id"] != ranking.public_id} == {None}
    # An export can be brought in again.
    other = Campaign.objects.create(name="Again", state="open", created_by=steered.created_by)
    record = import_rows(other, rows.values(), name="again")
    assert (record.rejected, record.rankings) == (0, len(rows))


def test_released_and_undone_items_go_back_in_order(steered: Campaign, ben: User) -> None:
    add_duels(steered, CLOSE, 12)
    order_queues()
    task = claim(ben, steered)
    release(ben, get_lease(ben, task.lease))
    assert chosen(steered).count() == 12
    submit(ben, claim(ben, steered))
    assert undo_last(ben, steered, now=NOW) is not None
    Steering.objects.update(wanted=True)
    order_queues()
    assert chosen(steered).count() == 11 and standing(steered).waiting == 11


def test_a_late_answer_fills_a_slot_of_a_chosen_item(steered: Campaign, ben: User) -> None:
    update_campaign(steered, overlap=2)
    steered.refresh_from_db()
    [item] = add_duels(steered, CLOSE, 1)
    steered.slots.exclude(item__public_id=item).filter(state="open").update(state="void")
    order_queues()
    task = claim(ben, steered)
    release(ben, get_lease(ben, task.lease))
    ranking = submit(ben, task)
    assert not ranking.late and ranking.slot.propensity == 1.0  # the only candidate
    assert chosen(steered).count() == 1


def test_claims_of_an_ordered_queue_take_no_more_statements(
    steered: Campaign, foreign_campaign: Campaign, ben: User
) -> None:
    def statements(campaign: Campaign) -> int:
        add_duels(campaign, CLOSE, 5)
        order_queues()
        submit(ben, claim(ben, campaign))  # makes the person's row
        with CaptureQueriesContext(connection) as queries:
            claim(ben, campaign)
        return len(queries)

    make_member(foreign_campaign, ben, "annotator")
    assert foreign_campaign.order == "random"
    assert statements(steered) == statements(foreign_campaign) <= 4  # begin, lock, claim, end


def test_managers_and_clients_choose_the_order(campaign: Campaign, manager: User, researcher: User) -> None:
    settings = f"/campaigns/{campaign.public_id}/settings"
    client = client_for(manager)
    form = {"name": "Renamed", "protocol": "pair", "overlap": 1, "guidelines": ""}
    for sent, order in (("informative", "informative"), (None, "informative"), ("random", "random")):
        assert client.post(settings, form | ({"order": sent} if sent else {})).status_code == 302
        campaign.refresh_from_db()
        assert campaign.order == order
    assert client.post(settings, form | {"order": "alphabetical"}).status_code == 422

    client = client_for(researcher)
    made = client.post("/api/campaigns/", {"name": "New", "order": "informative"}, "application/json")
    assert (made.status_code, made.json()["order"]) == (201, "informative")
    address = f"/api/campaigns/{made.json()['id']}"
    assert client.patch(address, {"order": "random"}, "application/json").json()["order"] == "random"
    assert client.patch(address, {"order": "alphabetical"}, "application/json").status_code == 400
    assert client.get(address).json()["order"] == "random"


def test_the_migration_goes_back_and_forth(transactional_db: None) -> None:
    executor = MigrationExecutor(connection)
    executor.migrate([("labeling", "0004_statistics")])
    assert "labeling_steering" not in connection.introspection.table_names()
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    assert {"labeling_steering", "labeling_itemgain"} <= set(connection.introspection.table_names())

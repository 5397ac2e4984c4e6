"""Answers: kept once, never dropped, taken back, revised."""

from __future__ import annotations

import time
from datetime import timedelta
from threading import Thread
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from labeling.access import get_lease
from labeling.campaigns import change_state, update_campaign
from labeling.models import Campaign, Contribution, Ranking, Slot
from labeling.protocols.basics import InvalidRanking, labels_of_tiers, tiers_of_labels
from labeling.queue.annotation import CannotUndo, revise, submit_and_claim, submit_ranking, undo_last
from labeling.queue.assignment import LeaseLost, claim_next, current_task, lock_contribution, release, skip
from labeling.queue.progress import progress
from tests.labeling.conftest import NOW, add_items, claim, submit

LATER = NOW + timedelta(minutes=20)


def test_an_answer_is_stored_as_given(campaign: Campaign, anna: User):
    campaign.guidelines_version = 7
    campaign.save(update_fields=["guidelines_version"])
    add_items(campaign, 1)
    task = claim(anna, campaign)
    flags = ["violent", "opinion", "violent"]
    ranking = submit(anna, task, [[1], [0]], flags=flags, rationale="Döner \x00😀", active_ms=1234)
    ranking.refresh_from_db()
    assert ranking.tiers == [[1], [0]]
    assert ranking.shown_order == [shown.index for shown in task.completions]
    assert ranking.flags == ["violent", "opinion"]
    assert ranking.rationale == "Döner 😀"
    assert (ranking.active_ms, ranking.protocol, ranking.guidelines_version) == (1234, "pair", 7)
    assert (ranking.lease, ranking.late, ranking.status, ranking.origin) == (task.lease, False, "accepted", "person")
    assert ranking.slot and ranking.slot.state == "done"
    assert ranking.labeler == Contribution.objects.get(user=anna).labeler
    assert "anna" not in ranking.labeler


@pytest.mark.parametrize(
    ("protocol", "tiers", "valid"),
    [
        ("pair", [[0], [1]], True),
        ("pair", [[1, 0]], True),
        ("pair", [[0]], False),
        ("pair", [], False),
        ("pair", [[0], [2]], False),
        ("conversation", [[1], [0]], True),
        ("conversation", [[1]], False),
        ("ranking", [[2], [0, 3], [1]], True),
        ("ranking", [[3], [0]], True),
        ("ranking", [[0, 1, 2, 3]], True),
        ("ranking", [[3]], False),
        ("ranking", [[0], [0, 1]], False),
        ("ranking", [[0], []], False),
        ("ranking", [[-1], [0]], False),
        ("ranking", [[0.0], [1]], False),
        ("ranking", [["0"], ["1"]], False),
    ],
)
def test_what_counts_as_an_answer(campaign: Campaign, anna: User, protocol: str, tiers: list[list[int]], valid: bool):
    Campaign.objects.update(protocol=protocol)
    campaign.refresh_from_db()
    add_items(campaign, 1, completions=4 if protocol == "ranking" else 2)
    task = claim(anna, campaign)
    if valid:
        assert submit(anna, task, tiers).tiers == tiers
    else:
        with pytest.raises(InvalidRanking):
            submit(anna, task, tiers)
        assert Slot.objects.get().state == "leased"
        assert not Ranking.objects.exists()


def test_labels_and_indices_translate_both_ways():
    shown = [2, 0, 1]
    assert tiers_of_labels([["C"], ["A", "B"]], shown) == [[1], [2, 0]]
    assert labels_of_tiers([[1], [2, 0]], shown) == [["C"], ["A", "B"]]
    for wrong in ([["D"]], "A", [["a"]], [[0]], None, [[["A"]]]):
        with pytest.raises(InvalidRanking):
            tiers_of_labels(wrong, shown)


def test_the_same_token_gives_the_same_ranking_and_never_another_answer(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    task = claim(anna, campaign)
    first = submit(anna, task, [[0], [1]])
    assert submit(anna, task, [[0], [1]], LATER) == first
    with pytest.raises(LeaseLost):
        submit(anna, task, [[1], [0]])
    assert Ranking.objects.count() == 1
    assert progress(anna, campaign).mine == 1


def test_submit_and_claim_is_one_transaction(campaign: Campaign, anna: User, monkeypatch: pytest.MonkeyPatch):
    add_items(campaign, 2)
    task = claim(anna, campaign)

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the server dies here")

    monkeypatch.setattr("labeling.queue.annotation.claim_locked", fail)
    with pytest.raises(RuntimeError):
        submit_and_claim(anna, get_lease(anna, task.lease), tiers=[[0], [1]], now=NOW)
    assert not Ranking.objects.exists()
    assert current_task(anna, campaign) is not None
    monkeypatch.undo()
    with CaptureQueriesContext(connection) as queries:
        ranking, following = submit_and_claim(anna, get_lease(anna, task.lease), tiers=[[0], [1]], now=NOW)
    assert following and following.item != task.item
    assert len([query for query in queries if "SAVEPOINT" not in query["sql"]]) == 4
    assert any(f"campaign.{campaign.public_id}" in query["sql"] for query in queries)


# --- Late answers -------------------------------------------------------------------------------------------------


def test_a_late_submit_fills_the_slot_as_long_as_nobody_took_it(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    ranking = submit(anna, claim(anna, campaign), now=NOW + timedelta(days=2))
    assert not ranking.late
    assert Slot.objects.get().state == "done"


def test_a_late_submit_to_a_slot_that_passed_on_is_kept_as_an_extra(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 1)
    mine = claim(anna, campaign)
    theirs = claim(ben, campaign, LATER)
    late = submit(anna, mine, [[1], [0]], LATER)
    assert (late.late, late.slot, late.status) == (True, None, "accepted")
    assert late.shown_order == [shown.index for shown in mine.completions]
    assert submit(anna, mine, [[1], [0]], LATER) == late
    assert not submit(ben, theirs, now=LATER).late
    assert progress(anna, campaign).done == 1
    assert progress(anna, campaign).mine == 1
    assert claim_next(anna, campaign, now=LATER) is None


def test_a_late_submit_fills_another_free_slot_of_the_item(campaign: Campaign, anna: User, ben: User):
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    add_items(campaign, 1)
    mine = claim(anna, campaign)
    held = Slot.objects.get(state="leased")
    Slot.objects.filter(state="open").update(priority=1)  # so that ben takes over anna's
    claim(ben, campaign, LATER)
    late = submit(anna, mine, now=LATER)
    assert late.slot and late.slot.pk != held.pk
    assert not late.late


def test_a_late_submit_takes_a_slot_over_from_an_expired_lease_of_somebody_else(
    campaign: Campaign, anna: User, ben: User
):
    add_items(campaign, 1)
    mine = claim(anna, campaign)
    theirs = claim(ben, campaign, LATER)
    much_later = LATER + timedelta(hours=1)
    assert not submit(anna, mine, now=much_later).late
    assert submit(ben, theirs, now=much_later).late


def test_an_answer_after_release_or_skip_is_kept(campaign: Campaign, anna: User):
    add_items(campaign, 2)
    released = claim(anna, campaign)
    release(anna, get_lease(anna, released.lease))
    assert not submit(anna, released).late
    skipped = claim(anna, campaign)
    skip(anna, get_lease(anna, skipped.lease), reason="other")
    assert not submit(anna, skipped).late
    assert progress(anna, campaign).done == 2


def test_two_tabs_on_one_item_make_one_ranking_and_its_revision(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    first = claim(anna, campaign)
    release(anna, get_lease(anna, first.lease))
    second = claim(anna, campaign)
    one = submit(anna, second, [[0], [1]])
    two = submit(anna, first, [[1], [0]])
    one.refresh_from_db()
    assert (one.status, two.status, two.previous, two.slot) == ("superseded", "accepted", one, one.slot)
    assert progress(anna, campaign).mine == 1


def test_an_old_tab_answers_while_the_new_one_is_open(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    first = claim(anna, campaign)
    release(anna, get_lease(anna, first.lease))
    second = claim(anna, campaign)
    one = submit(anna, first, [[0], [1]])
    assert not one.late
    assert submit(anna, second, [[1], [0]]).previous == one
    assert Slot.objects.get().state == "done"


@pytest.mark.parametrize("state", ["paused", "closed"])
def test_an_answer_to_a_live_lease_is_taken_whatever_the_campaign_does(campaign: Campaign, anna: User, state: str):
    add_items(campaign, 2)
    task = claim(anna, campaign)
    change_state(campaign, state)
    ranking, following = submit_and_claim(anna, get_lease(anna, task.lease), tiers=[[0], [1]], now=NOW)
    assert not ranking.late
    assert following is None


def test_an_answer_after_closing_to_a_lease_that_ran_out_is_an_extra(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    task = claim(anna, campaign)
    change_state(campaign, "closed")
    assert submit(anna, task, now=LATER).late
    slot = Slot.objects.get()
    assert (slot.state, slot.user) == ("open", None)
    assert progress(anna, campaign).done == 0


def test_an_answer_to_a_voided_slot_is_an_extra(campaign: Campaign, anna: User, ben: User):
    campaign.overlap = 2
    campaign.save(update_fields=["overlap"])
    add_items(campaign, 1)
    mine, theirs = claim(anna, campaign), claim(ben, campaign)
    submit(ben, theirs)
    update_campaign(campaign, overlap=1)
    assert submit(anna, mine).late


# --- Undo and revise ----------------------------------------------------------------------------------------------


def test_cannot_tell_is_an_answer_of_its_own(campaign: Campaign, anna: User):
    add_items(campaign, 2)
    task = claim(anna, campaign)
    with pytest.raises(InvalidRanking, match="Either rank"):
        submit(anna, task, [[0], [1]], cannot_tell=True)
    ranking = submit(anna, task, [], cannot_tell=True, rationale="Both beyond me.")
    ranking.refresh_from_db()
    assert (ranking.tiers, ranking.cannot_tell, ranking.rationale) == ([], True, "Both beyond me.")
    assert progress(anna, campaign).done == 1
    assert ranking.slot is not None and ranking.slot.state == "done"
    assert not ranking.item.skips.exists()
    assert submit(anna, task, [], cannot_tell=True, rationale="Both beyond me.") == ranking
    assert revise(anna, ranking, tiers=[[1], [0]]).previous == ranking
    assert list(Ranking.objects.ranked().values_list("tiers", flat=True)) == [[[1], [0]]]


def test_the_database_keeps_cannot_tell_and_tiers_apart(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    ranking = submit(anna, claim(anna, campaign))
    changes: tuple[dict[str, Any], ...] = ({"cannot_tell": True}, {"tiers": []})
    for change in changes:
        with pytest.raises(IntegrityError), transaction.atomic():
            Ranking.objects.filter(pk=ranking.pk).update(**change)


def test_undo_gives_the_same_screen_back(campaign: Campaign, anna: User):
    add_items(campaign, 3)
    task = claim(anna, campaign)
    ranking, following = submit_and_claim(anna, get_lease(anna, task.lease), tiers=[[0], [1]], now=NOW)
    assert following
    back = undo_last(anna, campaign, now=NOW + timedelta(seconds=5))
    assert back and back == current_task(anna, campaign)
    assert (back.item, back.messages, back.completions) == (task.item, task.messages, task.completions)
    assert back.lease != task.lease
    ranking.refresh_from_db()
    assert ranking.status == "withdrawn"
    assert progress(anna, campaign).done == 0
    new = submit(anna, back, [[1], [0]])
    assert new.slot == ranking.slot
    # The item that was on the screen before undo comes back, not a third one.
    assert claim(anna, campaign, NOW + timedelta(seconds=9)).item == following.item
    # A repeated request of the withdrawn answer changes nothing.
    assert submit(anna, task, [[0], [1]]) == ranking
    ranking.refresh_from_db()
    assert ranking.status == "withdrawn"


def test_undo_goes_back_only_so_far_and_only_in_an_open_campaign(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 6)
    for _ in range(4):
        submit(anna, claim(anna, campaign))
    for _ in range(3):
        assert undo_last(anna, campaign, now=NOW)
    with pytest.raises(CannotUndo, match="first"):
        undo_last(anna, campaign, now=NOW)
    assert Slot.objects.filter(state="leased", user=anna).count() == 3
    with pytest.raises(CannotUndo, match="no answer"):
        undo_last(ben, campaign, now=NOW)
    with pytest.raises(CannotUndo, match="not open"):
        undo_last(anna, change_state(campaign, "paused"), now=NOW)


def test_undo_of_an_answer_to_a_lapsed_lease(campaign: Campaign, anna: User):
    add_items(campaign, 1)
    task = claim(anna, campaign)
    release(anna, get_lease(anna, task.lease))
    submit(anna, task)
    back = undo_last(anna, campaign, now=NOW)
    assert back and back.completions == task.completions
    assert submit(anna, back, [[1], [0]]).status == "accepted"


def test_undo_of_an_extra_withdraws_it(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 1)
    mine = claim(anna, campaign)
    submit(ben, claim(ben, campaign, LATER), now=LATER)
    submit(anna, mine, now=LATER)
    assert undo_last(anna, campaign, now=LATER) is None
    assert Ranking.objects.accepted().count() == 1
    assert progress(anna, campaign).mine == 0
    assert claim_next(anna, campaign, now=LATER) is None


def test_a_revision_replaces_the_answer_and_keeps_the_old_one(campaign: Campaign, anna: User, ben: User):
    add_items(campaign, 1)
    old = submit(anna, claim(anna, campaign), [[0], [1]])
    new = revise(anna, old, tiers=[[1], [0]], rationale="I misread.")
    old.refresh_from_db()
    assert (old.status, old.tiers) == ("superseded", [[0], [1]])
    assert (new.status, new.tiers, new.previous, new.slot, new.lease) == ("accepted", [[1], [0]], old, old.slot, None)
    assert new.shown_order == old.shown_order
    for person, ranking in [(anna, old), (ben, new)]:
        with pytest.raises(LeaseLost):
            revise(person, ranking, tiers=[[0], [1]])
    with pytest.raises(InvalidRanking):
        revise(anna, new, tiers=[[0]])
    assert progress(anna, campaign).mine == 1
    back = undo_last(anna, campaign, now=NOW)
    assert back
    assert not Ranking.objects.accepted().exists()
    change_state(campaign, "closed")
    campaign.refresh_from_db()
    new.campaign = campaign
    with pytest.raises(LeaseLost, match="not open"):
        revise(anna, new, tiers=[[0], [1]])


def test_a_pseudonym_is_one_per_person_and_campaign(campaign: Campaign, foreign_campaign: Campaign, admin: User):
    for place in (campaign, foreign_campaign):
        add_items(place, 2)
        for _ in range(2):
            submit_ranking(admin, get_lease(admin, claim(admin, place).lease), tiers=[[0], [1]], now=NOW)
    assert Contribution.objects.filter(user=admin).values("labeler").distinct().count() == 2
    assert Ranking.objects.values("labeler").distinct().count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_submit_locks_the_person_before_the_slot(campaign: Campaign, anna: User):
    """Two tabs, one submitting and one releasing the same lease, would lock each other out the other way round."""
    add_items(campaign, 1)
    task = claim(anna, campaign)
    given: list[Ranking] = []

    def submit_in_another_tab() -> None:
        given.append(submit(anna, task))
        connection.close()

    thread = Thread(target=submit_in_another_tab)
    with transaction.atomic():
        lock_contribution(anna, campaign)
        thread.start()
        while not waits_for_a_lock():
            time.sleep(0.01)
        assert Slot.objects.select_for_update(nowait=True).get().state == "leased"
        assert not given
    thread.join()
    assert Slot.objects.get().state == "done"
    assert len(given) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("takes_over", [True, False])
def test_a_late_answer_waits_for_a_takeover_to_be_done_or_undone(
    campaign: Campaign, anna: User, ben: User, takes_over: bool
):
    """An answer from an old tab, while somebody is taking over the slot that the person's newer tab held."""
    update_campaign(campaign, overlap=2)
    add_items(campaign, 1)
    old = claim(anna, campaign)
    release(anna, get_lease(anna, old.lease))
    claim(anna, campaign)
    held = Slot.objects.get(state="leased")
    Slot.objects.filter(state="open").update(priority=1)  # so that ben takes over anna's
    given: list[Ranking | Exception] = []

    def submit_in_the_old_tab() -> None:
        try:
            given.append(submit(anna, old, now=LATER))
        except Exception as error:
            given.append(error)
        connection.close()

    thread = Thread(target=submit_in_the_old_tab)
    with transaction.atomic():
        claim(ben, campaign, LATER)
        assert Slot.objects.get(pk=held.pk).user == ben
        thread.start()
        while thread.is_alive() and not waits_for_a_lock():
            time.sleep(0.01)
        transaction.set_rollback(not takes_over)
    thread.join()
    [ranking] = given
    assert isinstance(ranking, Ranking), ranking
    assert not ranking.late
    assert (ranking.slot == held) is not takes_over
    assert Slot.objects.filter(state="done").get().user == anna


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        return cursor.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None

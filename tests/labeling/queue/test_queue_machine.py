"""Anything that people and managers can do, in any order: the rules of the queue hold after every step."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.models import User
from labeling.access import get_lease
from labeling.campaigns import change_state, update_campaign
from labeling.models import Campaign, Gold, QualityRules, Ranking, Slot
from labeling.quality.gold import mark_gold, unmark_gold
from labeling.quality.review import accept, replace, send_back
from labeling.quality.watch import pause, resume
from labeling.querysets import COUNTED
from labeling.queue.annotation import MAX_OPEN_LEASES, CannotUndo, revise, submit_and_claim, submit_ranking, undo_last
from labeling.queue.assignment import LeaseLost, Task, claim_ahead, claim_next, heartbeat, release, skip
from labeling.queue.checks import reschedule
from labeling.queue.progress import progress
from labeling.queue.removal import remove_item, restore_item
from labeling.queue.steering import order_queues, take_gains
from tests.conftest import make_user
from tests.labeling.conftest import NOW, add_items

ITEMS = 3
TIERS = st.sampled_from([[[0], [1]], [[1], [0]], [[0, 1]]])
people = st.integers(0, 3)
ids = count()


def asked(ranking: Ranking) -> int | None:
    """Who was asked: a reviewer's decision stands where somebody's answer stood."""
    return ranking.previous.user_id if ranking.kind == "adjudicated" and ranking.previous else ranking.user_id


class Queue(RuleBasedStateMachine):
    """Four people, three items. `leases` are all that were ever given out, whatever has become of them."""

    leases = Bundle("leases")
    now: datetime

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()  # rolled back, so examples do not slow each other down
        self.example.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    @initialize(overlap=st.integers(1, 3), check_every=st.sampled_from([0, 2]))
    def begin(self, overlap: int, check_every: int) -> None:
        self.people = [make_user(f"person{next(ids)}", role="admin") for _ in range(4)]
        self.reviewer = make_user(f"reviewer{next(ids)}", role="admin")
        self.campaign = Campaign.objects.create(
            name="Queue", state="open", overlap=overlap, created_by=self.people[0], slot_count=0
        )
        QualityRules.objects.create(campaign=self.campaign, check_every=check_every)
        add_items(self.campaign, ITEMS)
        self.now = NOW
        self.submitted: dict[UUID, tuple[User, Any]] = {}
        self.lowered = False

    # --- What people do ---

    @rule(target=leases, who=people)
    def claim(self, who: int) -> Any:
        task = claim_next(self.people[who], self.campaign, now=self.now)
        assert task is None or self.campaign.state == "open"
        paused = self.campaign.contributions.get(user=self.people[who]).paused_at
        assert task is None or not paused
        if task is None and self.campaign.state == "open" and not paused:
            self.nothing_was_free_for(self.people[who])
        return who, task

    @rule(target=leases, lease=leases)
    def claim_ahead(self, lease: tuple[int, Task | None]) -> Any:
        who, task = lease
        if task is None:
            return who, None
        following = claim_ahead(self.people[who], get_lease(self.people[who], task.lease), now=self.now)
        held = Slot.objects.filter(lease=task.lease, state="leased").exists()
        assert following is None or (held and self.campaign.state == "open" and following.lease != task.lease)
        return who, following

    @rule(target=leases, lease=leases, tiers=TIERS)
    def submit_and_claim(self, lease: tuple[int, Task | None], tiers: Any) -> Any:
        who, task = lease
        return who, self.submit(who, task, tiers, and_claim=True)

    @rule(lease=leases, tiers=TIERS)
    def submit_only(self, lease: tuple[int, Task | None], tiers: Any) -> None:
        who, task = lease
        self.submit(who, task, tiers, and_claim=False)

    def submit(self, who: int, task: Task | None, tiers: Any, and_claim: bool) -> Task | None:
        if task is None:
            return None
        person = self.people[who]
        lease = get_lease(person, task.lease)
        before = self.submitted.get(task.lease)
        following = None
        try:
            if and_claim:
                ranking, following = submit_and_claim(person, lease, tiers=tiers, now=self.now)
            else:
                ranking = submit_ranking(person, lease, tiers=tiers, now=self.now)
        except LeaseLost:
            assert before is not None and before[1] != tiers  # the only reason to refuse a valid answer
            return None
        assert ranking.tiers == tiers
        self.submitted[task.lease] = person, tiers
        return following

    @rule(lease=leases, action=st.sampled_from(["skip", "release", "heartbeat"]))
    def put_aside(self, lease: tuple[int, Task | None], action: str) -> None:
        who, task = lease
        if task is None:
            return
        person = self.people[who]
        held = get_lease(person, task.lease)
        with suppress(LeaseLost):
            if action == "skip":
                skip(person, held, reason="other")
            elif action == "release":
                release(person, held)
            else:
                assert heartbeat(person, held, now=self.now) > NOW

    @rule(target=leases, who=people)
    def undo(self, who: int) -> Any:
        task = None
        with suppress(CannotUndo):
            task = undo_last(self.people[who], self.campaign, now=self.now)
        return who, task

    @rule(who=people, tiers=TIERS)
    def revise_newest(self, who: int, tiers: Any) -> None:
        newest = Ranking.objects.accepted().filter(campaign=self.campaign, user=self.people[who]).last()
        if newest and self.campaign.state == "open":
            assert revise(self.people[who], newest, tiers=tiers).previous == newest

    @rule(minutes=st.integers(1, 40))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    # --- What managers do ---

    @rule(state=st.sampled_from(["paused", "closed", "open", "open"]))
    def change_state(self, state: str) -> None:
        if state != "paused" or self.campaign.state != "closed":
            self.campaign = change_state(self.campaign, state)

    @rule(overlap=st.integers(1, 3))
    def change_overlap(self, overlap: int) -> None:
        self.lowered |= overlap < self.campaign.overlap
        self.campaign = update_campaign(self.campaign, overlap=overlap)

    @rule(order=st.sampled_from(Campaign.Order.values))
    def change_order(self, order: str) -> None:
        self.campaign = update_campaign(self.campaign, order=order)

    @rule(best=st.integers(0, ITEMS))
    def a_worker_orders_the_queue(self, best: int) -> None:
        items = self.campaign.items.order_by("pk").values_list("public_id", flat=True)
        gains = {item: 2.0 if number == best else 1.0 for number, item in enumerate(items)}
        take_gains(self.campaign, gains, model="Ensemble")
        due = self.campaign.state == "open" and self.campaign.order == "informative"
        assert order_queues() == due

    @rule(which=st.integers(0, ITEMS - 2))  # one stays usual work, or the campaign could not be opened again
    def make_gold_or_a_usual_item_again(self, which: int) -> None:
        item = self.campaign.items.order_by("pk")[which]
        self.lowered = True
        if Gold.objects.filter(item=item).exists():
            unmark_gold(item)
        else:
            mark_gold(item, tiers=[[0], [1]], user=self.people[0])

    @rule(which=st.integers(0, ITEMS - 2))
    def take_an_item_out_or_put_it_back(self, which: int) -> None:
        item = self.campaign.items.order_by("pk")[which]
        self.lowered = True
        if item.removed_at:
            restore_item(item)
        else:
            remove_item(item, now=self.now)

    @rule(every=st.sampled_from([0, 1, 2]))
    def change_checks(self, every: int) -> None:
        QualityRules.objects.filter(campaign=self.campaign).update(check_every=every)
        reschedule(self.campaign, every)

    @rule(who=people, verdict=st.sampled_from(["accept", "return", "replace"]))
    def a_reviewer_decides(self, who: int, verdict: str) -> None:
        usual = Ranking.objects.accepted().filter(campaign=self.campaign, user=self.people[who])
        newest = usual.filter(review=None).last()
        if newest is None:
            return
        if verdict == "accept":
            accept(newest, by=self.reviewer)
        elif verdict == "return":
            send_back(newest, by=self.reviewer, comment="Look again.", now=self.now)
        else:
            replace(newest, by=self.reviewer, tiers=[[1], [0]])

    @rule(who=people)
    def a_manager_pauses_or_lets_go_on(self, who: int) -> None:
        person = self.campaign.contributions.filter(user=self.people[who]).first()
        if person is None:
            return
        if person.paused_at:
            resume(person, by=self.reviewer)
        else:
            pause(person, because="we should talk", by=self.reviewer)

    @precondition(lambda self: self.campaign.state != "closed")
    @rule()
    def import_more(self) -> None:
        add_items(self.campaign, ITEMS + 1)
        self.campaign.refresh_from_db()

    # --- What must hold ---

    def nothing_was_free_for(self, person: User) -> None:
        for slot in self.campaign.slots.filter(kind="normal").exclude(state__in=["done", "void"]):
            free = slot.expires_at is None or slot.expires_at <= self.now
            mine = slot.item.slots.filter(user=person).exclude(pk=slot.pk).exclude(kind="repeat").exists()
            rankings = slot.item.rankings.filter(user=person)
            answered = any(ranking.status == "accepted" or ranking.late for ranking in rankings)
            assert not free or mine or answered or slot.item.skips.filter(user=person).exists()

    @invariant()
    def the_rules_hold(self) -> None:
        self.campaign.refresh_from_db()
        slots = list(self.campaign.slots.all())
        rankings = list(self.campaign.rankings.all())
        accepted = [ranking for ranking in rankings if ranking.status in ("accepted", "removed")]
        self.what_is_out_is_nobodys_work_and_does_not_count(slots, accepted)
        self.no_slot_is_lost_and_none_too_many(slots)
        self.nobody_is_twice_on_an_item(slots, accepted)
        self.a_done_slot_is_an_accepted_ranking_and_the_other_way_round(slots, accepted)
        self.every_answer_is_kept(rankings)
        self.counts_are_right_and_leases_few(slots, accepted)

    def what_is_out_is_nobodys_work_and_does_not_count(self, slots: list[Slot], accepted: list[Ranking]) -> None:
        out = set(self.campaign.items.exclude(removed_at=None).values_list("pk", flat=True))
        assert not [slot for slot in slots if slot.item_id in out and slot.state in ("open", "leased")]
        assert all((ranking.status == "removed") == (ranking.item_id in out) for ranking in accepted)

    def no_slot_is_lost_and_none_too_many(self, slots: list[Slot]) -> None:
        slots = [slot for slot in slots if slot.kind == "normal"]
        done = Counter(slot.item_id for slot in slots if slot.state == "done")
        there = Counter(slot.item_id for slot in slots if slot.state != "void")
        assert self.campaign.items.count() in (ITEMS, ITEMS + 1)
        for item, own, removed_at in self.campaign.items.values_list("pk", "overlap", "removed_at"):
            wanted = 0 if removed_at else self.campaign.overlap if own is None else own
            assert there[item] >= max(wanted, done[item])
            assert there[item] == wanted or self.lowered  # answers there before it was lowered stay
        assert self.campaign.slot_count == sum(there.values())
        assert all((slot.priority < 0) == (slot.propensity is not None) for slot in slots)

    def nobody_is_twice_on_an_item(self, slots: list[Slot], accepted: list[Ranking]) -> None:
        held = Counter((slot.item_id, slot.user_id, slot.kind == "repeat") for slot in slots if slot.user_id)
        given = Counter((ranking.item_id, ranking.user_id, ranking.kind == "repeat") for ranking in accepted)
        assert max([*held.values(), *given.values(), 0]) <= 1

    def a_done_slot_is_an_accepted_ranking_and_the_other_way_round(
        self, slots: list[Slot], accepted: list[Ranking]
    ) -> None:
        done = {(slot.pk, slot.item_id, slot.user_id) for slot in slots if slot.state == "done"}
        in_slots = [(ranking.slot_id, ranking.item_id, asked(ranking)) for ranking in accepted if not ranking.late]
        assert sorted(done) == sorted(in_slots)
        assert all(ranking.slot_id is None for ranking in accepted if ranking.late)

    def every_answer_is_kept(self, rankings: list[Ranking]) -> None:
        kept = {ranking.lease: (ranking.user_id, ranking.tiers) for ranking in rankings if ranking.lease}
        assert kept == {lease: (person.pk, tiers) for lease, (person, tiers) in self.submitted.items()}

    def counts_are_right_and_leases_few(self, slots: list[Slot], accepted: list[Ranking]) -> None:
        counts = {one.user_id: (one.done, one.extra, one.checks) for one in self.campaign.contributions.all()}
        for person in self.people:
            given = [ranking for ranking in accepted if asked(ranking) == person.pk]
            mine = [ranking.late for ranking in given if ranking.kind in COUNTED]
            assert counts.get(person.pk, (0, 0, 0)) == (mine.count(False), mine.count(True), len(given) - len(mine))
            returned = person.rankings.filter(campaign=self.campaign, status="returned").values_list("slot", flat=True)
            held = [slot for slot in slots if slot.state == "leased" and slot.user_id == person.pk]
            assert len([slot for slot in held if slot.pk not in set(returned)]) <= MAX_OPEN_LEASES
        assert progress(self.people[0], self.campaign).done == sum(done for done, *_ in counts.values())
        counted = set(Ranking.objects.accepted().filter(campaign=self.campaign))
        assert counted == {one for one in accepted if one.kind in COUNTED and one.status == "accepted"}


@pytest.mark.timeout(900)  # finding a failure takes seconds, making it short takes minutes
@pytest.mark.django_db(transaction=True)
def test_the_rules_of_the_queue_hold_whatever_happens():
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

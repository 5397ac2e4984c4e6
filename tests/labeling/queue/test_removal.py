"""Items taken out of a campaign: nobody's work, counted nowhere, and back as they were."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from accounts.models import User
from labeling.data.exporting import export_lines
from labeling.data.importing import import_rows
from labeling.models import AuditEntry, Campaign, Gold, Item, QualityRules, Ranking, Slot
from labeling.quality.gold import mark_gold, shown
from labeling.quality.statistics import kept_statistics
from labeling.queue.annotation import CannotUndo, revise, undo_last
from labeling.queue.assignment import LeaseLost, claim_next
from labeling.queue.removal import remove_item, restore_item
from tests.conftest import client_for
from tests.labeling.conftest import NOW, add_items, claim, submit
from training.selection import NoPrompts, PromptOptions, prompt_rows


def exported(campaign: Campaign) -> int:
    return len(list(export_lines(campaign, "rankings")))


def states(item: Item) -> list[str]:
    return sorted(item.slots.values_list("state", flat=True))


def test_what_was_answered_counts_no_more_until_the_item_is_back(
    campaign: Campaign, manager: User, anna: User, ben: User
) -> None:
    item = add_items(campaign, 1)[0]
    Campaign.objects.filter(pk=campaign.pk).update(overlap=3)
    restore_item(remove_item(item, now=NOW))  # slots follow the overlap
    answer = submit(anna, claim(anna, campaign))
    submit(ben, claim(ben, campaign))
    agreed = kept_statistics(campaign).statistics
    assert (exported(campaign), agreed and agreed.rankings) == (2, 2)

    assert remove_item(item, now=NOW, by=manager).removed_at == NOW
    assert exported(campaign) == 0
    emptied = kept_statistics(campaign).statistics
    assert emptied and emptied.rankings == 0
    with pytest.raises(NoPrompts):
        list(prompt_rows(campaign, PromptOptions()))
    assert states(item) == ["done", "done", "void"]
    with pytest.raises(LeaseLost):
        revise(anna, answer, tiers=[[1], [0]])
    with pytest.raises(CannotUndo):
        undo_last(anna, campaign, now=NOW)
    assert campaign.contributions.get(user=anna).done == 1  # it was work

    restore_item(item, by=manager)
    assert exported(campaign) == 2
    assert kept_statistics(campaign).statistics == agreed
    assert states(item) == ["done", "done", "open"]
    assert len(list(prompt_rows(campaign, PromptOptions()))) == 1
    verbs = AuditEntry.objects.filter(actor=manager).values_list("verb", flat=True).order_by("pk")
    assert list(verbs) == ["items.remove", "items.restore"]


def test_an_answer_that_was_on_its_way_is_kept_and_counts_when_the_item_is_back(campaign: Campaign, anna: User) -> None:
    item = add_items(campaign, 1)[0]
    task = claim(anna, campaign)
    remove_item(item, now=NOW)
    assert claim_next(anna, campaign, now=NOW) is None
    late = submit(anna, task)
    again = submit(anna, task)
    assert (late.status, late.late, again.pk, exported(campaign)) == ("removed", True, late.pk, 0)
    restore_item(item)
    late.refresh_from_db()
    assert (late.status, exported(campaign)) == ("accepted", 1)
    assert claim_next(anna, campaign, now=NOW) is None  # they have answered it


def test_a_gold_item_that_is_out_checks_nobody(campaign: Campaign, anna: User) -> None:
    gold, *_ = add_items(campaign, 5)
    mark_gold(gold, tiers=[[0], [1]], user=None)
    QualityRules.objects.create(campaign=campaign, check_every=1)
    campaign.contributions.create(user=anna, next_check=0)
    task = claim(anna, campaign)
    assert task.item == gold.public_id
    remove_item(gold, now=NOW)
    assert claim(anna, campaign).item != gold.public_id
    assert not Slot.objects.filter(item=gold).exclude(state="void").exists()
    assert not shown(campaign).exists()
    assert submit(anna, task).status == "removed"
    restore_item(gold)
    assert Gold.objects.get().item == gold
    assert states(gold) == ["void"]  # gold is nobody's usual work


def test_rows_brought_in_again_leave_an_item_out(campaign: Campaign) -> None:
    row = {"prompt": "Question?", "chosen": "yes", "rejected": "no"}
    import_rows(campaign, [row], name="a")
    item = campaign.items.get()
    remove_item(item, now=NOW)
    import_rows(campaign, [row | {"labeler": "second"}], name="b")
    assert campaign.items.count() == 1
    assert exported(campaign) == 0
    restore_item(item)
    assert exported(campaign) == 2


def test_a_manager_takes_items_out_on_the_page_and_over_the_api(campaign: Campaign, manager: User, anna: User) -> None:
    first, second = add_items(campaign, 2)
    submit(anna, claim(anna, campaign))
    client = client_for(manager)
    items = f"/campaigns/{campaign.public_id}/items/"
    page = client.post(f"{items}{first.public_id}/remove", follow=True)
    assert "nobody is given it" in page.text and "Make it gold" not in page.text
    listed = client.get(items).text
    assert second.public_id in listed and first.public_id not in listed
    assert first.public_id in client.get(f"{items}?removed=1").text
    page = client.post(f"{items}{first.public_id}/remove", {"restore": "1"}, follow=True)
    assert "nobody is given it" not in page.text

    api = f"/api/campaigns/{campaign.public_id}/items"
    assert client.delete(f"{api}/{second.public_id}").status_code == 204
    assert [item["id"] for item in client.get(api).json()["results"]] == [first.public_id]
    assert [item["id"] for item in client.get(f"{api}?removed=true").json()["results"]] == [second.public_id]
    shown = client.get(f"{api}/{second.public_id}").json()
    assert shown["removed_at"] is not None
    assert client.post(f"{api}/{second.public_id}/restore").status_code == 204
    assert client.get(f"{api}/{second.public_id}").json()["removed_at"] is None
    assert {item["answers"] for item in client.get(api).json()["results"]} == {0, 1}


@pytest.mark.django_db(transaction=True)
def test_answers_given_while_an_item_goes_out_and_comes_back_are_all_kept(
    campaign: Campaign, people: list[User]
) -> None:
    """People answer and take back in threads while a manager takes the item out and puts it back again and again."""
    item = add_items(campaign, 1)[0]
    Campaign.objects.filter(pk=campaign.pk).update(overlap=len(people))
    restore_item(remove_item(item, now=NOW))
    over, failed = threading.Event(), []
    given: set[int] = set()

    def work(person: User) -> None:
        try:
            for _ in range(60):
                task = claim_next(person, campaign, now=NOW)
                if task is not None:
                    given.add(submit(person, task).pk)
                try:
                    undo_last(person, campaign, now=NOW)
                except CannotUndo:
                    continue
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    def manage() -> None:
        while not over.is_set():
            restore_item(remove_item(item, now=NOW))
        remove_item(item, now=NOW)
        connection.close()

    workers = [threading.Thread(target=work, args=[person]) for person in people]
    manager = threading.Thread(target=manage)
    for thread in (*workers, manager):
        thread.start()
    for thread in workers:
        thread.join()
    over.set()
    manager.join()
    assert failed == []
    assert given and given == set(Ranking.objects.values_list("pk", flat=True))
    assert not Ranking.objects.filter(status="accepted").exists()
    assert not item.slots.filter(state__in=["open", "leased"]).exists()
    with transaction.atomic():
        restore_item(item)
    standing = Ranking.objects.filter(status="accepted").values_list("user", flat=True)
    assert len(standing) == len(set(standing))


@pytest.fixture
def people(campaign: Campaign, anna: User, ben: User) -> list[User]:
    return [anna, ben]

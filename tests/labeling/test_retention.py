"""What is deleted can be restored, and what people gave cannot be destroyed."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client

from accounts.models import User
from labeling.models import Campaign, Ranking
from labeling.queue.assignment import claim_next
from tests.conftest import client_for
from tests.labeling.conftest import NOW, add_items, claim, submit

pytestmark = pytest.mark.django_db


def test_a_deleted_campaign_is_hidden_from_everybody_and_can_be_restored(
    campaign: Campaign, manager: User, annotator: User, admin: User
) -> None:
    add_items(campaign)
    ranking = submit(annotator, claim(annotator, campaign))
    held = claim(annotator, campaign)
    client, url = client_for(manager), f"/campaigns/{campaign.public_id}/"
    answer = client.post(f"{url}delete", follow=True)
    assert "You find it below" in answer.content.decode()
    for person in (manager, annotator, admin):
        assert client_for(person).get(url).status_code == 404
        assert client_for(person).get(f"/api{url[:-1]}").status_code == 404
    assert client_for(annotator).post(f"/api/leases/{held.lease}/submit", {}, "application/json").status_code == 404
    campaign.refresh_from_db()
    assert claim_next(annotator, campaign, now=NOW) is None
    assert f"{url}restore" in client.get("/campaigns/").content.decode()
    assert "restore" not in client_for(annotator).get("/campaigns/").content.decode()
    assert client_for(annotator).post(f"{url}restore").status_code == 404

    assert client.post(f"{url}restore").status_code == 302
    assert client.get(url).status_code == 200
    campaign.refresh_from_db()
    assert (campaign.state, campaign.deleted_at) == ("closed", None)
    assert list(Ranking.objects.accepted()) == [ranking]


def test_the_api_deletes_and_restores(campaign: Campaign, manager: User, reviewer: User) -> None:
    url = f"/api/campaigns/{campaign.public_id}"
    assert client_for(reviewer).delete(url).status_code == 404
    client = client_for(manager)
    assert client.delete(url).status_code == 204
    assert client.delete(url).status_code == 404
    assert client.post(f"{url}/restore").json()["state"] == "closed"
    assert client.get(url).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE labeling_ranking SET tiers = '[[1], [0]]'",
        "UPDATE labeling_ranking SET rationale = 'better so', status = 'withdrawn'",
        "UPDATE labeling_ranking SET user_id = NULL, origin = 'imported'",
        "DELETE FROM labeling_ranking",
    ],
)
def test_the_database_refuses_to_change_or_drop_an_answer(campaign: Campaign, annotator: User, change: str) -> None:
    add_items(campaign)
    submit(annotator, claim(annotator, campaign))
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE labeling_ranking SET status = 'withdrawn'")
    assert Ranking.objects.get().status == "withdrawn"


def test_nothing_deletes_a_campaign_with_answers_for_good(campaign: Campaign, annotator: User) -> None:
    add_items(campaign)
    submit(annotator, claim(annotator, campaign))
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        campaign.delete()
    assert Ranking.objects.exists()


def test_a_campaign_that_was_not_deleted_stays_as_it_is_when_restored(client: Client, campaign: Campaign, manager: Any):
    client.force_login(manager)
    client.post(f"/campaigns/{campaign.public_id}/restore")
    campaign.refresh_from_db()
    assert campaign.state == "open"

"""What one answer with the next item asks of the database: the queue's speed over HTTP is mostly this number."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from labeling.data.importing import import_rows
from labeling.models import Campaign, Ranking
from tests.conftest import client_for

pytestmark = pytest.mark.django_db(transaction=True)
MOST = 8
LEASE = re.compile(rb'(?:data-lease=|"lease":)"([0-9a-f-]{36})"')


def a_full_campaign(campaign: Campaign) -> None:
    import_rows(
        campaign,
        [
            {
                "messages": [{"role": "user", "content": f"Question {number}"}],
                "completions": [{"text": "Yes."}, {"text": "No."}],
            }
            for number in range(20)
        ],
        name="questions.jsonl",
    )


def answer_by_page(client: Client, campaign: Campaign, lease: str) -> Any:
    url = (
        f"/campaigns/{campaign.public_id}/label/{lease}/submit"
        if lease
        else f"/campaigns/{campaign.public_id}/label/next"
    )
    return client.post(url, {"choice": "A", "active_ms": "5000"} if lease else {}, headers={"HX-Request": "true"})


def answer_by_api(client: Client, campaign: Campaign, lease: str) -> Any:
    url = f"/api/leases/{lease}/submit" if lease else f"/api/campaigns/{campaign.public_id}/next"
    body = {"tiers": [["A"], ["B"]], "next": True} if lease else {}
    return client.post(url, json.dumps(body), content_type="application/json")


@pytest.mark.parametrize("answer", [answer_by_page, answer_by_api])
def test_an_answer_with_the_next_item_is_a_few_statements_and_one_commit(
    campaign: Campaign, annotator: User, answer: Any
) -> None:
    a_full_campaign(campaign)
    client = client_for(annotator)
    lease = lease_in(answer(client, campaign, ""))
    for _ in range(3):
        with CaptureQueriesContext(connection) as asked:
            response = answer(client, campaign, lease)
        statements = [query["sql"] for query in asked.captured_queries]
        control = [sql for sql in statements if sql in ("BEGIN", "COMMIT")]
        assert len(statements) - len(control) <= MOST, "\n".join(statements)
        assert control == ["BEGIN", "COMMIT"]
        lease = lease_in(response)
    assert Ranking.objects.count() == 3


def lease_in(response: Any) -> str:
    assert response.status_code == 200
    found = LEASE.search(response.content)
    assert found is not None
    return found[1].decode()

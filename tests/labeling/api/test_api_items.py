"""Files in, their reports, items and members over the API."""

from __future__ import annotations

import json
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import User
from labeling.models import Campaign
from tests.conftest import client_for
from tests.labeling.conftest import add_items, claim, submit

TABLE = b"Q,one,two,three,s1,s2,s3\nWhy?,a,b,c,1,5,5\nHow?,d,e,f,,2,3\nWho?,g,h,i,x,2,3\n"
COLUMNS = {"prompt": "Q", "answers": ["one", "two", "three"], "scores": ["s1", "s2", "s3"]}


def table() -> SimpleUploadedFile:
    return SimpleUploadedFile("table.csv", TABLE)


def test_a_table_is_previewed_and_imported_by_a_mapping_of_many_answers(campaign: Campaign, manager: User) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(protocol="ranking")
    client, url = client_for(manager), f"/api/campaigns/{campaign.public_id}/imports"
    body: dict[str, Any] = {"columns": json.dumps(COLUMNS)}
    preview = client.post(f"{url}/preview", {"file": table(), **body}).json()
    assert preview["columns"] == ["Q", "one", "two", "three", "s1", "s2", "s3"]
    first = preview["items"][0]
    assert [card["messages"][0]["content"] for card in first["completions"]] == ["a", "b", "c"]
    assert first["order"] == [["B", "C"], ["A"]]
    assert "must be a number" in preview["refused"][0]["reason"]
    assert not campaign.items.exists()

    report = client.post(url, {"file": table(), **body}).json()
    assert (report["accepted"], report["rejected"], report["rankings"]) == (2, 1, 2)
    assert [ranking.tiers for ranking in campaign.rankings.order_by("pk")] == [[[1, 2], [0]], [[2], [1]]]
    assert [row["id"] for row in client.get(url).json()["results"]] == [report["id"]]

    for wrong, problem in (
        ("no json", "not valid JSON"),
        (json.dumps({"prompt": "Q"}), "columns: answers: This field is required."),
        (json.dumps({**COLUMNS, "answers": ["one"]}), "two answers or more"),
        (json.dumps({**COLUMNS, "scores": ["s1"]}), "for each answer or for none"),
        (json.dumps({**COLUMNS, "winner": "s1"}), "A winner is for two answers"),
    ):
        refused = client.post(url, {"file": table(), "columns": wrong})
        assert refused.status_code == 400 and problem in refused.json()["detail"]


def test_items_are_listed_by_pages_without_their_texts_and_shown_with_everything(
    campaign: Campaign, manager: User, anna: User
) -> None:
    add_items(campaign, 3)
    submit(anna, claim(anna, campaign))
    client, url = client_for(manager), f"/api/campaigns/{campaign.public_id}/items"
    page = client.get(f"{url}?page_size=2").json()
    assert [row["title"] for row in page["results"]] == ["Question 0?", "Question 1?"]
    rest = client.get(page["next"]).json()
    assert [row["title"] for row in rest["results"]] == ["Question 2?"] and rest["next"] is None
    answered = [row for row in page["results"] + rest["results"] if row["answers"]]
    item = client.get(f"{url}/{answered[0]['id']}").json()
    assert item["messages"][0]["content"] == answered[0]["title"]
    assert len(item["completions"]) == answered[0]["completions"] == 2
    [answer] = item["answers"]
    assert answer["username"] == "anna" and sorted(sum(answer["tiers"], [])) == [0, 1]
    assert client.get(f"{url}/nowhere").status_code == 404
    assert client.get(f"{url}/%00").status_code == 404


def test_a_manager_changes_and_removes_members(campaign: Campaign, manager: User, anna: User, outsider: User) -> None:
    client, url = client_for(manager), f"/api/campaigns/{campaign.public_id}/members"
    changed = client.patch(f"{url}/{anna.pk}", {"role": "reviewer"}, content_type="application/json")
    assert changed.json() == {"id": anna.pk, "username": "anna", "role": "reviewer"}
    assert client.patch(f"{url}/{anna.pk}", {}, content_type="application/json").status_code == 400
    assert client.delete(f"{url}/{anna.pk}").status_code == 204
    assert [row["username"] for row in client.get(url).json()["results"]] == ["manager"]
    assert client.delete(f"{url}/{outsider.pk}").status_code == 404


def test_all_refused_lines_are_a_file_to_download(campaign: Campaign, manager: User, annotator: User) -> None:
    client, url = client_for(manager), f"/api/campaigns/{campaign.public_id}/imports"
    file = SimpleUploadedFile("rows.jsonl", b'{"prompt": "=1+1"}\n' * 3 + b"[1]\n")
    record = client.post(url, {"file": file}).json()
    answer = client.get(f"{url}/{record['id']}/refused")
    assert answer["Content-Disposition"] == f'attachment; filename="import-{record["id"]}-refused.jsonl"'
    rows = [json.loads(line) for line in answer.getvalue().splitlines()]
    assert rows == record["errors"] and [row["line"] for row in rows] == [1, 2, 3, 4]
    table = client.get(f"{url}/{record['id']}/refused?as=csv").getvalue().decode().splitlines()
    assert table[0] == "line,reason" and table[4] == f"4,{rows[3]['reason']}" and len(table) == 5
    assert client.get(f"{url}/{record['id']}/refused?as=xlsx").status_code == 400
    assert client_for(annotator).get(f"{url}/{record['id']}/refused").status_code == 404
    assert "All refused lines as CSV" in client.get(f"/campaigns/{campaign.public_id}/imports/{record['id']}/").text

"""What tools get: each form of export, brought in again, says the same as the campaign it came from."""

from __future__ import annotations

import csv
import io
import json
import random
from typing import Any

import pytest

from accounts.models import User
from labeling.data import parquet
from labeling.data.containers import read_rows
from labeling.data.exporting import EXPORTS, export_lines
from labeling.data.importing import import_file, import_rows
from labeling.models import Campaign
from rewardmodel.stats.pairs import preferences_of
from tests.conftest import client_for

USER = {"role": "user", "content": "=1+1, \"quoted\"\r\nand 'more'\n"}
TEXTS = ["plain", "=cmd()", "+1", "-1", "@x", "\ttab", "\rreturn", "'=kept", "\n\nHuman: hi", "", "ü\n,;"]
TEXTS.append('[{"role": "x"}]')


def said(content: str, role: str = "assistant") -> dict[str, str]:
    return {"role": role, "content": content}


def judged(count: int, completions: int, seed: int = 1) -> list[dict[str, Any]]:
    """Rankings of every kind over prompts and answers of every kind; each item is ranked by one or two people."""
    draw = random.Random(seed)
    rows = []
    for n in range(count):
        order = draw.sample(range(completions), completions)
        cut = draw.randint(0, completions)
        tiers = [tier for tier in (order[:cut], order[cut:]) if tier] if n % 3 else [[index] for index in order]
        prompt = [said(f"{n}{USER['content']}", "user")]
        if n % 4 == 1:
            prompt = [said("Be brief.", "system"), said("Hi", "user"), said("Hello."), *prompt]
        texts = draw.sample(TEXTS, completions)
        answers = [{"messages": [said(text)], "source": f"m{k}", "meta": {}} for k, text in enumerate(texts)]
        row = {"messages": prompt, "completions": answers, "labeler": "anna"}
        rows.append(row | {"tiers": tiers})
        if n % 5 == 0:
            rows.append(row | {"tiers": [[completions - 1], [*range(completions - 1)]], "labeler": "ben"})
    return rows


def bring(campaign: Campaign, rows: list[dict[str, Any]], protocol: str) -> None:
    campaign.protocol = protocol
    campaign.save(update_fields=["protocol"])
    record = import_rows(campaign, rows, name="rows")
    assert (record.accepted, record.errors) == (len(rows), [])


def exported(campaign: Campaign, what: str, container: str = "jsonl") -> bytes:
    return b"".join(export_lines(campaign, what, container))


def answers_of(campaign: Campaign) -> set[str]:
    """What is known of a campaign, without order: prompts, completions with sources, and who ranked them how."""
    found = set()
    for ranking in campaign.rankings.accepted().select_related("item").prefetch_related("item__completions"):
        told = {c.index: json.dumps([c.messages, c.source]) for c in ranking.item.completions.all()}
        tiers = [sorted(told[index] for index in tier) for tier in ranking.tiers]
        found.add(json.dumps([ranking.item.messages, sorted(told.values()), tiers, ranking.labeler]))
    return found


@pytest.mark.parametrize(
    ("what", "container"),
    [("rankings", "jsonl"), *(("preferences", c) for c in EXPORTS["preferences"].containers), ("arena", "jsonl")],
)
def test_pairs_that_went_out_come_in_as_they_were(
    campaign: Campaign, foreign_campaign: Campaign, what: str, container: str
):
    if container == "parquet" and not parquet.is_installed():
        pytest.skip(parquet.MISSING)
    bring(campaign, judged(30, 2), "pair")
    content = exported(campaign, what, container)
    record = import_file(foreign_campaign, io.BytesIO(content), name="again")
    assert record.errors == []
    assert answers_of(foreign_campaign) == answers_of(campaign)


@pytest.mark.parametrize("container", EXPORTS["unpaired"].containers)
def test_unpaired_rows_come_in_as_rankings_without_ties_of_all(
    campaign: Campaign, foreign_campaign: Campaign, container: str
):
    if container == "parquet" and not parquet.is_installed():
        pytest.skip(parquet.MISSING)
    rows = [row for row in judged(40, 2) if len(row["tiers"]) == 2]
    bring(campaign, rows, "pair")
    record = import_file(foreign_campaign, io.BytesIO(exported(campaign, "unpaired", container)), name="again")
    assert record.errors == []
    assert answers_of(foreign_campaign) == answers_of(campaign)


def test_trees_have_the_consensus_as_ranks(campaign: Campaign, foreign_campaign: Campaign):
    texts = [{"messages": [said(text)], "source": text} for text in "abcd"]
    row = {"prompt": "Q", "completions": texts}
    ranked = [row | {"tiers": [[0], [1], [2]], "labeler": "x"}, row | {"tiers": [[1], [0], [2]], "labeler": "y"}]
    bring(campaign, ranked, "ranking")
    [tree] = [json.loads(line) for line in exported(campaign, "oasst").splitlines()]
    assert (tree["prompt"]["role"], tree["prompt"]["text"]) == ("prompter", "Q")
    assert [(reply["text"], reply["rank"]) for reply in tree["prompt"]["replies"]] == [
        ("a", 0),
        ("b", 0),
        ("c", 1),
        ("d", None),
    ]
    foreign_campaign.protocol = "ranking"
    import_rows(foreign_campaign, [tree], name="tree")
    [again] = foreign_campaign.rankings.all()
    assert again.tiers == [[0, 1], [2]]
    assert [c.source for c in again.item.completions.all()] == ["a", "b", "c", "d"]


def test_sft_has_the_winner_of_each_item_once(campaign: Campaign):
    row = {"prompt": "Q", "completions": ["a", "b", "c"]}
    votes = [[[2], [0, 1]], [[2, 0], [1]], [[0, 1, 2]]]
    bring(campaign, [row | {"tiers": tiers, "labeler": f"p{n}"} for n, tiers in enumerate(votes)], "ranking")
    bring(campaign, [{"prompt": "R", "completions": ["x", "y"], "tiers": [[0, 1]], "labeler": "p"}], "ranking")
    [example] = [json.loads(line) for line in exported(campaign, "sft").splitlines()]
    assert example["messages"] == [said("Q", "user"), said("c")]


def test_unpaired_leaves_out_the_middle(campaign: Campaign):
    row = {"prompt": "Q", "completions": ["a", "b", "c", "d"]}
    bring(campaign, [row | {"tiers": [[3], [0, 1], [2]]}], "ranking")
    rows = [json.loads(line) for line in exported(campaign, "unpaired").splitlines()]
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [("d", True), ("c", False)]


def test_battles_do_not_tell_the_winner_by_its_side(campaign: Campaign):
    bring(campaign, judged(60, 2), "pair")
    winners = [json.loads(line)["winner"] for line in exported(campaign, "arena").splitlines()]
    assert {"model_a", "model_b", "tie"} == set(winners)
    assert 0.3 < winners.count("model_a") / (winners.count("model_a") + winners.count("model_b")) < 0.7


def test_no_cell_of_a_csv_file_is_a_formula(campaign: Campaign):
    bring(campaign, judged(60, 2), "pair")
    for what in ("preferences", "unpaired", "sft"):
        table = list(csv.reader(io.StringIO(exported(campaign, what, "csv").decode(), newline="")))
        assert table[0] == list(EXPORTS[what].columns)
        assert len(table) > 20
        cells = [cell for row in table for cell in row]
        assert what == "sft" or any(cell.startswith("'=") for cell in cells)
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_the_header_is_there_without_any_rows(campaign: Campaign):
    assert exported(campaign, "sft", "csv") == b"messages,source,item\r\n"
    if parquet.is_installed():
        [(_, refused)] = read_rows(io.BytesIO(exported(campaign, "sft", "parquet")))
        assert str(refused) == "The file is empty."


def test_a_large_parquet_file_comes_in_pieces_and_is_whole(campaign: Campaign, monkeypatch: pytest.MonkeyPatch):
    if not parquet.is_installed():
        pytest.skip(parquet.MISSING)
    monkeypatch.setattr(parquet, "WRITTEN_ROWS", 10)
    bring(campaign, judged(60, 3), "ranking")
    pieces = list(export_lines(campaign, "preferences", "parquet"))
    count = sum(len(preferences_of(ranking.tiers)) for ranking in campaign.rankings.all())
    assert len(pieces) == -(-count // 10) + 1
    rows = [row for _, row in read_rows(io.BytesIO(b"".join(pieces)))]
    plain = [json.loads(line) for line in exported(campaign, "preferences").splitlines()]
    assert rows == plain


def test_forms_and_containers_over_http(campaign: Campaign, manager: User):
    client = client_for(manager)
    bring(campaign, judged(3, 2), "pair")
    url = f"/api/campaigns/{campaign.public_id}/export"
    answer = client.get(url, {"what": "preferences", "as": "csv"})
    assert answer["Content-Type"].startswith("text/csv")
    assert answer["Content-Disposition"].endswith('preferences.csv"')
    assert b"".join(answer).startswith(b"prompt,chosen")
    assert "as: Choose one of: jsonl." in client.get(url, {"what": "arena", "as": "csv"}).json()["detail"]
    assert client.get(url, {"what": "nothing"}).status_code == 400

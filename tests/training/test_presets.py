"""Each preset from the click on the page to the number that training minimises: page, database, export, rows, loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from math import exp, log
from typing import Any

import pytest
import torch
from django.urls import reverse

from accounts.models import User
from labeling.campaigns import create_campaign, update_campaign
from labeling.data.exporting import export_lines
from labeling.data.importing import import_rows
from labeling.models import Campaign, Ranking
from labeling.protocols.presets import PRESETS
from rewardmodel.config import FitConfig
from rewardmodel.data import Encoded, group_rows
from rewardmodel.likelihood import Likelihood
from tests.conftest import client_for, make_member, make_user
from training.engine.rundir import read_jsonl
from training.selection import best_completion_rows
from training.snapshots import freeze

pytestmark = pytest.mark.django_db
SCORES = [0.7, -0.4, 0.1, 1.3]
TEXTS = ["Text one", "Text two", "Text three", "Text four"]
Post = dict[str, Any]


def nll(gap: float) -> float:
    return log(1 + exp(-gap))


@dataclass(frozen=True)
class Case:
    """What is clicked; what is stored (in letters), exported and lost, given how far A scores above B."""

    preset: str
    post: Post
    tiers: list[str]
    details: dict[str, Any] = field(default_factory=dict)
    margin: float = 0.0
    winner: str = ""
    loss: Callable[[float], float] | None = None
    size: int = 2
    fit: FitConfig = FitConfig(loss="pairwise")


RATED = {f"q_{name}_{letter}": "3" for name in ("helpfulness", "correctness", "coherence") for letter in "AB"}
AXES = ("coverage", "accuracy", "coherence", "overall")
CASES = [
    Case("plain", {"choice": "B", "flags": ["violent"], "rationale": "B is kind"}, ["B", "A"], loss=lambda g: nll(-g)),
    Case("plain", {"choice": "tie"}, ["AB"], winner="tie", loss=lambda g: (nll(g) + nll(-g)) / 2, fit=FitConfig()),
    Case("plain", {"choice": "cannot_tell"}, []),
    Case("conversation", {"choice": "A"}, ["A", "B"], loss=nll),
    Case(
        "ranking",
        {"rank_C": "1", "rank_A": "2", "rank_B": "2", "partial": "yes"},
        ["C", "AB"],
        size=4,
    ),
    Case(
        "instructgpt",
        {f"rank_{letter}": rank for letter, rank in zip("ABCD", "1223", strict=True)}
        | {f"q_overall_{letter}": score for letter, score in zip("ABCD", "7441", strict=True)}
        | {"q_flags_D": ["hallucination", "violent"]},
        ["A", "BC", "D"],
        {"answers": {"overall": {"A": 7, "B": 4, "C": 4, "D": 1}, "flags": {"D": ["hallucination", "violent"]}}},
        size=4,
    ),
    Case(
        "hh",
        {"choice": "A:4"},
        ["A", "B"],
        {"strength": 4, "degrees": 4},
        margin=1.0,
        loss=lambda g: nll(g - 3),
        fit=FitConfig(loss="pairwise", margin=3),
    ),
    Case(
        "llama2",
        {"choice": "B:2", "q_safety": "better_is_safe"},
        ["B", "A"],
        {"strength": 2, "degrees": 4, "answers": {"safety": "better_is_safe"}},
        margin=1 / 3,
        loss=lambda g: nll(-g - 1),
        fit=FitConfig(margin=3),
    ),
    Case(
        "stiennon",
        {"choice": "A:1", **{f"q_{axis}_{letter}": "5" for axis in AXES for letter in "AB"}},
        ["A", "B"],
        {"strength": 1, "degrees": 4, "answers": {axis: {"A": 5, "B": 5} for axis in AXES}},
        loss=nll,
        fit=FitConfig(margin=3),
    ),
    Case(
        "helpsteer2",
        {"choice": "A", "q_confidence": "medium", "q_safety_A": "safe", "q_safety_B": "unsafe", **RATED}
        | {f"q_{name}_{letter}": "0" for name in ("complexity", "verbosity") for letter in "AB"},
        ["A", "B"],
        {
            "answers": {name: {"A": 3, "B": 3} for name in ("helpfulness", "correctness", "coherence")}
            | {name: {"A": 0, "B": 0} for name in ("complexity", "verbosity")}
            | {"confidence": "medium", "safety": {"A": "safe", "B": "unsafe"}}
        },
        loss=nll,
    ),
    Case("arena", {"choice": "both_bad"}, ["AB"], {"both_bad": True}, winner="tie (bothbad)"),
    Case("arena", {"choice": "tie"}, ["AB"], winner="tie"),
]


class Inputs(HTMLParser):
    """Names of the inputs of a page, each with the values that it offers."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.offered: dict[str, set[str]] = {}
        self.select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "select":
            self.select = values["name"] or ""
        if tag in ("input", "button", "textarea") and values.get("name"):
            self.offered.setdefault(values["name"] or "", set()).add(values.get("value") or "")

    def handle_data(self, data: str) -> None:
        if self.select and data.strip():
            self.offered.setdefault(self.select, set()).add(data.strip())


def start(researcher: User, preset: str, size: int = 2, **changes: Any) -> tuple[Campaign, Any]:
    campaign = create_campaign(researcher, name="Preset", preset=preset, guidelines="Be kind.")
    if changes:
        update_campaign(campaign, **changes)
    completions = [{"text": text, "source": text.split()[1]} for text in TEXTS[:size]]
    import_rows(campaign, [{"prompt": "Question?", "completions": completions}], name="items")
    Campaign.objects.filter(pk=campaign.pk).update(state="open")
    campaign.refresh_from_db()
    client = client_for(make_member(campaign, make_user("anna"), "annotator"))
    return campaign, client


def answer(campaign: Campaign, client: Any, post: Post, *, free: tuple[str, ...] = ()) -> Ranking:
    """Post what a person could click on the page that they got."""
    page = client.post(reverse("label_next", args=[campaign.public_id]), follow=True).text
    offered = Inputs(page).offered
    for name, value in post.items():
        assert name in offered, name
        if name not in free:
            assert set([value] if isinstance(value, str) else value) <= offered[name], (name, offered[name])
    action = page.partition('<form id="answer" method="post" action="')[2].partition('"')[0]
    response = client.post(action, {"form_version": offered["form_version"].pop()} | post, follow=True)
    assert response.status_code == 200, Inputs(response.text)
    return Ranking.objects.get()


def exported(campaign: Campaign, what: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(campaign, what)]


def by_index(details: dict[str, Any], shown: list[int]) -> dict[str, Any]:
    """Expected details, with lists in the order of the completions for what the case says by letters."""

    def listed(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return [value.get("ABCD"[shown.index(index)]) for index in range(len(shown))]

    answers = {name: listed(value) for name, value in details.get("answers", {}).items()}
    return details | ({"answers": answers} if answers else {})


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.preset}-{case.post.get('choice', 'ranks')}")
def test_a_preset_goes_from_the_click_to_the_loss(researcher: User, case: Case):
    campaign, client = start(researcher, case.preset, case.size)
    ranking = answer(campaign, client, case.post, free=("rationale",))
    shown = ranking.shown_order
    tiers = [sorted(shown["ABCD".index(letter)] for letter in tier) for tier in case.tiers]
    assert [sorted(tier) for tier in ranking.tiers] == tiers
    assert ranking.details == by_index(case.details, shown)
    assert ranking.flags == (case.post.get("flags") or case.post.get("q_flags_D") or [])
    assert ranking.rationale == case.post.get("rationale", "")
    versions = (ranking.protocol, ranking.form_version, ranking.guidelines_version)
    assert versions == (PRESETS[case.preset].protocol, 1, 1)

    (row,) = exported(campaign, "rankings")
    assert (row["details"], row["tiers"], row["cannot_tell"]) == (ranking.details, ranking.tiers, not tiers)
    assert (row["protocol"], row["form_version"], row["guidelines_version"]) == versions
    assert all(pair["margin"] == pytest.approx(case.margin) for pair in exported(campaign, "preferences"))
    if case.winner:
        assert [battle["winner"] for battle in exported(campaign, "arena")] == [case.winner]
    bad = [row["completion"][0]["content"] for row in exported(campaign, "unpaired") if not row["label"]]
    if case.details.get("both_bad"):
        assert sorted(bad) == sorted(TEXTS[:2])

    if case.loss:
        items = group_rows(read_jsonl(freeze(campaign, by=researcher).path), ties=True)
        encoded = [Encoded(item, tuple([1] for _ in item.completions)) for item in items]
        scores = torch.tensor([SCORES[: case.size]], dtype=torch.float64)
        gap = SCORES[shown[0]] - SCORES[shown[1]]
        assert Likelihood(case.fit).loss(scores, encoded).mean.item() == pytest.approx(case.loss(gap), abs=1e-9)


def test_rankings_of_instructgpt_reach_the_loss_pair_by_pair(researcher: User):
    """A over B and C, which are level, over D: five strict pairs and a tie, each a sixth."""
    case = next(case for case in CASES if case.preset == "instructgpt")
    campaign, client = start(researcher, case.preset, case.size)
    shown = answer(campaign, client, case.post).shown_order
    a, b, c, d = (SCORES[index] for index in shown)
    pairs = [nll(a - b), nll(a - c), nll(a - d), nll(b - d), nll(c - d), (nll(b - c) + nll(c - b)) / 2]
    items = group_rows(read_jsonl(freeze(campaign, by=researcher).path))
    encoded = [Encoded(items[0], ([1], [1], [1], [1]))]
    found = Likelihood(case.fit).loss(torch.tensor([SCORES], dtype=torch.float64), encoded).mean.item()
    assert found == pytest.approx(sum(pairs) / 6, abs=1e-9)


@pytest.mark.parametrize(("preset", "post"), [("hh", {"choice": "B:3"}), ("arena", {"choice": "both_bad"})])
def test_what_training_takes_of_details_is_imported_again(researcher: User, preset: str, post: Post):
    campaign, client = start(researcher, preset)
    ranking = answer(campaign, client, post)
    again = create_campaign(researcher, name="Again")
    report = import_rows(again, exported(campaign, "rankings"), name="rankings.jsonl")
    assert (report.rankings, report.rejected) == (1, 0)
    copy = again.rankings.get()
    assert (copy.details, copy.tiers) == (ranking.details, ranking.tiers)
    assert exported(again, "arena")[0]["winner"] == exported(campaign, "arena")[0]["winner"]
    wrong = {"strength": 5, "degrees": 4}
    row = {"prompt": "Other?", "completions": TEXTS[:2], "ranking": [0, 1], "labeler": "x"}
    report = import_rows(again, [row | {"details": wrong}, row | {"details": []}], name="wrong")
    assert [error["reason"][:22] for error in report.errors] == ["The details do not fit"] * 2


WRITING = {
    "questions": [
        {"kind": "edit", "label": "Make the better one better"},
        {"kind": "ideal", "label": "What should it have said?"},
    ]
}


def test_an_improved_answer_is_a_pair_and_an_example(researcher: User):
    campaign, client = start(researcher, "plain", form=WRITING)
    page_sends_all = {"choice": "A", "q_ideal": "", "q_edit_A": "Better", "q_edit_B": ""}
    ranking = answer(campaign, client, page_sends_all, free=("q_edit_A", "q_edit_B", "q_ideal"))
    best, other = ranking.shown_order
    assert ranking.details["answers"] == {"edit": ["Better" if index == best else None for index in (0, 1)]}
    pairs = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in exported(campaign, "preferences")]
    assert pairs == [(TEXTS[best], TEXTS[other]), ("Better", TEXTS[best])]
    assert [row["messages"][-1]["content"] for row in exported(campaign, "sft")] == ["Better"]
    again = create_campaign(researcher, name="Again")
    import_rows(again, exported(campaign, "rankings"), name="rankings.jsonl")
    assert again.rankings.get().details == ranking.details

    rows = list(read_jsonl(freeze(campaign, by=researcher).path))
    assert [row["messages"][-1]["content"] for row in best_completion_rows(rows)] == ["Better"]
    ranked, improved = group_rows(rows)
    assert [messages[0]["content"] for messages in improved.completions] == ["Better", TEXTS[best]]
    encoded = [Encoded(ranked, ([1], [1])), Encoded(improved, ([1], [1]))]
    scores = torch.tensor([SCORES[:2], [0.2, -0.5]], dtype=torch.float64)
    expected = (nll(SCORES[best] - SCORES[other]) + nll(0.7)) / 2
    assert Likelihood().loss(scores, encoded).mean.item() == pytest.approx(expected, abs=1e-9)


def test_texts_that_were_only_shown_are_no_edits_and_an_ideal_answer_is_an_example(researcher: User):
    campaign, client = start(researcher, "plain", form=WRITING)
    page_sends_all = {"choice": "tie", "q_ideal": "The\r\nideal", "q_edit_A": "", "q_edit_B": ""}
    page = client.post(reverse("label_next", args=[campaign.public_id]), follow=True).text
    for letter in "AB":
        area = page.partition(f'name="q_edit_{letter}"')[2].partition("</textarea>")[0]
        page_sends_all[f"q_edit_{letter}"] = area.partition("\n")[2]
    assert sorted(page_sends_all[f"q_edit_{letter}"] for letter in "AB") == sorted(TEXTS[:2])
    ranking = answer(campaign, client, page_sends_all, free=("q_edit_A", "q_edit_B", "q_ideal"))
    assert ranking.details == {"answers": {"ideal": "The\nideal"}}
    rows = list(read_jsonl(freeze(campaign, by=researcher).path))
    for messages in (*best_completion_rows(rows), *exported(campaign, "sft")):
        assert messages["messages"][-1] == {"role": "assistant", "content": "The\nideal"}


def test_an_answer_keeps_the_version_of_the_questions_that_it_was_given_to(researcher: User):
    campaign, client = start(researcher, "hh")
    client.post(reverse("label_next", args=[campaign.public_id]))
    update_campaign(campaign, preset="arena")
    lease = campaign.slots.get().lease
    submit = reverse("label_submit", args=[campaign.public_id, lease])
    assert client.post(submit, {"choice": "both_bad", "form_version": "1"}).status_code == 422
    assert client.post(submit, {"choice": "A:2", "form_version": "2"}).status_code == 422
    assert client.post(submit, {"choice": "A:2", "form_version": "3"}).status_code == 422
    client.post(submit, {"choice": "A:2", "form_version": "1"})
    ranking = Ranking.objects.get()
    assert (ranking.form_version, ranking.details) == (1, {"strength": 2, "degrees": 4})
    assert campaign.past_forms.get().form["strength"] == list(PRESETS["hh"].form.strength)

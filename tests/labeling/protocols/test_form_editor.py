"""The editor of a campaign's questions, as plain forms and with htmx."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.urls import reverse

from accounts.models import User
from labeling.campaigns import create_campaign
from labeling.data.importing import import_rows
from labeling.data.previewing import preview_file
from labeling.models import Campaign
from labeling.protocols.editing import changed, document_of, option_lines, presets_for, rows, slug
from labeling.protocols.presets import PRESETS
from labeling.protocols.questionnaire import parse_form
from tests.conftest import client_for

Document = dict[str, Any]


def posted(document: Document) -> dict[str, Any]:
    """The fields of the editor that shows `document`."""
    fields: dict[str, Any] = {name: "on" for name in ("ties", "both_bad", "unranked", "cannot_tell") if document[name]}
    fields |= {"strength": "\r\n".join(document["strength"]), "skip_reasons": option_lines(document["skip_reasons"])}
    fields |= {end: document[end] or "" for end in ("fewest", "most")}
    fields["question"] = [str(key) for key in range(len(document["questions"]))]
    for key, row in enumerate(rows(document)):
        fields |= {
            f"{key}-{name}": row.get(name, "") for name in ("kind", "name", "label", "help", "of", "options", "words")
        }
        fields |= {f"{key}-required": "on"} if row.get("required") else {}
        fields |= {f"{key}-{end}": row[end] for end in ("low", "high") if end in row}
    return fields


def of_post(fields: dict[str, Any]) -> Document:
    data = QueryDict(mutable=True)
    for name, value in fields.items():
        data.setlist(name, value if isinstance(value, list) else [str(value)])
    return document_of(data)


@pytest.fixture
def client(manager: User) -> Client:
    return client_for(manager)


def page(campaign: Campaign) -> str:
    return reverse("campaign_form", args=[campaign.public_id])


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_what_the_editor_shows_it_posts_again(preset: Any):
    assert parse_form(of_post(posted(preset.form.document()))) == preset.form


def test_names_come_from_labels_where_none_are_given():
    assert slug("How sure are you?") == "how_sure_are_you"
    assert slug("1. Über-alles") == "q_1_ber_alles"
    document = of_post(
        {"question": ["7"], "7-kind": "choice", "7-label": "Tone", "7-options": "Kind\n\nrude: Not kind: rude"}
    )
    (question,) = document["questions"]
    assert question["name"] == "tone"
    assert question["options"] == [{"name": "kind", "label": "Kind"}, {"name": "rude", "label": "Not kind: rude"}]


def test_buttons_add_move_and_remove_questions():
    document: Document = {"questions": []}
    for action in ("add:rating", "add:rating", "add:ideal", "up:2", "down:0", "remove:2", "remove:9", "add:colour"):
        document = changed(document, action)
    assert [(one["kind"], one["name"]) for one in document["questions"]] == [
        ("ideal", "ideal"),
        ("rating", "overall_quality"),
    ]
    assert changed(document, "preset:hh") == PRESETS["hh"].form.document()


def test_only_presets_that_fit_are_offered():
    assert {preset.name for preset in presets_for("ranking")} >= {"ranking", "instructgpt", "helpsteer2"}
    assert not {"hh", "arena", "plain"} & {preset.name for preset in presets_for("ranking")}
    for protocol in ("pair", "ranking", "conversation"):
        for preset in presets_for(protocol):
            assert parse_form(preset.form.document(), protocol)


def test_a_saved_form_is_a_new_version_and_the_old_one_is_kept(campaign: Campaign, client: Client):
    fields = posted(PRESETS["hh"].form.document())
    assert client.post(page(campaign), fields | {"action": "save"}).status_code == 302
    campaign.refresh_from_db()
    assert (campaign.form_version, parse_form(campaign.form)) == (2, PRESETS["hh"].form)
    assert [(past.version, past.form) for past in campaign.past_forms.all()] == [(1, {})]
    client.post(page(campaign), fields | {"action": "save"})
    campaign.refresh_from_db()
    assert campaign.form_version == 2  # nothing changed
    shown = client.get(page(campaign)).text
    assert "Far better" in shown and "become version 3" in shown


def test_what_is_wrong_is_said_and_nothing_is_lost(campaign: Campaign, client: Client):
    document = changed(PRESETS["arena"].form.document(), "add:choice")
    fields = posted(document) | {"0-options": "Only one", "action": "save"}
    response = client.post(page(campaign), fields)
    assert response.status_code == 422
    assert "Question 1, options" in response.text or "give 2 to 30 options" in response.text
    assert "only_one: Only one" in response.text
    campaign.refresh_from_db()
    assert campaign.form_version == 1
    low = client.post(page(campaign), posted(changed(document, "add:rating")) | {"1-low": "x", "action": "save"})
    assert low.status_code == 422 and "low is a whole number" in low.text


def test_with_htmx_only_the_part_that_changes_is_sent(campaign: Campaign, client: Client):
    fields = posted(PRESETS["plain"].form.document())
    header = {"HX-Request": "true", "HX-Target": "preview"}
    preview = client.post(page(campaign), fields | {"strength": "A bit\nMuch"}, headers=header).text
    assert preview.lstrip().startswith('<div id="preview"') and "A:</b> Much" in preview
    wrong = client.post(page(campaign), fields | {"strength": "A bit"}, headers=header).text
    assert "2 to 4 degrees" in wrong
    header["HX-Target"] = "form-editor"
    editor = client.post(page(campaign), fields | {"action": "add:rating"}, headers=header).text
    assert editor.lstrip().startswith('<form id="form-editor"') and "3. Rating" in editor and "autofocus" in editor
    saved = client.post(page(campaign), fields | {"action": "save"}, headers=header)
    assert (saved.status_code, saved["HX-Redirect"]) == (204, page(campaign))


def test_strength_in_a_campaign_that_ranks_is_refused(campaign: Campaign, client: Client):
    Campaign.objects.filter(pk=campaign.pk).update(protocol="ranking")
    response = client.post(page(campaign), posted(PRESETS["hh"].form.document()) | {"action": "save"})
    assert response.status_code == 422 and "compare pairs" in response.text


def test_an_item_has_as_many_answers_as_the_campaign_wants(researcher: User):
    campaign = create_campaign(researcher, name="K", preset="instructgpt")
    rows = [{"prompt": f"{size}?", "completions": [f"{size}.{n}" for n in range(size)]} for size in (2, 3, 4, 9)]
    report = import_rows(campaign, rows, name="sizes")
    reason = "An item of this campaign has 4 to 9 completions, this line has "
    assert [error["reason"] for error in report.errors] == [f"{reason}2.", f"{reason}3."]
    preview = preview_file(io.BytesIO(json.dumps(rows[1]).encode()), campaign)
    assert [refused.reason for refused in preview.refused] == [f"{reason}3."]
    client = client_for(researcher)
    editor = client.get(page(campaign)).text
    assert 'name="fewest" type="number" min="2" max="9" value="4"' in editor
    fields = posted(campaign.form) | {"action": "save"}
    refused = client.post(page(campaign), fields | {"fewest": "10"})
    assert refused.status_code == 422 and "between 2 and 9 answers" in refused.text
    assert client.post(page(campaign), fields | {"fewest": "3", "most": "3"}).status_code == 302
    campaign.refresh_from_db()
    assert (campaign.form["fewest"], campaign.form["most"]) == (3, 3)
    assert import_rows(campaign, rows, name="again").accepted == 1  # what was there stays, and is known
    assert client.post(page(campaign), fields | {"fewest": "", "most": ""}).status_code == 302
    campaign.refresh_from_db()
    assert import_rows(campaign, rows, name="all").accepted == 1
    assert campaign.items.count() == 4
    body = {"name": "Pairs", "protocol": "pair", "form": {"fewest": 3}}
    answer = client.post("/api/campaigns/", body, content_type="application/json")
    assert (answer.status_code, "between 2 and 2 answers" in answer.json()["detail"]) == (400, True)

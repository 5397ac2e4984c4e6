"""German beside English: complete, compiled, and nothing on the annotator's pages that cannot be translated."""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path

import pytest
from django.utils import translation

from accounts.models import User
from accounts.preferences import set_preferences
from labeling.models import Campaign
from tests.conftest import client_for
from tests.labeling.conftest import add_items

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = ROOT / "locale/de/LC_MESSAGES"
PAGES = [ROOT / "templates/base.html", ROOT / "templates/labeling/campaign_list.html"]
PAGES += [
    ROOT / f"templates/labeling/{name}.html"
    for name in (
        *("label", "label_history", "_answer_bar", "_answer_cards", "_answer_keys", "_context", "_guidelines_drawer"),
        *("chat", "_chat_newest", "_chat_turn", "_chat_vote"),
        *("_keys", "_mark", "_nothing", "_problem", "_question", "_turn", "_view", "practice_told", "practice_over"),
    )
]
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}|#")
MARKUP = re.compile(
    r"\{#.*?#\}|\{% blocktranslate .*?endblocktranslate %\}|\{% block (?:body|main)_\w+ %\}.*?endblock %\}"
    r"|\{[%{].*?[%}]\}|&\w+;",
    re.DOTALL,
)
TAG = re.compile(r"<(?:[^<>\"]|\"[^\"]*\")*>")
SAID = re.compile(r"\b(?:aria-label|title|placeholder|alt)=\"([^\"]*)\"")
NAMES = {"Prefloop", "Prefloop · Prefloop", "Enter", "Esc", "Alt"}  # the same in every language


def entries(path: Path) -> list[tuple[list[str], list[str]]]:
    """Originals and translations of a .po file, one and its plural together."""
    found = []
    for block in path.read_text(encoding="utf-8").split("\n\n")[1:]:
        lines = re.findall(r'^(msgid\w*|msgstr)[^"]*((?:"(?:[^"\\]|\\.)*"\n?)+)', block, re.MULTILINE)
        texts = [
            (kind, "".join(map(ast.literal_eval, text.split("\n")[: text.count("\n") or 1]))) for kind, text in lines
        ]
        found.append(
            ([text for kind, text in texts if kind != "msgstr"], [text for kind, text in texts if kind == "msgstr"])
        )
    return found


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_every_text_has_its_translation_with_the_same_placeholders(domain: str) -> None:
    for originals, translations in entries(MESSAGES / f"{domain}.po"):
        assert all(translations), originals
        for original, translated in zip(originals, translations, strict=True):
            assert sorted(PLACEHOLDER.findall(translated)) == sorted(PLACEHOLDER.findall(original)), original


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_what_is_compiled_is_what_is_written(domain: str) -> None:
    """`manage.py compilemessages` after every change; a checkout needs no gettext tools."""
    with (MESSAGES / f"{domain}.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for originals, translations in entries(MESSAGES / f"{domain}.po"):
        one, *more = originals
        forms = [compiled.ngettext(one, more[0], n) for n in (1, 2)] if more else [compiled.gettext(one)]
        assert forms == translations


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_text_of_an_annotators_page_stays_english(path: Path) -> None:
    plain = MARKUP.sub("", path.read_text(encoding="utf-8"))
    texts = [text.strip(" ·") for text in (*TAG.sub("\n", plain).split("\n"), *SAID.findall(plain))]
    assert [text for text in texts if re.search(r"[A-Za-z]{2}", text) and text not in NAMES] == []


def test_every_marked_text_is_in_the_catalogue() -> None:
    known = {original for originals, _ in entries(MESSAGES / "django.po") for original in originals}
    marked = {
        text for path in PAGES for _, text in re.findall(r"\{% translate (['\"])(.+?)\1 %\}", path.read_text("utf-8"))
    }
    assert marked - known == set()
    script = {original for originals, _ in entries(MESSAGES / "djangojs.po") for original in originals}
    used = {
        text
        for path in (ROOT / "static/js").rglob("*.js")
        for text in re.findall(r'\bgettext\("([^"]+)"', path.read_text("utf-8"))
    }
    assert used - script == set()


def test_an_annotator_works_in_german(campaign: Campaign, annotator: User) -> None:
    add_items(campaign, 2)
    set_preferences(annotator, {"language": "de"})
    client = client_for(annotator)
    page = client.post(f"/campaigns/{campaign.public_id}/label/next", follow=True)
    assert '<html lang="de" dir="ltr">' in page.text
    assert "Welche Antwort ist besser?" in page.text and "0 von 2 Antworten · 0 von Ihnen" in page.text
    lease = page.context["screen"].task.lease
    refused = client.post(f"/campaigns/{campaign.public_id}/label/{lease}/skip", headers={"HX-Request": "true"})
    assert "Wählen Sie einen Grund" in refused.text
    assert "Kopiert" in client.get("/texts.js").text
    assert translation.get_language() == "en"

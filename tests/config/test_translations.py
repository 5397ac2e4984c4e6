"""German beside English: complete, compiled, and nothing on a page that cannot be translated."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.forms import Form, ModelForm
from django.utils import translation
from django.utils.translation.template import templatize

from accounts import forms as accounts_forms
from accounts.language import figures, translated
from accounts.models import User
from accounts.preferences import set_preferences
from labeling.models import Campaign
from labeling.pages import forms as pages_forms
from tests.conftest import client_for
from tests.labeling.conftest import add_items
from training import forms as training_forms
from training.views_chat import LiveChatForm

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = ROOT / "locale/de/LC_MESSAGES"
PAGES = sorted((ROOT / "templates").rglob("*.html"))
MODULES = sorted(path for app in ("accounts", "config", "labeling", "training") for path in (ROOT / app).rglob("*.py"))
MARKERS = {"gettext", "gettext_lazy", "gettext_noop", "ngettext", "_"}
PLACEHOLDER = re.compile(r"%\(\w+\)s|%%|\{\w*(?:![rs])?\}|<[^<>]+>|#")
SAID = r"(?<![\w-])(?:aria-label|title|placeholder|alt|data-confirm)"
UNREAD = re.compile(  # what nobody reads, or reads in their own language
    r"\{#.*?#\}|\{% blocktranslate\b.*?endblocktranslate %\}|<(pre|style|script)\b.*?</\1>|<code>.*?</code>"
    r"|\{% block (?:body|main)_\w+ %\}.*?endblock %\}|\{[%{].*?[%}]\}|&\w+;",
    re.DOTALL,
)
TAG = re.compile(r"<(?:[^<>\"]|\"[^\"]*\")*>")
ATTRIBUTE = re.compile(SAID + r"=\"([^\"]*)\"")
SAID_BY_A_FILTER = re.compile(r"\|(?:default|default_if_none|pluralize|yesno):([\"'][^\"']*[A-Za-z]{2}[^\"']*[\"'])")
# The same in every language: names, units, keys, and what is typed like this.
CODES = {"after", "rtl,ltr", "yes,", "true,false"}  # for browsers
NAMES = {"Prefloop", "Prefloop · Prefloop", "Enter", "Esc", "Alt", "SHA-256"}


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
        for original, german in zip(originals, translations, strict=True):
            assert sorted(PLACEHOLDER.findall(german)) == sorted(PLACEHOLDER.findall(original)), original


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_what_is_compiled_is_what_is_written(domain: str) -> None:
    """`manage.py compilemessages` after every change; a checkout needs no gettext tools."""
    with (MESSAGES / f"{domain}.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for originals, translations in entries(MESSAGES / f"{domain}.po"):
        one, *more = originals
        forms = [compiled.ngettext(one, more[0], n) for n in (1, 2)] if more else [compiled.gettext(one)]
        assert forms == translations


def unmarked(page: str) -> list[str]:
    """Texts of a template, in elements, attributes and filters, that stay as they are in every language."""
    plain = UNREAD.sub("", page)
    texts = [text.strip(" ·") for text in (*TAG.sub("\n", plain).split("\n"), *ATTRIBUTE.findall(plain))]
    found = [text for text in texts if re.search(r"[A-Za-z]{2}", text) and text not in NAMES]
    return found + [text for text in SAID_BY_A_FILTER.findall(page) if text.strip("\"'") not in CODES]


def marked(source: str) -> Iterator[tuple[str, ...]]:
    """What Python code marks for translation: a text, or one and its plural."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in MARKERS:
            values = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
            if texts := [value for value in values if isinstance(value, str)]:
                yield tuple(texts)


def marked_on(page: str) -> Iterator[tuple[str, ...]]:
    """What a template marks. `templatize` makes calls of it, among letters that mean nothing."""
    code = templatize(page)
    for call in re.finditer(r"\b(?:n?gettext|_)\(", code):
        for end in re.finditer(r"\)", code[call.start() :]):
            with suppress(SyntaxError):  # a bracket of the text itself
                yield from marked(code[call.start() : call.start() + end.end()])
                break


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_no_text_of_a_page_stays_english(path: Path) -> None:
    assert unmarked(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("<p>Hello {{ name }}</p>", ["Hello"]),
        ('<p>{% translate "Hello" %}, you</p>', [", you"]),
        ('<a title="Go on" data-confirm="{% translate \'Sure?\' %}" href="/go">→</a>', ["Go on"]),
        ('{{ name|default:"nobody" }}{{ name|default:_("nobody") }}', ['"nobody"']),
        ("{% blocktranslate %}Hello{% endblocktranslate %}{# a comment #}<code>json</code>", []),
    ],
)
def test_an_unmarked_text_is_found(page: str, found: list[str]) -> None:
    assert unmarked(page) == found


def test_every_marked_text_is_in_the_catalogue() -> None:
    known = {tuple(originals) for originals, _ in entries(MESSAGES / "django.po")}
    known |= {(originals[0],) for originals in known}
    said = {texts: path.name for path in PAGES for texts in marked_on(path.read_text("utf-8"))}
    said |= {texts: path.name for path in MODULES for texts in marked(path.read_text("utf-8"))}
    assert len(said) > 1000 and {texts: name for texts, name in said.items() if texts not in known} == {}
    script = {original for originals, _ in entries(MESSAGES / "djangojs.po") for original in originals}
    used = {
        text
        for path in (ROOT / "static/js").rglob("*.js")
        for text in re.findall(r'\bgettext\("([^"]+)"', path.read_text("utf-8"))
    }
    assert used - script == set()


FORMS = [
    *(pages_forms.CampaignForm, pages_forms.NewCampaignForm, pages_forms.ImportForm, pages_forms.DatasetForm),
    *(pages_forms.MemberForm, pages_forms.RulesForm, accounts_forms.InviteForm, accounts_forms.CampaignInviteForm),
    *(accounts_forms.AcceptForm, accounts_forms.TokenForm, training_forms.ModelForm),
    *(training_forms.CampaignFromRunForm, LiveChatForm),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_form_asks_in_german(form: type[Form] | type[ModelForm[Any]]) -> None:
    """Django makes labels of names, in English, where a form gives none."""
    known = {original.lower() for originals, _ in entries(MESSAGES / "django.po") for original in originals}
    for name, field in form.base_fields.items():
        assert field.label and str(field.label).lower() in known, name
        assert not field.help_text or str(field.help_text).lower() in known or name == "password", name


def test_what_is_written_down_in_english_is_said_in_german() -> None:
    said = "8 of 20 gold items answered right; 70 % are asked for"
    assert translated(said) == said
    with translation.override("de"):
        assert translated(said) == "8 von 20 Goldaufgaben richtig beantwortet; 70 % sind verlangt"
        words = translated("7 of the latest 9 reasons read “{} is 2”; nobody has answered lately")
        assert words == "7 der letzten 9 Begründungen lauten “{} is 2”; in letzter Zeit hat niemand geantwortet"
        assert translated("by a manager's own words, 3 {}") == "by a manager's own words, 3 {}"
        assert (figures("1,234.5"), translated("")) == ("1.234,5", "")


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


def test_a_manager_works_in_german(campaign: Campaign, manager: User) -> None:
    add_items(campaign, 2)
    set_preferences(manager, {"language": "de"})
    client, root = client_for(manager), f"/campaigns/{campaign.public_id}"
    for path, said in {
        "/": "Noch keine Antworten",
        "/report": "Nichts wurde von zwei Personen beurteilt.",
        "/health": "Unbekannt: in letzter Zeit hat niemand geantwortet.",
        "/quality/rules": "Stundenlohn",
        "/questions": "Packen Sie sie ein",
        "/log": "Wer was getan hat",
    }.items():
        assert said in client.get(root + path).text, path
    assert "Dieses Feld ist zwingend erforderlich." in client.post(f"{root}/settings", {"name": ""}).text
    assert "Die Kampagne ist angehalten." in client.post(f"{root}/state", {"state": "paused"}, follow=True).text

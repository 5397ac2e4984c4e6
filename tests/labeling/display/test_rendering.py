"""Untrusted markdown: what is kept, what is taken away, what is said about it."""

from __future__ import annotations

import logging
from html.parser import HTMLParser

import pytest
from django.utils import translation
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.display import rendering
from labeling.display.rendering import MAX_SHOWN, render_markdown, sanitize, summary, visible
from tests.security.payloads import hostile_texts

ATTRIBUTES = {"class", "href", "rel", "start", "tabindex", "target"} | rendering.MATH_ATTRIBUTES


class Elements(HTMLParser):
    """Every tag and attribute of a fragment."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(html: str) -> None:
    for tag, attributes in Elements(html).seen:
        assert tag in rendering.TAGS, tag
        assert set(attributes) <= ATTRIBUTES, (tag, attributes)
        if tag == "a":
            assert attributes["rel"] == "noopener nofollow ugc"
            assert attributes["target"] == "_blank"
            assert (attributes.get("href") or "https://").startswith(("http://", "https://", "mailto:"))
        assert attributes.get("tabindex") in (None, "0")
    assert sanitize(html) == html


@pytest.mark.parametrize("text", hostile_texts())
def test_nothing_active_survives(text: str) -> None:
    assert_harmless(render_markdown(text))


MARKUP = r"""$ $$ \( \) \[ \] ` ``` > - 1. | |--| ** _ ~~ [ ]( ) ![ < &lt; \ http://a.b/ www.a.b javascript:
<script> </math> \frac{ } \text{ # \begin{matrix} \href{x} " ' = ---"""
CONTROLS = ["\n", "\n\n", "    ", "```py\n", "\x1b[0m", "\u202e", "\x00", "\ud800"]
PIECES = st.sampled_from(MARKUP.split() + CONTROLS)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join))
def test_any_text_renders_to_harmless_html_that_sanitizing_leaves_alone(text: str) -> None:
    assert_harmless(render_markdown(text))


def test_markdown_keeps_its_structure() -> None:
    html = render_markdown(
        "# Title\n\n**bold** _em_ ~~no~~ `x < y`\n\n1. one\n2. two\n\n> said\n\n| a | b |\n|--:|---|\n| 1 | 2 |"
    )
    for piece in (
        '<h3 class="level-1">Title</h3>',
        "<strong>bold</strong> <em>em</em> <s>no</s> <code>x &lt; y</code>",
        "<ol>\n<li>one</li>",
        "<blockquote>",
        '<th class="right">a</th>',
        '<div class="scroll" tabindex="0"><table>',
    ):
        assert piece in html


def test_a_single_line_break_is_kept() -> None:
    assert render_markdown("roses\nviolets") == "<p>roses<br>\nviolets</p>\n"


def test_code_is_coloured_by_classes_and_an_unknown_language_is_left_plain() -> None:
    assert '<span class="kn">import</span>' in render_markdown("```py\nimport os\n```")
    assert render_markdown("```nonsense\nimport os\n```") == '<pre class="code"><code>import os\n</code></pre>\n'


@pytest.mark.parametrize("text", ["$x^2$", r"\(x^2\)", "$$x^2$$", "a $$x^2$$ b", r"\[x^2\]"])
def test_math_becomes_mathml(text: str) -> None:
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in render_markdown(text)


@pytest.mark.parametrize("source", [r"\frac{", r"\left(x", "x" * 3000, r"\text{<b>x</b>}", "{" * 900])
def test_a_formula_that_cannot_be_read_is_shown_as_its_source(source: str) -> None:
    html = render_markdown(f"${source}$")
    assert "<math" not in html
    assert source in Elements(html).text


def test_prices_are_no_formulas() -> None:
    assert render_markdown("from $5 to $6, or $7") == "<p>from $5 to $6, or $7</p>\n"


def test_an_image_is_a_link_that_loads_nothing() -> None:
    html = render_markdown("![a cat](http://example.org/cat.png)")
    assert ">[image: a cat]</a>" in html
    assert "<img" not in html


def test_a_link_into_this_site_goes_nowhere() -> None:
    assert "href" not in render_markdown("[out](/accounts/logout/) [out](//example.org) [out](logout)")


def test_characters_that_lie_are_shown() -> None:
    html = render_markdown("\x1b[31mred \u202egnp.exe \x00 \U000e0041 \x9b \ud800")
    assert "⟨U+001B⟩[31mred ⟨U+202E⟩gnp.exe ⟨U+0000⟩ ⟨U+E0041⟩ ⟨U+009B⟩ �" in html
    assert visible("a\tb\r\nc עברית\u200f 👩‍👩‍👧") == "a\tb\nc עברית\u200f 👩‍👩‍👧"


def test_a_cut_is_visible_and_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(rendering, "MAX_SHOWN", 30_000)
    with caplog.at_level(logging.WARNING):
        html = render_markdown("word " * 7_000)
    assert "5,000 more characters are not shown" in html
    assert Elements(html).text.count("word") == 6_000
    assert "Cut a text of 35000 characters" in caplog.text


def test_a_very_long_text_is_whole_but_plain() -> None:
    html = render_markdown("**word** " * 15_000)
    assert "Shown as plain text" in html
    assert html.count("**word**") == 15_000


CATASTROPHES = [
    "[" * 90_000,
    "![" * 45_000,
    "[a" * 30_000 + "]" * 30_000,
    "|a" * 100 + "|\n" + "|-" * 100 + "|\n" + "|x\n" * 30_000,
    "> " * 45_000,
    "`" * 90_000,
    "*a " * 30_000,
    "$" * 90_000,
    "http://" * 12_000,
    ("$" + "{" * 900 + "}" * 900 + "$ ") * 50,
    "```r\n" + "\"'\\" * 30_000,
    ("```css\n" + "\"'\\" * 2_000 + "\n```\n") * 15,
]


@pytest.mark.timeout(60)  # with the bounds each takes about a second, without them minutes
@pytest.mark.parametrize("text", CATASTROPHES, ids=range(len(CATASTROPHES)))
def test_a_catastrophic_text_costs_bounded_work(text: str) -> None:
    assert_harmless(render_markdown(text))


def test_a_summary_is_one_short_line() -> None:
    assert summary("a\n\n b\tc") == "a b c"
    assert summary("x" * 500, 10) == "x" * 9 + "…"
    assert summary("\u202ea") == "⟨U+202E⟩a"


def test_notes_are_in_the_readers_language_each_time() -> None:
    picture = "![](http://example.org/a.png)"
    assert "[image: without description]" in render_markdown(picture)
    with translation.override("de"):
        assert "[Bild: ohne Beschreibung]" in render_markdown(picture)
        assert "5.000 weitere Zeichen" in render_markdown("x" * (MAX_SHOWN + 5_000))
    assert "[image: without description]" in render_markdown(picture)

"""Untrusted markdown to safe HTML, on the server.

What a model or an imported file wrote is hostile until it went through here: markdown with raw HTML off, then an
allow-list sanitizer over the result, so that a mistake in any earlier stage (the LaTeX converter copies `<script>`
through, for one) still ends at the same gate. Nothing that comes out can run, load, submit or name an element of the
page. Images are links, because a picture from elsewhere tells its server who looked at it and when.

Time is bounded by counting work, not by a clock: the same text gives the same HTML on every machine. A text that would
need too much is shown whole, as plain text, and says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any
from xml.etree import ElementTree

import nh3
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from latex2mathml.converter import convert as latex_to_mathml
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES

from accounts.language import figures

logger = logging.getLogger(__name__)

MAX_SHOWN = 400_000  # characters of one text that reach the page at all
MAX_FORMATTED = 100_000  # above this: plain text
MAX_STEPS = 60_000  # rounds of the parser; ordinary prose of MAX_FORMATTED characters needs about a third of that
MAX_TOKENS = 30_000
MAX_CODE = 20_000  # characters of code that are coloured; the lexers are the slowest part by far
MAX_FORMULA = 2_000
MAX_FORMULAS = 300
CACHED_UP_TO = 20_000  # longer texts are rare, and would make the cache's memory hard to foresee

LANGUAGES = {
    "bash", "c", "cpp", "csharp", "css", "diff", "go", "html", "ini", "java", "javascript", "json", "kotlin", "latex",
    "lua", "perl", "php", "python", "r", "ruby", "rust", "scala", "sql", "swift", "toml", "typescript", "xml", "yaml",
}  # fmt: skip
ALIASES = {
    "c++": "cpp", "c#": "csharp", "js": "javascript", "jsx": "javascript", "py": "python", "python3": "python",
    "rb": "ruby", "rs": "rust", "sh": "bash", "shell": "bash", "ts": "typescript", "tsx": "typescript", "yml": "yaml",
}  # fmt: skip

MATH_TAGS = {
    "math", "menclose", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mpadded", "mphantom", "mprescripts",
    "mroot", "mrow", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder",
    "munderover", "none",
}  # fmt: skip
MATH_ATTRIBUTES = {
    "accent", "columnalign", "columnlines", "columnspacing", "depth", "display", "displaystyle", "fence", "height",
    "linethickness", "lspace", "mathvariant", "maxsize", "minsize", "movablelimits", "notation", "rowlines",
    "rowspacing", "rspace", "scriptlevel", "separator", "stretchy", "symmetric", "width",
}  # fmt: skip
TAGS = {
    "a", "blockquote", "br", "code", "del", "div", "em", "h3", "hr", "li", "ol", "p", "pre", "s", "span", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
} | MATH_TAGS  # fmt: skip

_CLEANER = nh3.Cleaner(
    tags=TAGS,
    clean_content_tags={"script", "style"},
    attributes={"a": {"href"}, "ol": {"start"}, **dict.fromkeys(MATH_TAGS, MATH_ATTRIBUTES)},
    allowed_classes={
        "span": {name for name in STANDARD_TYPES.values() if name} | {"math"},
        "div": {"scroll"},
        "h3": {f"level-{level}" for level in range(1, 7)},
        "p": {"render-note"},
        "pre": {"code", "plain"},
        "td": {"right", "center"},
        "th": {"right", "center"},
    },
    set_tag_attribute_values={"a": {"target": "_blank"}},
    tag_attribute_values={"div": {"tabindex": {"0"}}},
    link_rel="noopener nofollow ugc",
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",  # the text may not link into this application either
)


class TooComplex(Exception):
    """Formatting this text would take more work than a page may cost."""


# -- Characters that lie ------------------------------------------------------------------------------------------
# Control characters (a terminal's colours begin with U+001B), characters that turn the reading order around and the
# invisible copy of ASCII become their code point in brackets; their own pictures are missing from too many fonts.
# U+200E and U+200F stay: they cannot reorder letters, and honest right-to-left text has them.

_CONTROLS = [code for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\t\n"]
_INVISIBLE = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)]
_VISIBLE = str.maketrans(
    {code: f"\u27e8U+{code:04X}\u27e9" for code in [*_CONTROLS, *_INVISIBLE]}
    | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
)


def visible(text: str) -> str:
    """The text with every character shown that a reader or a terminal would not see, or would be misled by."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


# -- The parser ---------------------------------------------------------------------------------------------------


def _count_step(state: StateInline | StateBlock, *_: Any) -> bool:
    steps = state.env["steps"] = state.env.get("steps", 0) + 1
    if steps > MAX_STEPS:
        raise TooComplex
    return False


def _count_tokens(state: StateCore) -> None:
    if len(state.tokens) > MAX_TOKENS:
        raise TooComplex


def _bracket_math(state: StateInline, silent: bool) -> bool:
    r"""`\( ... \)` and `\[ ... \]`, which language models write more often than dollars."""
    opening = state.src[state.pos : state.pos + 2]
    closing = {r"\(": r"\)", r"\[": r"\]"}.get(opening)
    if closing is None:
        return False
    end = state.src.find(closing, state.pos + 2, min(state.posMax, state.pos + 2 + MAX_FORMULA))
    if end <= state.pos + 2:
        return False
    if not silent:
        token = state.push("math_inline" if opening == r"\(" else "math_inline_double", "math", 0)
        token.content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


class _Renderer(RendererHTML):
    """HTML of the few tokens that are not what CommonMark says."""

    def heading_open(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        # One heading level for all: the outline belongs to the page, the size to the text.
        return f'<h3 class="level-{tokens[index].tag[1]}">'

    def heading_close(self, *_: Any) -> str:
        return "</h3>\n"

    def table_open(self, *_: Any) -> str:
        return '<div class="scroll" tabindex="0"><table>'

    def table_close(self, *_: Any) -> str:
        return "</table></div>"

    def _cell(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        token = tokens[index]
        align = str(token.attrs.get("style", "")).removeprefix("text-align:")
        return f'<{token.tag} class="{align}">' if align in ("right", "center") else f"<{token.tag}>"

    td_open = th_open = _cell

    def image(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        alt = escape(self.renderInlineAsText(token.children, options, env) or _("without description"))
        source = escape(str(token.attrs.get("src", "")), quote=True)
        depth = sum({"link_open": 1, "link_close": -1}.get(earlier.type, 0) for earlier in tokens[:index])
        said = _("[image: {alt}]").format(alt=alt)
        return said if depth else f'<a href="{source}">{said}</a>'

    def fence(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        name = token.info.split(maxsplit=1)[0].lower() if token.info.strip() else ""
        return f'<pre class="code"><code>{_coloured(token.content, ALIASES.get(name, name), env)}</code></pre>\n'

    def code_block(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return f'<pre class="code"><code>{escape(tokens[index].content)}</code></pre>\n'

    def math_inline(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return f'<span class="math">{_formula(tokens[index].content, env, "inline")}</span>'

    def math_inline_double(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return f'<span class="math">{_formula(tokens[index].content, env, "block")}</span>'

    def math_block(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return f'<div class="scroll" tabindex="0">{_formula(tokens[index].content, env, "block")}</div>\n'


def _coloured(code: str, language: str, env: dict[str, Any]) -> str:
    coloured = env["coloured"] = env.get("coloured", 0) + len(code)
    if language not in LANGUAGES or coloured > MAX_CODE:
        return escape(code)
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    return highlight(code, lexer, HtmlFormatter(nowrap=True))


def _formula(source: str, env: dict[str, Any], display: str) -> str:
    """MathML, or the source as code when it cannot be read or asks for something other than a formula."""
    env["formulas"] = env.get("formulas", 0) + 1
    shown = f"<code>{escape(source.strip())}</code>"
    if env["formulas"] > MAX_FORMULAS or len(source) > MAX_FORMULA:
        return shown
    try:
        mathml = latex_to_mathml(source.strip(), display=display)
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(mathml).iter()}
    except (Exception, RecursionError):  # the converter raises what it likes on bad input
        return shown
    return mathml if tags <= MATH_TAGS else shown


def _parser() -> MarkdownIt:
    options = {"html": False, "breaks": True, "linkify": True}
    parser = MarkdownIt("commonmark", options, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough", "linkify"])
    parser.use(dollarmath_plugin, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    for rule in ("math_inline", "math_inline_double", "math_block"):
        parser.add_render_rule(rule, getattr(_Renderer, rule))
    parser.inline.ruler.before("escape", "bracket_math", _bracket_math)
    parser.inline.ruler.before("text", "count", _count_step)
    parser.block.ruler.before("table", "count", _count_step)
    parser.core.ruler.before("inline", "count", _count_tokens)
    return parser


_PARSER = _parser()


# -- The door -----------------------------------------------------------------------------------------------------


def sanitize(html: str) -> str:
    """The last gate: only the tags and attributes above survive."""
    return _CLEANER.clean(html)


def render_markdown(text: str) -> SafeString:
    """Safe HTML of an untrusted markdown text. Never raises; says so where a text is cut or left unformatted."""
    return _render_cached(text, get_language()) if len(text) <= CACHED_UP_TO else _render(text)


def _render(text: str) -> SafeString:
    hidden = len(text) - MAX_SHOWN
    note = ""
    if hidden > 0:
        logger.warning("Cut a text of %d characters to %d for display.", len(text), MAX_SHOWN)
        text = text[:MAX_SHOWN]
        said = _("The text goes on: {number} more characters are not shown.").format(number=figures(f"{hidden:,}"))
        note = f'<p class="render-note">{said}</p>'
    return mark_safe(sanitize(_formatted(visible(text)) + note))  # noqa: S308


@lru_cache(maxsize=2048)
def _render_cached(text: str, language: str | None) -> SafeString:
    """For each language that the notes have."""
    return _render(text)


def _formatted(text: str) -> str:
    try:
        if len(text) > MAX_FORMATTED:
            raise TooComplex
        return str(_PARSER.render(text))
    except (TooComplex, RecursionError):
        logger.info("Showed a text of %d characters without formatting.", len(text))
        note = f'<p class="render-note">{_("Shown as plain text: too long or too complex to format.")}</p>'
        return f'{note}<pre class="plain">{escape(text)}</pre>'


_LINE_BREAKS = re.compile(r"\s+")


def summary(text: str, length: int = 140) -> str:
    """One line of a text, for lists: plain, to be escaped by the template."""
    line = _LINE_BREAKS.sub(" ", visible(text[: 4 * length])).strip()
    return line if len(line) <= length and len(text) <= 4 * length else line[: length - 1].rstrip() + "…"

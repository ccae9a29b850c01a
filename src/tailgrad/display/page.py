"""One HTML page of figures and tables that stands alone: it loads nothing, and no text in it can run."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote
from xml.etree import ElementTree

_OFF: Final = ("link", "autolink", "html_inline", "html_block", "reference", "lheading")
"""Rules of Markdown that our reports do not use, and that a name in a table could misuse."""

_PIXELS: Final = {"pt": 4 / 3, "px": 1.0, "": 1.0, "in": 96.0}

_STYLE: Final = """
:root { color-scheme: light dark;
  --page: #ffffff; --text: #1f2328; --quiet: #59636e; --line: #d8dde3; --link: #0057b8; }
@media (prefers-color-scheme: dark) {
  :root { --page: #1a1a1a; --text: #e6e6e6; --quiet: #a3a9b0; --line: #3d4248; --link: #6cb6ff; }
  figure img { filter: invert(0.9) hue-rotate(180deg); }
}
body { margin: 0 auto; max-width: 72rem; padding: 1rem clamp(0.8rem, 3vw, 2rem) 4rem; background: var(--page);
  color: var(--text); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2rem 0 0.6rem; }
h1 { margin-top: 0.5rem; }
h2 { border-top: 1px solid var(--line); padding-top: 1.2rem; }
p, li { max-width: 46rem; }
.from, small { color: var(--quiet); font-size: 0.875rem; margin: -0.3rem 0 1rem; }
nav ul { padding-left: 1.2rem; }
a { color: var(--link); }
figure { margin: 1.2rem 0; }
figure, .table { overflow-x: auto; }
figure img { display: block; width: min(100%, var(--width) * 1.2); min-width: calc(var(--width) * 0.72); height: auto; }
table { border-collapse: separate; border-spacing: 0; width: max-content; margin: 0.4rem 0 1.2rem; font-size: 0.9rem;
  line-height: 22px; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { border-bottom: 1px solid var(--line); padding: 5px 13px 5px 0; text-align: left; vertical-align: top;
  max-width: 26rem; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--page);
  max-width: min(26rem, 45vw); overflow-wrap: anywhere; }
code { font-size: 0.9em; }
pre { overflow-x: auto; }
""".strip()

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the browser may load: the style and the figures that the page itself holds."""


@dataclass(frozen=True)
class Part:
    """One part of a page.

    Attributes:
        title: Its heading.
        source: Where it comes from, shown below the heading.
        markdown: Its text, with a table below every figure; `![words](name)` alone in a paragraph is a figure.
        figures: SVG texts, by the names that the Markdown gives them.
    """

    title: str
    source: str
    markdown: str
    figures: Mapping[str, str] = field(default_factory=dict)


def page(parts: Sequence[Part], *, title: str, footer: str = "") -> str:
    r"""Give parts as one HTML page, light or dark as the reader's system is, with a table of contents above several.

    Figures are images inside the page: a script in an SVG does not run, nor does it load anything. Text of the parts
    is shown as it is: no HTML in it passes, and no link.

    Args:
        parts: At least one.
        title: The page's heading.
        footer: The last line.

    Returns:
        The page.

    Raises:
        ValueError: There is no part, or a figure is not an SVG.
        ModuleNotFoundError: If markdown-it-py is missing.

    Examples:
        >>> text = page([Part("Curve", "a.parquet", "| N | V |\n|---|---|\n| 1 | <b> |")], title="Report")
        >>> "<td>&lt;b&gt;</td>" in text, "<nav" in text
        (True, False)
    """
    if not parts:
        raise ValueError("a page needs at least one part.")
    known = [_Headings(f"part-{number}") for number in range(1, len(parts) + 1)]
    bodies = [_section(part, headings) for part, headings in zip(parts, known, strict=True)]
    contents = _contents(parts, known) if len(parts) > 1 or len(known[0].entries) > 1 else ""
    name = html.escape(title)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{name}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<h1>{name}</h1>",
            contents,
            *bodies,
            f'<p class="from">{html.escape(footer)}</p>\n</body>\n</html>\n',
        ]
    )


class _Headings:
    """The headings inside a part, and their anchors."""

    def __init__(self, anchor: str) -> None:
        self.anchor = anchor
        self.entries: list[tuple[str, str]] = []

    def add(self, words: str) -> str:
        """Note one and return its anchor."""
        self.entries.append((f"{self.anchor}-{len(self.entries) + 1}", words))
        return self.entries[-1][0]


def _contents(parts: Sequence[Part], known: Sequence[_Headings]) -> str:
    """The table of contents: every part, and below it its headings, where it has several."""
    lines = ['<nav aria-label="Contents">\n<ul>']
    for part, headings in zip(parts, known, strict=True):
        lines.append(
            f'<li><a href="#{headings.anchor}">{html.escape(part.title)}</a> <small>{html.escape(part.source)}</small>'
        )
        if len(headings.entries) > 1:
            inner = [f'<li><a href="#{anchor}">{html.escape(words)}</a></li>' for anchor, words in headings.entries]
            lines += ["<ul>", *inner, "</ul>"]
        lines.append("</li>")
    return "\n".join([*lines, "</ul>\n</nav>"])


def _section(part: Part, headings: _Headings) -> str:
    title = f'<h2 id="{headings.anchor}">{html.escape(part.title)}</h2>'
    source = f'<p class="from">{html.escape(part.source)}</p>'
    return f"<section>\n{title}\n{source}\n{_body(part, headings)}</section>"


def _body(part: Part, headings: _Headings) -> str:
    """The Markdown as HTML: headings below the part's own, figures in their place, tables in boxes that scroll."""
    try:
        from markdown_it import MarkdownIt
        from markdown_it.token import Token
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pages need markdown-it-py, which is not installed: pip install 'tailgrad[eval]'"
        ) from error
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(_OFF)
    reader.add_render_rule("table_open", lambda *_: '<div class="table" tabindex="0">\n<table>\n')
    reader.add_render_rule("table_close", lambda *_: "</table>\n</div>\n")
    reader.add_render_rule("image", lambda _, tokens, at, *others: html.escape(tokens[at].content))  # within a line
    reader.add_render_rule("figure", lambda _, tokens, at, *others: tokens[at].content)
    tokens = reader.parse(part.markdown)
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrs["id"] = headings.add(_words(tokens[at + 1]))
        if token.type.startswith("heading_"):
            token.tag = f"h{min(max(int(token.tag[1]), 2) + 1, 6)}"
        if (name := _figure_of(token)) in part.figures:
            alone = _figure(part.figures[str(name)], str(name), token.content)
            tokens[at - 1 : at + 2] = [Token("figure", "", 0, content=alone), *_nothing(Token, 2)]
    return str(reader.renderer.render(tokens, reader.options, {}))


def _nothing(kind: Any, count: int) -> list[Any]:
    """Tokens that show nothing, so that places in a list of tokens stay."""
    return [kind("text", "", 0) for _ in range(count)]


def _words(inline: Any) -> str:
    """The text of a line without its marks."""
    return "".join(child.content for child in inline.children)


def _figure_of(token: Any) -> str | None:
    """The name of the figure that a line is, if it is one and nothing else."""
    children = token.children or []
    return unquote(str(children[0].attrs["src"])) if len(children) == 1 and children[0].type == "image" else None


def _figure(svg: str, name: str, words: str) -> str:
    """A figure as an image that the page holds."""
    said = re.sub(r"^!\[(.*)\]\(.*\)$", r"\1", words)
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure tabindex="0"><img style="--width: {_width(svg, name):.0f}px" alt="{html.escape(said)}" '
        f'src="data:image/svg+xml;base64,{data}"></figure>\n'
    )


def _width(svg: str, name: str) -> float:
    """The width that an SVG was drawn with, in pixels."""
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"figure {name!r} is not an SVG: {error}.") from error
    if root.tag.rpartition("}")[2] != "svg":
        raise ValueError(f"figure {name!r} is not an SVG: it holds <{root.tag}>.")
    found = re.fullmatch(r"([\d.]+)(pt|px|in|)", root.get("width", ""))
    return float(found[1]) * _PIXELS[found[2]] if found else 800.0

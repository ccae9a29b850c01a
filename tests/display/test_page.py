"""The HTML page: it stands alone, and what is written in it is text, whatever it is."""

import sys

import pytest

from html_pages import Page
from tailgrad.display.page import Part, page

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"><path d="M0 0"/></svg>'
TABLE = "| N | V |\n|---|---|\n| 1 | 2 |"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[go](javascript:alert(1))",
    "[go](https://example.org)",
    "![go](https://example.org/a.png)",
    "![go](javascript:1)",
    "<https://example.org>",
    "&lt;b&gt;",
    "</section></body>",
    "[a]: https://example.org",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_stand(name: str) -> None:
    cell = name.replace("|", "\\|")
    markdown = f"## {name}\n\n{name}\n\n    {name}\n\n| {cell} | b |\n|---|---|\n| {cell} | `{cell}` |\n\n- {name}\n"
    parts = [Part(name, name, f"![{name}](a.svg)\n\n{markdown}", {"a.svg": SVG}), Part("b", "b", TABLE)]
    read = Page(page(parts, title=name, footer=name))
    read.check_alone()
    assert {tag for tag, _ in read.tags} <= {
        *("html", "head", "meta", "link", "title", "style", "body", "nav", "section", "div", "figure", "img"),
        *("h1", "h2", "h3", "p", "ul", "li", "a", "small", "pre", "code", "table", "thead", "tbody", "tr", "th", "td"),
    }
    assert read.texts["title"] == read.texts["h1"] == [name]
    assert read.texts["h2"] == [name, "b"]
    assert read.texts["small"][0] == name


def test_figures_stand_where_the_text_names_them_and_hold_what_was_drawn() -> None:
    other = SVG.replace("M0 0", "M1 1")
    text = f"Words.\n\n![first](a b.svg)\n\n{TABLE}\n\n![second](é.svg)\n\n{TABLE}\n\nIn ![a line](a.svg) is none.\n"
    markdown = text.replace("a b.svg", "<a b.svg>")
    read = Page(page([Part("Curve", "c", markdown, {"a b.svg": SVG, "é.svg": other, "a.svg": SVG})], title="t"))
    read.check_alone()
    assert read.figures == [SVG, other]
    assert read.values("alt") == ["first", "second"]
    assert all("--width: 96px" in style for style in read.values("style"))  # 72 points
    order = [tag for tag, _ in read.tags if tag in ("p", "figure", "table")]
    assert order == ["p", "p", "figure", "table", "figure", "table", "p", "p"]
    assert "nav" not in read.texts


def test_a_script_in_a_figure_stays_inside_an_image() -> None:
    svg = SVG.replace("<path", "<script>alert(1)</script><path")
    read = Page(page([Part("a", "a", f"![a](a.svg)\n\n{TABLE}", {"a.svg": svg})], title="t"))
    read.check_alone()
    assert read.figures == [svg]


def test_contents_lead_to_every_part_and_to_the_headings_of_a_long_one() -> None:
    grid = f"## one `x`\n\n{TABLE}\n\n# two\n\n{TABLE}"
    read = Page(page([Part("Grid", "g/grid", grid), Part("Curve", "c/curve", TABLE)], title="t"))
    read.check_alone()
    links = [link for link in read.values("href") if link.startswith("#")]
    assert [link.removeprefix("#") for link in links] == read.values("id")
    assert read.texts["a"] == ["Grid", "one x", "two", "Curve"]
    assert read.texts["h3"] == ["one x", "two"]


def test_both_schemes_and_small_screens_are_provided_for() -> None:
    text = page([Part("a", "a", TABLE)], title="t")
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport" content="width=device-width' in text
    assert "default-src 'none'" in text
    assert '<div class="table"' in text


@pytest.mark.parametrize("svg", ["", "no", "<svg", "<html></html>", '{"a": 1}'])
def test_what_is_no_figure_is_refused_by_its_name(svg: str) -> None:
    with pytest.raises(ValueError, match=r"'x.svg' is not an SVG"):
        page([Part("a", "a", "![a](x.svg)", {"x.svg": svg})], title="t")


def test_a_page_of_nothing_and_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="at least one part"):
        page([], title="t")
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tailgrad\[eval\]'"):
        page([Part("a", "a", TABLE)], title="t")

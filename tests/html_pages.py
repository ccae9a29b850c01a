"""What tests read of an HTML page: its tags in their order, and whether they are balanced."""

import base64
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """A page, read: `tags` with their attributes, the text inside each kind of tag, and figures decoded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "not every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def values(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [str(attributes[attribute]) for _, attributes in self.tags if attribute in attributes]

    @property
    def figures(self) -> list[str]:
        """The SVGs of the page."""
        return [base64.b64decode(source.partition("base64,")[2]).decode() for source in self.values("src")]

    def check_alone(self) -> None:
        """Nothing is loaded from elsewhere, nothing runs, and every figure has a table below it before the next."""
        names = {tag for tag, _ in self.tags}
        assert not names & {"script", "iframe", "object", "embed", "svg", "base", "form"}
        assert all(source.startswith("data:image/svg+xml;base64,") for source in self.values("src"))
        anchors = self.values("id")
        assert len(set(anchors)) == len(anchors)
        assert all(link == "data:," or link.removeprefix("#") in anchors for link in self.values("href"))
        attributes = {name for _, one in self.tags for name in one}
        assert not {name for name in attributes if name.startswith("on") or name in ("srcset", "action", "poster")}
        assert not [text for text in self.texts["style"] if "url(" in text or "@import" in text]
        order = [tag for tag, _ in self.tags if tag in ("figure", "table")]
        assert all(after == "table" for tag, after in zip(order, [*order[1:], None], strict=True) if tag == "figure")

"""The page at `/`, as far as it can be read without a browser: what it may load, and that every field has a name."""

import base64
import hashlib
import re
from collections.abc import Iterator

import httpx2
import pytest

from best_of_n_servers import Running, Scripted, length, serving
from html_pages import Page
from tailgrad.serving import BestOfN
from tailgrad.serving.keys import KEYS


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv(KEYS, "a-key-that-is-long-enough")
    with serving(BestOfN(Scripted(lambda _, count, __: ["a"] * count), length)) as running:
        yield running


def test_the_page_may_run_its_own_script_and_load_nothing(server: Running) -> None:
    answer = httpx2.get(f"{server.url}/")
    assert answer.status_code == 200  # it holds no secret, and asks for the key
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"  # as a browser computes it
    assert re.findall(r"https?://[^\"]+", answer.text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\son\w+=|style=", answer.text)


def test_every_field_has_a_label_and_the_status_is_read_out(server: Running) -> None:
    page = Page(httpx2.get(f"{server.url}/").text)
    fields = {given["id"] for tag, given in page.tags if tag in ("input", "textarea")}
    labels = {given["for"] for tag, given in page.tags if tag == "label"}
    assert fields == labels
    assert ("html", {"lang": "en"}) in page.tags
    assert ("p", {"id": "status", "role": "status"}) in page.tags
    script = re.findall(r"<script>(.*?)</script>", httpx2.get(f"{server.url}/").text, re.DOTALL)[0]
    ids = {given["id"] for _, given in page.tags if "id" in given}
    assert set(re.findall(r'get\("(\w+)"\)', script)) <= ids

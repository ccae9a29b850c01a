"""The page at `/` in a real browser, by keyboard alone: light on a desk, dark on a phone."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from best_of_n_servers import Running, Scripted, content_of, serving
from tailgrad.serving import BestOfN
from tailgrad.serving.keys import KEYS

KEY = "a-key-that-is-long-enough"
REWARDS = [(7 * i % 64) / 8 + (i % 3) / 100 for i in range(64)]
DESK, PHONE = (1000, 900), (390, 800)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome", "chrome")
        path = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(path).exists():
            pytest.skip("there is no Chromium: playwright install chromium")
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv(KEYS, KEY)

    def texts(_: Any, count: int, first: int) -> list[str | None]:
        return [None if i == 5 else f"<b>one</b>\n {REWARDS[i]}" for i in range(first, first + count)]

    def reward(*, completions: list[Any], **columns: Any) -> list[float]:
        return [float(content_of(one).split()[-1]) for one in completions]

    with serving(BestOfN(Scripted(texts), reward), n=16) as running:
        yield running


def opened(browser: Browser, server: Running, scheme: Any, size: tuple[int, int]) -> tuple[Page, list[str]]:
    """The page, and what its console will say is wrong."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{server.url}/")
    return page, wrong


def fill(page: Page, *, prompt: str = "One two", n: str = "", price: str = "", key: str = KEY) -> None:
    """Fill in the form by keyboard, and press its button."""
    for text in (prompt, n, price, None, key, None):
        page.keyboard.press("Tab")
        if text:
            page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text(re.compile("best of|Error"))


@pytest.mark.parametrize(("scheme", "size"), [("light", DESK), ("dark", PHONE)])
def test_the_winner_is_on_top_and_the_figures_say_where_it_stopped(
    browser: Browser, server: Running, scheme: str, size: tuple[int, int]
) -> None:
    page, wrong = opened(browser, server, scheme, size)
    fill(page, n="64", price="0.05")
    drawn = int(re.findall(r"(\d+) samples", page.inner_text("#status"))[0])
    assert page.inner_text("#status").endswith(
        "samples, stopped by the price before 64; 1 failed, 0 not scored. Why: the backend is tired"
    )
    given = sorted((REWARDS[i] for i in range(drawn) if i != 5), reverse=True)
    assert page.inner_text("#winner").split("\n")[:2] == [f"{given[0]:.5g}".ljust(6, "0"), "<b>one</b>"]
    shown = [float(text) for text in page.locator("#candidates .reward").all_inner_texts()]
    assert shown == pytest.approx(given, rel=1e-4)
    assert page.get_attribute("#rewards", "aria-label") == (
        f"Histogram of {drawn - 1} rewards from {min(given):.4g} to {given[0]:.4g}"
    )
    assert page.locator("#rewards path.tail").count() == 1
    assert page.locator("#rewards rect.best").count() == 1
    said = re.match(r"4 more are expected to add (\S+) and cost (\S+), so it stopped\.", page.inner_text("#about-best"))
    assert said is not None
    assert float(said[1]) <= float(said[2])
    assert page.locator("#best path").count() == 3
    assert f"{drawn} drawn" in page.locator("#best").text_content()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(26, 26, 26)"
    assert dark == (scheme == "dark")
    assert wrong == []


def test_everything_that_is_drawn_lies_within_its_figure(browser: Browser, server: Running) -> None:
    page, wrong = opened(browser, server, "light", DESK)
    fill(page, n="40")
    for width in (1000, 390):
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        outside = page.evaluate("""[...document.querySelectorAll("svg > *")].filter((part) => {
            const inner = part.getBoundingClientRect(), outer = part.parentNode.getBoundingClientRect();
            return inner.left < outer.left - 1 || inner.right > outer.right + 1
                || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1; }).map((part) => part.outerHTML)""")
        assert outside == []
    assert page.inner_text("#about-best").startswith("Dashed: 160 samples are expected to reach ")
    assert wrong == []


def test_a_failure_is_not_called_a_price(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS, raising=False)

    def reward(*, completions: list[Any], **columns: Any) -> list[float]:
        if len(completions) < 8:  # not the first batch
            raise ValueError("it is tired")
        return [float(content_of(one).split()[-1]) for one in completions]

    with serving(
        BestOfN(Scripted(lambda _, count, first: [f"{REWARDS[first + i]}" for i in range(count)]), reward)
    ) as one:
        page, wrong = opened(browser, one, "light", DESK)
        fill(page, n="64", price="0.00001", key="")
        said = page.inner_text("#status")
        assert said.startswith("The best of 8 of 12 samples; 0 failed, 4 not scored. Why: reward 'reward' raised")
        assert "it is tired" in said
        assert "stopped" not in page.inner_text("#about-best")
    assert wrong == []


def test_a_single_sample_and_a_wrong_key_are_told(browser: Browser, server: Running) -> None:
    page, _ = opened(browser, server, "light", DESK)
    fill(page, n="1")
    assert page.inner_text("#status") == "The best of 1 of 1 samples."
    assert page.locator("#rewards path, #best path.ahead").count() == 0
    page, _ = opened(browser, server, "light", DESK)
    fill(page, key="not-the-right-key-at-all")
    assert page.inner_text("#status").startswith("Error: ")
    assert not page.is_visible("#found")

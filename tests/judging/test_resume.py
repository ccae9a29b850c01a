"""Judgements are kept as they come: a stopped command goes on, and what was judged otherwise is refused."""

import contextlib
import json
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forked import in_child
from local_servers import Answer, running
from tailgrad.judging import judge
from tailgrad.judging.prompt import TEMPLATE
from tailgrad.models.breaker import ServerDownError

from .conftest import Configure, judging, lines_of, prefers, table, texts_sent

KEPT = Path("judged/judgements.jsonl")
HOW = {"deploy_n": 2, "draws": 3}


def report() -> list[bytes]:
    return [Path("judged", f"judge.{ending}").read_bytes() for ending in ("json", "md", "svg")]


def whole(config: Configure, tables: Any) -> tuple[list[bytes], Counter[str]]:
    """The report of a run that nothing stopped, and what it asked."""
    with running(judging(prefers)) as server:
        judge(config(base_url=server.url, **HOW), tables)
    found = report()
    for path in Path("judged").iterdir():
        path.unlink()
    return found, Counter(texts_sent(server))


def test_a_server_that_dies_costs_nothing_that_was_judged(config: Configure, tables: Any, quick: list[str]) -> None:
    expected, asked = whole(config, tables)

    def dies(path: str, body: Any) -> Answer:
        if len(server.seen) > 20:
            server.die()
            return 0, b""
        return judging(prefers)(path, body)

    with running(dies) as server, pytest.raises(ServerDownError, match="the same command goes on"):
        judge(config(base_url=server.url, **HOW), tables)
    kept = len(lines_of(KEPT)) - 1
    assert 0 < kept <= 20
    with running(judging(prefers)) as server:
        judge(config(base_url=server.url, **HOW), tables)
        assert len(server.seen) == asked.total() - kept, "what was judged is not asked again"
        assert report() == expected
        judge(config(base_url=server.url, **HOW), tables)
    assert len(server.seen) == asked.total() - kept, "a finished one asks nothing"
    assert report() == expected


@pytest.mark.parametrize("at", [1, 9, 40])
def test_a_killed_judge_goes_on_and_ends_as_one_that_was_not(config: Configure, tables: Any, at: int) -> None:
    """The process is killed by signal 9 while its requests are in flight."""
    expected, asked = whole(config, tables)
    reached = threading.Event()

    def answer(path: str, body: Any) -> Answer:
        if len(server.seen) >= at and not reached.is_set():
            reached.set()
            os.kill(int(Path("pid").read_text()), signal.SIGKILL)
        return judging(prefers)(path, body)

    def work() -> int:
        Path("pid").write_text(str(os.getpid()))
        judge(config(base_url=server.url, concurrency=3, **HOW), tables)
        return 0

    with running(answer) as server:
        assert in_child(work, Path.cwd()).code == -signal.SIGKILL
        first = len(server.seen)
        kept = {(line["pair"], line["order"]) for line in lines_of(KEPT)[1:]}
        judge(config(base_url=server.url, **HOW), tables)
    again = Counter(texts_sent(server)) - asked
    assert again.total() == first - len(kept) <= 6, "only what was in flight, or had come and not been written"
    assert report() == expected
    lines = lines_of(KEPT)[1:]
    assert len(lines) == asked.total() == len({(line["pair"], line["order"]) for line in lines})


def test_a_line_that_was_cut_off_is_judged_again(config: Configure, tables: Any) -> None:
    expected, _ = whole(config, tables)
    with running(judging(prefers)) as server:
        judge(config(base_url=server.url, **HOW), tables)
        KEPT.write_bytes(KEPT.read_bytes()[:-7])
        before = len(server.seen)
        judge(config(base_url=server.url, **HOW), tables)
        assert len(server.seen) == before + 1
    assert report() == expected
    assert len(lines_of(KEPT)) == before + 1


@pytest.mark.parametrize(
    "line", ["{", "3", '{"pair": 0}', '{"pair": 999, "order": 0, "score": 1, "said": "B"}',
             '{"pair": 0, "order": 0, "score": 0.7, "said": "B"}']
)  # fmt: skip
def test_a_damaged_line_is_named(config: Configure, tables: Any, line: str) -> None:
    with running(judging(prefers)) as server:
        judge(config(base_url=server.url, **HOW), tables)
        lines = KEPT.read_text().splitlines()
        KEPT.write_text("\n".join([*lines[:3], line, *lines[4:]]) + "\n")
        with pytest.raises(ValueError, match=r"judgements\.jsonl' is damaged in line 4 "):
            judge(config(base_url=server.url, **HOW), tables)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another judge": ({"judge_model": "other"}, "another judge: 'the-judge' there, 'other' now"),
    "another prompt": ({"judge_prompt": "mine.txt"}, "another judge_prompt"),
    "another temperature": ({"temperature": 0.5}, "another temperature"),
    "another length": ({"max_completion_length": 64}, "another max_completion_length"),
    "another N": ({"deploy_n": 1}, "another deploy_n: 2 there, 1 now"),
    "other draws": ({"draws": 2}, "another draws"),
    "fewer prompts": ({"limit": 5}, "another prompts_and_answers"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_judged_otherwise_is_not_gone_on_with(config: Configure, tables: Any, change: str) -> None:
    changes, words = CHANGES[change]
    Path("mine.txt").write_text(TEMPLATE.replace("Two", "2"))
    with running(judging(prefers)) as server:
        judge(config(base_url=server.url, **HOW), tables)
        before = len(server.seen), report()
        with pytest.raises(ValueError, match=words):
            judge(config(**{"base_url": server.url, **HOW, **changes}), tables)
        assert (len(server.seen), report()) == before


def test_another_table_is_refused_and_names_and_addresses_are_free(config: Configure, tables: Any) -> None:
    with running(judging(prefers)) as server:
        judge(config(base_url=server.url, **HOW), tables)
        with pytest.raises(ValueError, match="another prompts_and_answers"):
            judge(config(base_url=server.url, **HOW), (tables[0], table("tea", 3)))
        with pytest.raises(ValueError, match="another prompts_and_answers"):
            judge(config(base_url=server.url, **HOW), tables[::-1])
        before = len(server.seen)
    with running(judging(prefers)) as moved:
        judge(config(base_url=f"{moved.url}/v1", **HOW), (tables[0], tables[1].replace(name="renamed")))
    assert (len(server.seen), len(moved.seen)) == (before, 0)
    assert json.loads(Path("judged/judge.json").read_text())["compared"] == "renamed"


def test_two_do_not_write_into_one_folder(config: Configure, tables: Any) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def answer(path: str, body: Any) -> Answer:
        inside.set()
        go_on.wait(20)
        return judging(prefers)(path, body)

    with running(answer) as server:
        first = threading.Thread(target=judge, args=(config(base_url=server.url, **HOW), tables))
        first.start()
        assert inside.wait(20)
        with contextlib.ExitStack() as at_end:
            at_end.callback(go_on.set)
            with pytest.raises(ValueError, match="is being written by another process"):
                judge(config(base_url=server.url, **HOW), tables)
        first.join()
    assert Path("judged/judge.json").is_file()

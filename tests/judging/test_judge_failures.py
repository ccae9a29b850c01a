"""`tailgrad judge` where its server fails or refuses."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from local_servers import Answer, in_turn, running
from tailgrad.judging import judge
from tailgrad.models.breaker import ServerDownError
from tailgrad.models.server import RefusedError

from .conftest import Configure, N, ask, judging, lines_of, prefers


def test_the_key_is_sent_and_written_nowhere(
    config: Configure, tables: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick: Any
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    leak = (500, {"error": "key sk-secret is overloaded"})
    _, server = ask(config, tables, in_turn([leak], judging(prefers)))
    assert server.keys == {"Bearer sk-secret"}
    written = b"".join(path.read_bytes() for path in Path("judged").iterdir())
    assert b"sk-secret" not in written
    captured = capsys.readouterr()
    assert "sk-secret" not in captured.out + captured.err + "".join(quick)
    with running(lambda *_: (401, {"error": "who is sk-secret?"})) as server, pytest.raises(RefusedError) as refused:
        judge(config(base_url=server.url, out="other"), tables)
    assert "sk-secret" not in str(refused.value)
    assert "OPENAI_API_KEY" in str(refused.value)


def test_failures_that_pass_cost_nothing(config: Configure, tables: Any, quick: list[str]) -> None:
    plain, _ = ask(config, tables)
    failures: list[Answer] = [(503, b""), (0, b""), (200, {"choices": []})]
    found, _ = ask(config, tables, in_turn(failures, judging(prefers)), out="flaky", concurrency=1)
    assert Path("flaky/judge.json").read_bytes() == Path("judged/judge.json").read_bytes()
    assert found.counts == plain.counts
    assert sum("in a row" in line for line in quick) == len(failures)


def test_a_pair_that_is_refused_is_counted_and_the_others_are_judged(config: Configure, tables: Any) -> None:
    def answer(path: str, body: Any) -> Answer:
        text = body["messages"][-1]["content"]
        if "request 2\n" in text or "request 5\n" in text:
            return 400, {"error": {"message": "maximum context length is 10 tokens"}}
        return judging(prefers)(path, body)

    outcome, _ = ask(config, tables, answer)
    lines = [line for line in lines_of(Path("judged/judgements.jsonl"))[1:] if line["prompt_id"] in (6, 15)]
    assert outcome.counts["replies_refused"] == outcome.counts["replies_unread"] == len(lines) > 0
    assert all(line["score"] is None and "context length" in line["said"]["refused"] for line in lines)
    assert "refused by the server" in Path("judged/judge.md").read_text()


@pytest.mark.parametrize("concurrency", [1, 4, 64])
def test_no_pair_is_asked_about_twice_however_many_are_refused(
    config: Configure, tables: Any, concurrency: int
) -> None:
    """A third is refused, faster than the others are answered."""
    asked: Counter[str] = Counter()

    def answer(path: str, body: Any) -> Answer:
        text = body["messages"][-1]["content"]
        asked[text] += 1
        if any(f"request {number}\n" in text for number in (0, 3, 6, 9)):
            return 400, {"error": {"message": "maximum context length is 10 tokens"}}
        time.sleep(0.02)
        return judging(prefers)(path, body)

    outcome, _ = ask(config, tables, answer, concurrency=concurrency)
    lines = lines_of(Path("judged/judgements.jsonl"))[1:]
    refused = [line for line in lines if line["score"] is None]
    assert outcome.counts["replies_refused"] == len(refused) > 10
    assert len({(line["pair"], line["order"]) for line in lines}) == len(lines)
    assert max(asked.values()) <= 2  # before the first answer its settings may be what is refused
    if concurrency < len(refused):
        assert sum(asked.values()) - len(asked) <= 6 + concurrency


def test_refused_pairs_that_are_left_for_a_second_run_are_counted_too(config: Configure, tables: Any) -> None:
    ask(config, tables)
    kept = Path("judged/judgements.jsonl")
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:-8]))
    outcome, _ = ask(config, tables, lambda *_: (413, {"error": "too long"}), concurrency=1)
    assert outcome.counts["replies_refused"] == 8
    assert len(kept.read_text().splitlines()) == len(lines)


def test_a_server_that_refuses_all_is_an_error(config: Configure, tables: Any) -> None:
    words = r"the two answers to prompt \d+: .*temperature must be 1"
    refusal = (400, {"error": {"message": "temperature must be 1"}})
    with running(lambda *_: refusal) as server, pytest.raises(ValueError, match=words):
        judge(config(base_url=server.url, deploy_n=N, concurrency=1), tables)
    assert len(server.seen) < 20, "it is not asked for all pairs"
    assert len(lines_of(Path("judged/judgements.jsonl"))) == 1


def test_a_server_that_is_down_is_said(config: Configure, tables: Any) -> None:
    with running(judging(prefers)) as server:
        url = server.url
    with pytest.raises(ServerDownError, match="Is the server running"):
        judge(config(base_url=url), tables)

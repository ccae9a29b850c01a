"""`tailgrad sample --engine openai` against a real HTTP server in this process, with the faults that servers have."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_servers import Answer, OpenAI, hanging, in_turn, quick, running, text_of, tokens_of
from tailgrad.cli.main import main
from tailgrad.rollouts import SampleConfig, ScoreConfig, read_rollouts, rescore, sample
from tiny_policies import PROMPTS, save_prompts, word_count

__all__ = ["quick"]

N = 4
TEXTS = [text_of(number) for number in range(N)]
CHATS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]


@pytest.fixture
def served(dataset: Path, tmp_path: Path, quick: list[str]) -> dict[str, Any]:
    """Arguments of a SampleConfig; the address is to be added."""
    return {
        "model_name_or_path": "the-policy",
        "dataset_name": str(dataset),
        "reward_funcs": word_count,
        "out": tmp_path / "rollouts.parquet",
        "n": N,
        "max_completion_length": 8,
        "batch_size": 8,
        "engine": "openai",
        "concurrency": 3,
        "request_timeout": 5.0,
    }


def run(served: dict[str, Any], answer: Callable[[str, Any], Answer], **changes: Any) -> tuple[Any, Any]:
    """The table that a server with these answers gives, and the server."""
    with running(answer) as server:
        table = read_rollouts(sample(SampleConfig(**{**served, "base_url": server.url, **changes})))
    return table, server


def check_whole(table: Any) -> None:
    """Every response of every prompt is there once: nothing lost, nothing doubled."""
    assert table.prompts == PROMPTS
    assert [sorted(group) for group in table.responses] == [sorted(TEXTS)] * len(PROMPTS)


def test_a_table_is_what_the_server_gave(served: dict[str, Any]) -> None:
    table, server = run(served, OpenAI(token_ids=True))
    assert [path for path, _ in server.seen] == ["/v1/completions"] * 5
    assert table.responses == [TEXTS] * 5
    counts, ends = np.array([tokens_of(number) for number in range(N)]), np.arange(N) % 2
    np.testing.assert_array_equal(table.num_tokens, [counts - ends] * 5)
    np.testing.assert_array_equal(table.finished, [ends == 1] * 5)
    np.testing.assert_allclose(table.logprobs, [-0.5 * counts] * 5)
    np.testing.assert_array_equal([list(map(len, group)) for group in table.token_ids], [counts] * 5)
    np.testing.assert_array_equal(table.rewards, [[len(text.split()) for text in TEXTS]] * 5)
    sampling = {"n": N, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8}
    known = {"model": "the-policy", "engine": "openai", "sampling": sampling, "seed": None, "dtype": None}
    assert {name: table.metadata[name] for name in known} == known
    assert not Path(f"{served['out']}.parts").exists()


def test_what_shapes_a_response_is_sent_and_nothing_is_left_to_the_server(served: dict[str, Any]) -> None:
    _, server = run(served, OpenAI(), limit=1)
    neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    extra = {"n": N, "max_tokens": 8, "logprobs": 1, "return_token_ids": True}
    assert server.seen == [("/v1/completions", {"model": "the-policy", "prompt": PROMPTS[0], **neutral, **extra})]
    Path(served["out"]).unlink()
    asked = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "generation_kwargs": {"min_p": 0.1, "min_new_tokens": 2}}
    table, server = run(served, OpenAI(), limit=1, **asked)
    sent = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "min_tokens": 2, "repetition_penalty": 1.0}
    assert server.seen[0][1].items() >= sent.items()
    assert "logprobs" not in server.seen[0][1], "of which distribution is not known"
    assert table.logprobs is None


def test_chats_are_sent_as_messages(served: dict[str, Any], tmp_path: Path) -> None:
    chats = save_prompts(tmp_path / "chats.jsonl", CHATS, answer=list("abcde"))
    calls = []

    def reward(**rollouts: Any) -> list[float]:
        calls.append(rollouts)
        return [1.0] * len(rollouts["completions"])

    options = {"dataset_name": str(chats), "reward_funcs": reward, "chat_template_kwargs": {"enable_thinking": False}}
    table, server = run(served, OpenAI(), **options)
    assert {path for path, _ in server.seen} == {"/v1/chat/completions"}
    assert sorted(json.dumps(body["messages"]) for _, body in server.seen) == sorted(map(json.dumps, CHATS))
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for _, body in server.seen)
    assert table.responses == [TEXTS] * 5
    np.testing.assert_allclose(table.logprobs[0], [-0.5 * tokens_of(number) for number in range(N)])
    call = next(call for call in calls if call["prompts"][0] == CHATS[0])
    assert call.keys() == {"prompts", "completions", "answer"}, "no token ids are known"
    assert call["completions"][:N] == [[{"role": "assistant", "content": text}] for text in TEXTS]
    assert call["answer"][:N] == ["a"] * N


@pytest.mark.parametrize(("habit", "most"), [("refused", N * 5 + 3 * 2), ("one", N * 5)])
def test_a_server_without_n_is_asked_for_single_responses(
    served: dict[str, Any], habit: str, most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    table, server = run(served, OpenAI(n=habit))
    check_whole(table)
    assert len(server.seen) <= most
    assert sum("n" not in body for _, body in server.seen) > N * 5 - 5
    assert capsys.readouterr().err.count("said once") == 1


def test_log_probabilities_that_are_not_wanted_are_not_asked_for(served: dict[str, Any]) -> None:
    table, server = run(served, OpenAI(token_ids=True), logprobs=False)
    assert not any("logprobs" in body for _, body in server.seen)
    assert table.logprobs is None
    assert table.metadata["logprobs"] is False
    assert table.num_tokens is not None, "the tokens' ids are counted"


def test_what_a_server_does_not_tell_is_null(served: dict[str, Any]) -> None:
    table, _ = run(served, OpenAI(logprobs=False))
    check_whole(table)
    assert (table.logprobs, table.token_ids, table.num_tokens) == (None, None, None), "four are counted together"
    Path(served["out"]).unlink()
    single, _ = run(served, OpenAI(logprobs=False, n="one"))
    lengths = {text_of(number): tokens_of(number) - number % 2 for number in range(N)}
    assert single.num_tokens.tolist() == [[lengths[text] for text in group] for group in single.responses]
    Path(served["out"]).unlink()
    uncounted, _ = run(served, OpenAI(usage=False))
    np.testing.assert_array_equal(uncounted.num_tokens[0], [tokens_of(i) - i % 2 for i in range(N)])


def test_a_server_that_does_not_sample_is_noticed(served: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    same = {"text": "one", "finish_reason": "stop"}
    run(served, lambda _, body: (200, {"choices": [same] * body["n"]}))
    assert capsys.readouterr().err.count("4 equal responses to each of the first 3 prompts") == 1
    Path(served["out"]).unlink()
    run(served, OpenAI())
    assert "equal responses" not in capsys.readouterr().err


def test_what_a_server_refuses_is_left_out_unless_it_is_asked_for(
    served: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = ("top_k", "min_p", "repetition_penalty", "return_token_ids", "logprobs")
    table, server = run(served, OpenAI(unknown=unknown))
    check_whole(table)
    assert not set(unknown) & server.seen[-1][1].keys()
    said = capsys.readouterr().err
    assert all(said.count(f"does not take {field};") == 1 for field in unknown)
    Path(served["out"]).unlink()
    with pytest.raises(ValueError, match=r"row \d .*Unrecognized request argument supplied: top_k"):
        run(served, OpenAI(unknown=unknown), top_k=5)


def test_a_hang_is_a_failure(served: dict[str, Any], quick: list[str]) -> None:
    fine, slow = OpenAI(), hanging(0.4)
    waiting = [slow] * 2
    table, _ = run(
        served, lambda *asked: (waiting.pop() if waiting else fine)(*asked), request_timeout=0.1, concurrency=1
    )
    check_whole(table)
    assert "no answer within 0.1 seconds; failure 1 of 4 in a row" in quick[0]


def test_a_server_that_dies_costs_nothing_that_was_finished(
    served: dict[str, Any], capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the command line: it dies in the middle, the run stops with one line, and the same command goes on."""
    fine, reward = OpenAI(n="one"), "def letters(completions, **columns):\n    return [len(c) for c in completions]\n"
    (tmp_path / "reward_of_letters.py").write_text(reward)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = [
        *("sample", "--engine", "openai", "--model_name_or_path", "the-policy", "--n", str(N), "--batch_size", "4"),
        *("--dataset_name", served["dataset_name"], "--max_completion_length", "8", "--out", str(served["out"])),
        *("--reward_funcs", "reward_of_letters.letters", "--concurrency", "2", "--base_url"),
    ]

    def until(path: str, body: Any) -> Answer:
        if len(server.seen) > 2 * N + 3:
            server.die()
            return 0, b""
        return fine(path, body)

    with running(until) as server:
        assert main([*words, server.url]) == 2
    said = capfd.readouterr().err.splitlines()
    assert sum(line.startswith("tailgrad sample: error:") for line in said) == 1
    assert re.search(r"failed \d times.*the same command goes on", said[-1])
    finished = [path.name for path in Path(f"{served['out']}.parts").glob("part-*")]
    assert 1 <= len(finished) <= 3
    fine.given = dict.fromkeys(fine.given, 0)
    with running(fine, server.port) as again:
        assert main([*words, again.url]) == 0
    check_whole(read_rollouts(served["out"]))
    kept = {PROMPTS[int(name[5:11])] for name in finished}
    assert not kept & {body["prompt"] for _, body in again.seen}, "what was finished is not asked for again"


def test_a_refused_prompt_is_named_and_the_others_are_kept(served: dict[str, Any]) -> None:
    fine = OpenAI()

    def answer(path: str, body: Any) -> Answer:
        if body["prompt"] == PROMPTS[3]:
            return 400, {"error": {"message": "maximum context length is 4 tokens"}}
        return fine(path, body)

    with pytest.raises(ValueError, match=r"row 3 \(counted from 0\).*maximum context length is 4"):
        run(served, answer, batch_size=4, concurrency=2)
    assert len(list(Path(f"{served['out']}.parts").glob("part-*"))) >= 3


def test_no_server_is_one_line_at_once(served: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with running(OpenAI()) as server:
        pass
    with pytest.raises(RuntimeError, match=r"connection refused.*Is the server running"):
        sample(SampleConfig(**served, base_url=server.url))
    assert not Path(f"{served['out']}.parts").exists()


def test_the_key_is_sent_and_written_nowhere(
    served: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], quick: list[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    table, server = run(served, in_turn([(500, b"sk-secret")] * 2, OpenAI()))
    assert server.keys == {"Bearer sk-secret"}
    refused = (401, {"error": {"message": "Incorrect key sk-secret"}})
    with pytest.raises(ValueError, match=r"401: Incorrect key \*\*\*.*OPENAI_API_KEY"):
        run(served, lambda *_: refused, out=served["out"].with_name("other.parquet"))
    shown = capfd.readouterr()
    everything = [shown.out, shown.err, str(table.metadata), *quick]
    assert not any("sk-secret" in text for text in everything)
    assert b"sk-secret" not in Path(served["out"]).read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_url": None}, "engine openai and no base_url"),
        ({"engine": "transformers"}, "engine transformers and a base_url"),
        ({"engine": "tgi"}, "must be one of transformers, openai, vllm"),
        ({"base_url": "localhost:8000"}, "it must be an address"),
        ({"base_url": "http://me:secret@host/v1"}, "environment variable"),
        ({"reference_model": "ref"}, "reference_model with engine openai"),
        ({"seed": 3}, "a server draws its own random numbers"),
        ({"dtype": "bfloat16"}, "dtype is 'bfloat16', and the server has loaded its model"),
        ({"model_revision": "abc"}, "model_revision is 'abc', and the server has loaded its model"),
        ({"generation_kwargs": {"no_repeat_ngram_size": 2}}, "no_repeat_ngram_size is 2, which cannot be sent"),
        ({"engine": "transformers", "base_url": None, "logprobs": False}, "which it costs nothing"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"request_timeout": 0.0}, "request_timeout is 0"),
    ],
)
def test_what_cannot_be_is_refused(served: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        sample(SampleConfig(**{**served, "base_url": "http://localhost:1", **changes}))
    assert "secret" not in str(raised.value)


def test_one_process_is_enough(served: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes with engine openai"):
        sample(SampleConfig(**served, base_url="http://localhost:1"))


def test_a_trained_policy_is_sampled_as_it_was_trained(served: dict[str, Any], tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    record = {"generation": {"temperature": 0.6, "top_p": 1.0, "top_k": 0, "max_new_tokens": 5, "min_p": 0.2}}
    (policy / "tailgrad_training.json").write_text(json.dumps(record))
    _, server = run(served, OpenAI(), model_name_or_path=str(policy), max_completion_length=None)
    sent = {"temperature": 0.6, "max_tokens": 5, "min_p": 0.2, "model": str(policy)}
    assert server.seen[0][1].items() >= sent.items()


def test_such_a_table_is_scored_anew_without_the_policy(served: dict[str, Any], tmp_path: Path) -> None:
    for token_ids in (False, True):
        table, _ = run(served, OpenAI(token_ids=token_ids), out=tmp_path / f"{token_ids}.parquet")
        calls: list[Any] = []

        def letters(*, completions: list[str], calls: list[Any] = calls, **columns: Any) -> list[float]:
            calls.append(columns)
            return [float(len(text)) for text in completions]

        out = tmp_path / f"{token_ids}-scored.parquet"
        scored = read_rollouts(
            rescore(ScoreConfig(table=tmp_path / f"{token_ids}.parquet", reward_funcs=letters, out=out))
        )
        np.testing.assert_array_equal(scored.rewards, [[len(text) for text in TEXTS]] * 5)
        np.testing.assert_array_equal(scored.selection_rewards, table.rewards)
        np.testing.assert_array_equal(scored.logprobs, table.logprobs)
        np.testing.assert_array_equal(scored.num_tokens, table.num_tokens)
        assert ("completion_ids" in calls[0]) == token_ids == (scored.token_ids is not None)

"""The engine of a server: failures that pass are tried again."""

import pytest

from local_servers import Answer, OpenAI, in_turn, quick, running, text_of
from tailgrad.models.openai_engine import OpenAIEngine, read_responses
from tailgrad.models.server import Server
from tiny_policies import PROMPTS

__all__ = ["quick"]

N = 4
TEXTS = [text_of(number) for number in range(N)]
MANY = {"choices": [{"text": "x", "finish_reason": "stop"}] * (N + 1)}
PASSING: dict[str, Answer] = {
    "no JSON": (200, b"<html>"),
    "no choices": (200, {"choices": []}),
    "too many choices": (200, MANY),
    "aborted": (200, {"choices": [{"text": "x", "finish_reason": "abort"}]}),
    "no text": (200, {"choices": [{"text": 3, "finish_reason": "stop"}]}),
    "no object": (200, [1]),
    "500 boom": (500, {"error": "boom"}),
    "503": (503, b""),
    "connection was lost": (0, b""),
    "429 slower": (429, {"error": {"message": "slower"}}, {"Retry-After": "0"}),
}


@pytest.mark.parametrize("failure", PASSING)
def test_failures_that_pass_are_tried_again(failure: str, quick: list[str]) -> None:
    with running(in_turn([PASSING[failure]] * 2, OpenAI())) as server:
        to = Server(f"{server.url}/v1", timeout=5.0, key_variable="NO_KEY", connections=2)
        settings = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 8}
        engine = OpenAIEngine(to, "m", PROMPTS, n=N, settings=settings, concurrency=2, logprobs=True)
        found = dict(engine.responses([range(2), range(2, 5)]))
    assert {row: [one.text for one in group] for row, group in found.items()} == dict.fromkeys(range(5), TEXTS)
    assert len(server.seen) == 7
    assert 1 <= sum("in a row" in line for line in quick) <= 2
    assert sum("answers again" in line for line in quick) >= 1
    if failure[0].isdigit() or "connection" in failure:
        assert failure in quick[0]


@pytest.mark.parametrize(
    ("ids", "logprobs", "counted", "expected"),
    [
        ([5, 6, 2], [-1.0, -1.0, -1.0], 3, (2, -3.0, [5, 6, 2])),
        ([5, 6, 2], [-1.0, -1.0, -1.0], None, (2, -3.0, [5, 6, 2])),
        ([5, 6, 2], [-1.0, -2.0], None, (2, None, [5, 6, 2])),  # one of the two is wrong
        ([5, 6], [-1.0, -1.0, -1.0], 3, (2, -3.0, None)),  # the server counts three
        (None, [-1.0, -1.0], None, (1, -2.0, None)),
        ([5, 6], None, 3, (2, None, None)),
    ],
)
def test_token_ids_and_log_probabilities_that_contradict_each_other_are_not_kept(
    ids: list[int] | None, logprobs: list[float] | None, counted: int | None, expected: tuple[object, ...]
) -> None:
    choice = {"text": "a b", "finish_reason": "stop", "token_ids": ids, "logprobs": {"token_logprobs": logprobs}}
    (found,) = read_responses([choice], {"completion_tokens": counted}, is_chat=False)
    assert (found.num_tokens, found.logprob, found.token_ids) == expected


def llama_cpp(**value: float) -> dict[str, object]:
    """A token of three, as llama.cpp's server tells it (tools/server/server-task.cpp, probs_vector_to_json)."""
    return {"id": 5, "token": "a", "bytes": [97], "top_logprobs": [], **value}


@pytest.mark.parametrize(
    ("logprobs", "end", "expected"),
    [
        ({"content": [llama_cpp(logprob=-1.0)] * 3}, "stop", (True, 2, -3.0)),  # llama.cpp before it took OpenAI's form
        ({"content": [llama_cpp(prob=0.5)] * 3}, "stop", (True, 2, None)),  # of what was left after its samplers
        ({"token_logprobs": [-1.0] * 3}, "length", (False, 3, -3.0)),  # vLLM, SGLang, llama.cpp since
        (None, "eos_token", (True, 2, None)),  # text-generation-inference before 2.3 (router's FinishReason)
        (None, "stop_sequence", (True, 2, None)),
        (None, "length", (False, 3, None)),
    ],
)
def test_what_each_kind_of_server_says_of_a_plain_response(
    logprobs: object, end: str, expected: tuple[object, ...]
) -> None:
    choice = {"text": "a b", "finish_reason": end, "logprobs": logprobs}
    (found,) = read_responses([choice], {"completion_tokens": 3}, is_chat=False)
    assert (found.finished, found.num_tokens, found.logprob) == expected

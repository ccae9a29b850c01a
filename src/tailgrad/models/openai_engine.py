"""The engine of a server with an OpenAI-compatible API."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tailgrad.models.breaker import to_terminal
from tailgrad.models.engine import Response
from tailgrad.models.in_flight import InFlight
from tailgrad.models.openai_requests import MAY_BE_LEFT_OUT, Form, optional_fields
from tailgrad.models.server import RefusedError, Server, encodable

_FINISHED: Final = {
    **dict.fromkeys(("stop", "eos_token", "stop_sequence", "tool_calls", "function_call"), True),
    **dict.fromkeys(("length", "content_filter"), False),
}
"""What servers say of how a response ended, and whether it did by itself."""

_APART: Final = ("reasoning_content", "reasoning", "tool_calls")
"""What some servers take out of the text of a message."""

_SUSPICIOUS: Final = 3
"""After so many prompts with equal responses a server seems to choose the likeliest token always, as some do."""


class RefusedPromptError(ValueError):
    """A server will not answer one of the prompts.

    Args:
        where: Names the prompt.
        row: Its place.
        refusal: What the server says.
    """

    def __init__(self, where: str, row: int, refusal: RefusedError) -> None:
        super().__init__(f"{where}: {refusal}")
        self.row, self.reason = row, refusal.reason


class OpenAIEngine:
    """Samples from a server by `/chat/completions` for chats and `/completions` for plain prompts.

    What a server refuses of a request is left out from then on, if nothing that was asked for depends on it; that is
    said once.

    Args:
        server: The server; its address ends with the API's version.
        model: The name by which it knows the policy.
        prompts: The prompts of the data set: strings, or chats.
        n: Responses per prompt.
        settings: What shapes a response; see `request_settings`.
        concurrency: Requests in flight.
        logprobs: Whether log-probabilities are asked for.
        chat_template_kwargs: Arguments of the server's chat template.
        name_of: Names a prompt by its place, in the error where the server refuses it; None: by its row.
    """

    def __init__(
        self,
        server: Server,
        model: str,
        prompts: Sequence[Any],
        *,
        n: int,
        settings: Mapping[str, Any],
        concurrency: int,
        logprobs: bool,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        name_of: Callable[[int], str] | None = None,
    ) -> None:
        self._name_of = name_of or _named_by_row
        self._server, self._prompts, self._n, self._concurrency = server, prompts, n, concurrency
        self._is_chat = not isinstance(prompts[0], str)
        self._path = "/chat/completions" if self._is_chat else "/completions"
        self._body: dict[str, Any] = {"model": model, **settings, "return_token_ids": True}
        if logprobs:
            self._body["logprobs"] = True if self._is_chat else 1
        if chat_template_kwargs:
            self._body["chat_template_kwargs"] = dict(chat_template_kwargs)
        self._optional = optional_fields(self._body)
        self._form, self._lock = Form(at_once=n), threading.Lock()
        self._said: set[str] = set()

    def responses(self, parts: Sequence[range]) -> Iterator[tuple[int, list[Response]]]:
        """Sample these rows of the data set; see `Engine`."""
        rows = (row for part in parts for row in part)
        work = InFlight(rows, self._n, self._ask, at_once=lambda: self._form.at_once, threads=self._concurrency)
        equal: int | None = 0
        for row, found in work:
            if equal is not None:
                equal = equal + 1 if self._n > 1 and len({one.text for one in found}) == 1 else None
            if equal == _SUSPICIOUS:
                self._say(
                    "equal", f"gives {self._n} equal responses to each of the first {equal} prompts: is it sampling?"
                )
            yield row, found

    def replies(self, rows: Iterable[int]) -> Iterator[tuple[int, Response | RefusedPromptError]]:
        """Ask for one response to each of these prompts; one that the server refuses does not end the others.

        Args:
            rows: Places of prompts.

        Yields:
            A place, and the response, or the error that says why there is none.

        Raises:
            RefusedError: The server refuses for another reason than the prompt.
            ServerDownError: It failed too often.
        """

        def ask(row: int, count: int) -> list[Response | RefusedPromptError]:
            try:
                return [*self._ask(row, count)]
            except RefusedPromptError as refusal:
                return [refusal]

        for row, (reply,) in InFlight(rows, 1, ask, at_once=lambda: 1, threads=self._concurrency):
            yield row, reply

    def _ask(self, row: int, count: int) -> list[Response]:
        """Ask for some responses to a prompt, in narrower forms if need be; one or more."""
        form, first = self._form, None
        while True:
            asked = min(count, form.at_once)
            try:
                found = self._server.post(self._path, self._request(row, asked, form), self._read(asked))
                break
            except RefusedError as refusal:
                first = first or refusal
                narrower = form.narrower(refusal, self._optional, asked, self._path)
                if narrower is None:
                    raise self._of_row(row, first) from None
                form = narrower
        if 0 < len(found) < asked:
            form = replace(form, at_once=len(found))
            self._say("n", f"gives {len(found)} of {asked} responses; it is asked for {form.at_once} at once")
        self._keep(form, len(found))
        return found

    def _request(self, row: int, count: int, form: Form) -> dict[str, Any]:
        body = {field: value for field, value in self._body.items() if field not in form.without}
        body[form.length] = body.pop("max_tokens")
        prompt = self._prompts[row]
        return {**body, **({"n": count} if count > 1 else {}), "messages" if self._is_chat else "prompt": prompt}

    def _keep(self, form: Form, given: int) -> None:
        """Ask in this form from now on, and say what is new in it."""
        with self._lock:
            self._form = kept = self._form.learned(form, self._optional, given, self._path)
        for field in sorted(form.without):
            self._say(field, f"does not take {field}; {MAY_BE_LEFT_OUT[field]}")
        if kept.at_once < self._n:
            self._say(
                "n", f"does not take n above {kept.at_once}; it is asked for {_responses(kept.at_once)} at a time"
            )

    def _say(self, what: str, line: str) -> None:
        with self._lock:
            if what in self._said:
                return
            self._said.add(what)
        to_terminal(f"{self._server.url} {line} (said once)")

    def _of_row(self, row: int, refusal: RefusedError) -> ValueError:
        if refusal.status not in (400, 413, 422):
            return refusal
        return RefusedPromptError(self._name_of(row), row, refusal)

    def _read(self, count: int) -> Any:
        """What makes responses of an answer."""

        def read(answer: dict[str, Any]) -> list[Response]:
            choices = answer["choices"]
            if not 1 <= len(choices) <= count:
                raise ValueError(f"{len(choices)} choices where {count} were asked for")
            found = read_responses(choices, answer.get("usage") or {}, is_chat=self._is_chat)
            for apart in kept_apart(choices):
                self._say(apart, f"keeps {apart} apart from the text, which alone is taken")
            return found

        return read


def _responses(count: int) -> str:
    return "one response" if count == 1 else f"{count} responses"


def _named_by_row(row: int) -> str:
    return f"the prompt in row {row} (counted from 0)"


def kept_apart(choices: list[dict[str, Any]]) -> list[str]:
    """Return the names of what a server took out of the texts of its answer.

    Args:
        choices: The answer's.
    """
    return [name for name in _APART if any((choice.get("message") or {}).get(name) for choice in choices)]


def read_responses(choices: list[dict[str, Any]], usage: dict[str, Any], *, is_chat: bool) -> list[Response]:
    """Return the responses of an answer; token counts and log-probabilities only where they fit what is counted.

    Args:
        choices: The answer's.
        usage: What the server counts.
        is_chat: Whether a chat was asked for.

    Returns:
        One response per choice.

    Raises:
        ValueError: A text or a count is none.
    """
    ends = [_FINISHED[choice["finish_reason"]] for choice in choices]
    texts = [(choice["message"]["content"] or "") if is_chat else choice["text"] for choice in choices]
    ids, logprobs = [_token_ids(choice) for choice in choices], [_logprobs(choice) for choice in choices]
    total = usage.get("completion_tokens")
    if not all(isinstance(text, str) for text in texts) or not isinstance(total, int | None):
        raise ValueError("a text that is none, or a number of tokens that is none")
    none: list[None] = [None] * len(choices)
    lengths = [[len(known or []) for known in lists] for lists in (ids, logprobs)]
    has_ids, has_logprobs = _fit(ids, total), _fit(logprobs, total)
    if has_ids and lengths[0] != lengths[1]:
        has_logprobs = False
    counted = lengths[0] if has_ids else lengths[1] if has_logprobs else [total] if len(choices) == 1 else none
    sums = [sum(known or []) for known in logprobs] if has_logprobs else none
    return [
        Response(
            text=encodable(text),
            finished=end,
            num_tokens=None if count is None else max(0, count - end),
            logprob=logprob,
            token_ids=tokens,
        )
        for text, end, count, logprob, tokens in zip(texts, ends, counted, sums, ids if has_ids else none, strict=True)
    ]


def _fit(lists: list[Any], total: Any) -> bool:
    """Whether there is a list for each response, together as long as the server counts."""
    return None not in lists and (total is None or sum(map(len, lists)) == total)


def _logprobs(choice: dict[str, Any]) -> list[float] | None:
    """The log-probability of each token of a response, None where one is missing."""
    given = choice.get("logprobs") or {}
    found = [token.get("logprob") for token in given.get("content") or []] or given.get("token_logprobs")
    return found if found and all(isinstance(one, float | int) and math.isfinite(one) for one in found) else None


def _token_ids(choice: dict[str, Any]) -> list[int] | None:
    found = choice.get("token_ids")
    return found if found and all(isinstance(one, int) for one in found) else None

"""What is asked of a server with an OpenAI-compatible API, and what it may leave out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tailgrad.models.server import RefusedError

_OTHERS: Final = {"min_p": "min_p", "repetition_penalty": "repetition_penalty", "min_new_tokens": "min_tokens"}
"""Settings beyond the API's own that servers take, by transformers' names and by theirs."""

_OFF: Final = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""What is sent of settings that are off, since servers have defaults of their own."""

MAY_BE_LEFT_OUT: Final = {
    "logprobs": "no log-probabilities are kept",
    "return_token_ids": "no token ids are kept",
    "top_k": "its own top_k acts, if it has one",
    "min_p": "its own min_p acts, if it has one",
    "repetition_penalty": "its own repetition_penalty acts, if it has one",
}
"""What of a request a server may refuse, and what follows."""

_LENGTH: Final = {"max_tokens": "max_completion_tokens"}
"""The name of the length limit, and the one by which some servers want it."""


def request_settings(shaping: Mapping[str, Any]) -> dict[str, Any]:
    """Return what shapes a response as a request to a server says it.

    Args:
        shaping: As `tailgrad.rollouts.generation.shaping` gives it.

    Returns:
        Fields of the request.

    Raises:
        ValueError: A setting that cannot be sent acts.

    Examples:
        >>> request_settings({"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8, "min_p": 0.1})
        {'temperature': 1.0, 'top_p': 1.0, 'max_tokens': 8, 'top_k': -1, 'min_p': 0.1, 'repetition_penalty': 1.0}
    """
    known = ("temperature", "top_p", "top_k", "max_new_tokens")
    for name in shaping:
        if name not in (*known, *_OTHERS):
            raise ValueError(
                f"{name} is {shaping[name]!r}, which cannot be sent to a server; allowed are "
                f"{', '.join((*known, *_OTHERS))}. Use --engine transformers, or set it off in --generation_kwargs."
            )
    sent = {"temperature": shaping["temperature"], "top_p": shaping["top_p"], "max_tokens": shaping["max_new_tokens"]}
    sent |= _OFF | ({"top_k": shaping["top_k"]} if shaping["top_k"] else {})
    return sent | {field: shaping[name] for name, field in _OTHERS.items() if name in shaping}


def optional_fields(body: Mapping[str, Any]) -> frozenset[str]:
    """Return the fields of a request that a server may refuse, since nothing that was asked for depends on them.

    Args:
        body: The request.

    Examples:
        >>> sorted(optional_fields({"temperature": 1.0, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.0}))
        ['repetition_penalty', 'top_k']
    """
    asked = {field for field, off in _OFF.items() if body.get(field) != off}
    return frozenset(field for field in MAY_BE_LEFT_OUT if field in body and field not in asked)


@dataclass(frozen=True)
class Form:
    """What a server takes, as far as it has been seen.

    Attributes:
        at_once: Responses that one request may ask for.
        without: Fields that are left out.
        length: The name of the length limit.
        widest: Most responses that one request was answered with; `at_once` is not less.
        answered: Kinds of requests that were answered: the path, and the optional fields that went with it.
    """

    at_once: int
    without: frozenset[str] = frozenset()
    length: str = "max_tokens"
    widest: int = 0
    answered: frozenset[tuple[str, frozenset[str]]] = frozenset()

    def narrower(self, refusal: RefusedError, optional: frozenset[str], asked: int, path: str) -> Form | None:
        """What to try after a refusal: without the field that it names, with half as many responses, or the least.

        Args:
            refusal: The refusal.
            optional: Fields that may be left out.
            asked: Responses that were asked for.
            path: Where.

        Returns:
            A form; None where none is left to try, or where one response was asked for in a way that was answered
            before: then the prompt is to blame.
        """
        if refusal.status not in (400, 422, 501):
            return None
        if self.length in _LENGTH and re.search(rf"\b{_LENGTH[self.length]}\b", refusal.reason):
            return replace(self, length=_LENGTH[self.length])
        left = optional - self.without
        named = {field for field in left if re.search(rf"\b{field}\b", refusal.reason)}
        if named:
            return replace(self, without=self.without | named)
        if asked > 1:
            return replace(self, at_once=asked // 2)
        return replace(self, without=optional) if left and (path, left) not in self.answered else None

    def learned(self, form: Form, optional: frozenset[str], given: int, path: str) -> Form:
        """This form, after a request in another one was answered.

        Args:
            form: The other one.
            optional: As for `narrower`.
            given: Responses that were given.
            path: Where.
        """
        widest = max(self.widest, given)
        return replace(
            form,
            at_once=max(min(self.at_once, form.at_once), widest),
            without=self.without | form.without,
            widest=widest,
            answered=self.answered | {(path, optional - form.without)},
        )

"""A policy behind an OpenAI-compatible server: vLLM, SGLang, or any other."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from tailgrad.models.breaker import FailedError
from tailgrad.models.engine import Response
from tailgrad.models.openai_engine import kept_apart, read_responses
from tailgrad.models.openai_requests import Form, optional_fields, request_settings
from tailgrad.models.server import RefusedError, Server
from tailgrad.rollouts.chats import is_chat
from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.engines import openai_server, own_settings
from tailgrad.rollouts.generation import as_trained
from tailgrad.rollouts.prompts import plain_completions
from tailgrad.serving.policy import Draw, Wish, known_total

Answer = TypeVar("Answer")

AT_ONCE: Final = 32
"""Responses that one request asks for: what fails with it is no more than that."""

_TRIES: Final = 3
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 5.0
"""Most seconds that a server's Retry-After is waited for."""

_OF_THE_REQUEST: Final = (400, 413, 422)
"""Statuses that say that the request is to blame."""


class Backend:
    """Posts JSON to a server from a loop of asyncio; a failure is tried again a few times, not for minutes.

    Args:
        server: The server.
        connections: Requests in flight.
    """

    def __init__(self, server: Server, connections: int) -> None:
        self.server, self._connections = server, connections
        self._clients: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Answer]) -> Answer:
        """Send JSON and return what its answer says.

        Args:
            path: Appended to the address.
            body: What is sent.
            read: As for `Server.post`.

        Returns:
            What `read` returns.

        Raises:
            FailedError: Every try failed.
            RefusedError: The server will not do it.
        """
        for left in reversed(range(_TRIES)):
            try:
                return await self._once(path, body, read)
            except FailedError as error:
                if not left:
                    raise
                wait = _FIRST_WAIT * 2 ** (_TRIES - 1 - left) * random.uniform(0.8, 1.2)
                await asyncio.sleep(max(wait, min(error.wait or 0.0, _LONGEST_WAIT)))
        raise AssertionError

    async def _once(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Answer]) -> Answer:
        import httpx2

        try:
            answer = await self._client().post(self.server.url + path, json=body, headers=self.server.headers)
        except httpx2.TimeoutException:
            raise FailedError(f"no answer within {self.server.timeout:g} seconds") from None
        except httpx2.HTTPError as error:
            raise FailedError(f"the connection failed ({type(error).__name__})") from None
        return self.server.read_answer(path, answer.status_code, answer.content, answer.headers, read)

    async def aclose(self) -> None:
        """Close the connections of this loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _client(self) -> Any:
        """The client of this loop, with the connections that are open in it."""
        import httpx2

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            timeout = httpx2.Timeout(self.server.timeout, connect=min(self.server.timeout, 10.0), pool=None)
            limits = httpx2.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
            self._clients[loop] = httpx2.AsyncClient(timeout=timeout, limits=limits)
        return self._clients[loop]


@dataclass(frozen=True)
class _Part:
    """What some requests gave."""

    responses: tuple[Response, ...] = ()
    reasons: tuple[str, ...] = ()
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    notes: tuple[str, ...] = ()

    def __add__(self, other: _Part) -> _Part:
        return _Part(
            self.responses + other.responses,
            self.reasons + other.reasons,
            known_total([self.prompt_tokens, other.prompt_tokens]),
            known_total([self.completion_tokens, other.completion_tokens]),
            self.notes + other.notes,
        )


class ServedPolicy:
    """A policy that an OpenAI-compatible server runs, which is tried once.

    What the server refuses of a request is left out from then on, if nothing that was asked for depends on it.

    Args:
        config: Names the server, the policy as the server does, and what shapes its responses.

    Raises:
        ValueError: The address is none, the server does not take the key, or a setting cannot be sent to it.
        ServerDownError: There is no such server.
    """

    def __init__(self, config: SampleConfig) -> None:
        self.name = config.model_name_or_path
        self.shaping, self._chat_template_kwargs, _ = as_trained(config, own_settings(config))
        request_settings(self.shaping)  # refuses what cannot be sent
        server = openai_server(str(config.base_url), timeout=config.request_timeout, connections=1)
        self._backend, self._form = Backend(server, config.concurrency), Form(at_once=AT_ONCE)

    async def draw(self, wish: Wish, count: int, first: int) -> Draw:
        """Sample some responses; see `Policy`."""
        part = await self._several(wish, count, first, self._form)
        return Draw(
            responses=list(part.responses),
            completions=plain_completions([wish.prompt], [one.text for one in part.responses]),
            reasons=tuple(dict.fromkeys(part.reasons)),
            prompt_tokens=part.prompt_tokens,
            completion_tokens=part.completion_tokens,
            notes=tuple(dict.fromkeys(part.notes)),
        )

    async def aclose(self) -> None:
        """Close the connections of this loop."""
        await self._backend.aclose()

    async def _several(self, wish: Wish, count: int, first: int, form: Form) -> _Part:
        """Ask for as many at once as the server gives; when one is refused or the task cancelled, so are the others."""
        sizes = [min(form.at_once, count - at) for at in range(0, count, form.at_once)]
        asks = [
            asyncio.ensure_future(self._some(wish, size, first + i * form.at_once, form))
            for i, size in enumerate(sizes)
        ]
        try:
            return sum(await asyncio.gather(*asks), _Part())
        finally:
            for ask in asks:
                ask.cancel()

    async def _some(self, wish: Wish, count: int, first: int, form: Form) -> _Part:
        """Ask for some responses in one request, in narrower forms if need be, and again for what is missing."""
        try:
            part = await self._backend.post(*self._request(wish, count, first, form), self._reader(wish, count))
        except FailedError as error:
            return _Part(reasons=(f"{self._backend.server.url}: {error}",))
        except RefusedError as refusal:
            return await self._narrower(wish, count, first, form, refusal)
        given = len(part.responses)
        if given < count:
            form = replace(form, at_once=given)
        self._form = self._form.learned(form, self._optional(wish), given, self._path(wish))
        if given < count:
            part += await self._several(wish, count - given, first + given, self._form)
        return part

    async def _narrower(self, wish: Wish, count: int, first: int, form: Form, refusal: RefusedError) -> _Part:
        """Ask again in a narrower form: one request first, which tells whether the form or the prompt is to blame."""
        narrower = form.narrower(refusal, self._optional(wish), count, self._path(wish))
        if narrower is None:
            if refusal.status in _OF_THE_REQUEST:
                raise refusal
            return _Part(reasons=(str(refusal),))
        size = min(count, narrower.at_once)
        try:
            part = await self._some(wish, size, first, narrower)
        except RefusedError:
            raise refusal from None
        learned = replace(self._form, at_once=min(size, self._form.at_once)) if part.responses else narrower
        return part + await self._several(wish, count - size, first + size, learned)

    def _path(self, wish: Wish) -> str:
        return "/chat/completions" if is_chat(wish.prompt) else "/completions"

    def _settings(self, wish: Wish) -> dict[str, Any]:
        return request_settings({**self.shaping, **wish.shaping})

    def _optional(self, wish: Wish) -> frozenset[str]:
        return optional_fields(self._settings(wish))

    def _request(self, wish: Wish, count: int, first: int, form: Form) -> tuple[str, dict[str, Any]]:
        without = form.without & self._optional(wish)  # what this wish asks for is sent, and refused
        body = {name: value for name, value in self._settings(wish).items() if name not in without}
        body[form.length] = body.pop("max_tokens")
        body |= {"model": self.name, **({"n": count} if count > 1 else {})}
        body |= {"stop": list(wish.stop)} if wish.stop else {}
        body |= {"seed": wish.seed + first} if wish.seed is not None else {}
        if not is_chat(wish.prompt):
            return self._path(wish), {**body, "prompt": wish.prompt}
        body |= {"chat_template_kwargs": self._chat_template_kwargs} if self._chat_template_kwargs else {}
        return self._path(wish), {**body, "messages": wish.prompt}

    def _reader(self, wish: Wish, count: int) -> Callable[[Any], _Part]:
        def read(answer: dict[str, Any]) -> _Part:
            choices, usage = answer["choices"], answer.get("usage") or {}
            if not 1 <= len(choices) <= count:
                raise ValueError(f"{len(choices)} choices where {count} were asked for")
            found = read_responses(choices, usage, is_chat=is_chat(wish.prompt))
            url = self._backend.server.url
            notes = [f"{url} keeps {one} apart from the text, which alone is taken" for one in kept_apart(choices)]
            return _Part(
                tuple(found), (), _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), tuple(notes)
            )

        return read


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    """A count of a server's; None where it gives none that can be one."""
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else None

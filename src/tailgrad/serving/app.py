"""The routes of `tailgrad serve`, as a Starlette application."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tailgrad.serving.answers import Answer
from tailgrad.serving.errors import ApiError
from tailgrad.serving.page import headers, page
from tailgrad.serving.requests import ChatRequest, TextRequest, read_request
from tailgrad.serving.service import HUNG_UP, Service, seconds_since

BODY_SECONDS: Final = 30.0
"""Most seconds that a client may take to send a request."""

Endpoint = Callable[[HttpRequest], Awaitable[Response]]


def make_app(service: Service) -> Starlette:
    """Return the application.

    Args:
        service: What the routes share.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await service.best_of_n.aclose()

    return Starlette(
        routes=[
            Route("/v1/chat/completions", _completions(service, ChatRequest), methods=["POST"]),
            Route("/v1/completions", _completions(service, TextRequest), methods=["POST"]),
            Route("/v1/models", _for_known(service, lambda: JSONResponse(_models(service)))),
            Route("/metrics", _for_known(service, lambda: PlainTextResponse(service.metrics.text()))),
            Route("/health", _health),
            Route("/", _page),
        ],
        exception_handlers={ApiError: _told, HTTPException: _of_starlette, Exception: _unforeseen},
        lifespan=lifespan,
    )


async def _health(_: HttpRequest) -> Response:
    return JSONResponse({"status": "ok"})


async def _page(_: HttpRequest) -> Response:
    return HTMLResponse(page(), headers=headers())


def _models(service: Service) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [{"id": service.config.name, "object": "model", "created": 0, "owned_by": "tailgrad"}],
    }


def _for_known(service: Service, answer: Callable[[], Response]) -> Endpoint:
    """An answer for clients with a key."""

    async def endpoint(request: HttpRequest) -> Response:
        service.keys.client(request.headers, _address(request))
        return answer()

    return endpoint


def _completions(service: Service, kind: type[ChatRequest] | type[TextRequest]) -> Endpoint:
    """The best of N, with a line in the log and the metrics whatever comes of it."""

    async def endpoint(request: HttpRequest) -> Response:
        begun, number, client, status = time.monotonic(), uuid.uuid4().hex, "unknown", 500
        answer, error = None, None
        try:
            client = service.keys.client(request.headers, _address(request))
            with service.gate.place():
                asked = read_request(await _body(request, service.config.max_body_bytes), kind, service.config)
                answer = await service.answer(asked, client, lambda: _hung_up(request))
            response = _response(answer, number) if answer else Response(status_code=HUNG_UP)
            status = response.status_code
            return response
        except ClientDisconnect:  # while it sent
            status = HUNG_UP
            return Response(status_code=HUNG_UP)
        except ApiError as told:
            status, error = told.status, told
            return JSONResponse(told.content, status, headers={**told.headers, "X-Request-Id": number})
        finally:
            seconds = seconds_since(begun)
            service.metrics.count("tailgrad_requests_total", path=request.url.path, status=str(status))
            service.metrics.took(seconds)
            said = {"id": number, "client": client, "path": request.url.path, "status": status, "seconds": seconds}
            said |= service.journal.of_error(error) | service.journal.of_answer(answer)
            service.journal.write("request", **said)

    return endpoint


def _response(answer: Answer, number: str) -> Response:
    named = {"X-Request-Id": number}
    if not answer.request.stream:
        return JSONResponse(answer.content, headers=named)
    named["Cache-Control"] = "no-cache"
    events = list(answer.events())  # what cannot be told is an error, and not half a stream
    return StreamingResponse(_one_by_one(events), media_type="text/event-stream", headers=named)


async def _one_by_one(events: list[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event


async def _body(request: HttpRequest, most: int) -> bytes:
    """The body of a request, no more of it than allowed and no longer than it may take."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which a web page of another site cannot send unasked
        raise ApiError(415, f"the content type is {kind[:60]!r}; it must be application/json.")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise _too_large(most)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise ApiError(408, f"the request was not complete within {BODY_SECONDS:g} seconds.") from None
    return bytes(data)


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body is larger than {most} bytes (--max_body_bytes).", code="request_too_large")


async def _hung_up(request: HttpRequest) -> None:
    """Wait until the client has hung up; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _address(request: HttpRequest) -> str:
    return request.client.host if request.client else "unknown"


async def _told(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.content, error.status, headers=error.headers)


async def _of_starlette(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: f"there is no {request.url.path[:60]} here", 405: f"{request.method} is not what this path takes"}
    told = ApiError(error.status_code, f"{words.get(error.status_code, error.detail)}.")
    return JSONResponse(told.content, told.status, headers=dict(error.headers or {}))


async def _unforeseen(_: HttpRequest, __: Exception) -> Response:
    told = ApiError(500, "an error that nobody foresaw: the server's log has it.", code="internal_error")
    return JSONResponse(told.content, told.status)

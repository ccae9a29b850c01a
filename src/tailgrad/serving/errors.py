"""Errors as OpenAI's API tells them."""

from __future__ import annotations

from typing import Any, Final

_TYPES: Final = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer that says in one line what is wrong.

    Args:
        status: The HTTP status.
        message: What was given, what is allowed, what to do.
        param: The field of the request that is to blame.
        code: A word for programs.
        retry_after: Seconds after which another try makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = _TYPES.get(self.status) or ("invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return headers | ({} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))})


def shutting_down() -> ApiError:
    """Return what is said to who comes or waits when the server ends."""
    return ApiError(503, "the server is shutting down: try again later.", code="shutting_down", retry_after=5)

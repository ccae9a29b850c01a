"""A server that answers JSON with JSON: timeouts, retries, and errors in one line."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from tailgrad.models.breaker import Breaker, FailedError, ServerDownError

Answer = TypeVar("Answer")

_TRIED_AGAIN: Final = (408, 425, 429)
_LONGEST_ASKED: Final = 600.0
"""Most seconds that a server's Retry-After is waited for."""


class RefusedError(ValueError):
    """A server's answer that it will not do what it was asked.

    Args:
        where: The address.
        status: The HTTP status.
        reason: What the server says.
    """

    def __init__(self, where: str, status: int, reason: str) -> None:
        super().__init__(f"{where} refuses with {status}: {reason}")
        self.status, self.reason = status, reason


def check_url(url: str, option: str) -> str:
    """Refuse what is no address of a server, or carries a secret.

    Args:
        url: The address.
        option: The option that gives it.

    Returns:
        It without a slash at the end.

    Raises:
        ValueError: It is none of http or https, or has a user, a password, a query or a fragment.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{option} is {url!r}; it must be an address such as http://localhost:8000.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"{option} has more than an address and a path ({parts.scheme}://{parts.hostname}...): give a key in an "
            "environment variable, and leave out what follows ? or #."
        )
    return url.rstrip("/")


class Server:
    """A server that is sent JSON. It may be used by several threads.

    A try that fails is repeated: no connection, no answer in time, the statuses 408, 425, 429 and 5xx, or an answer
    that cannot be read. How long it waits is decided by one circuit breaker for all.

    Args:
        url: The address that paths are appended to.
        timeout: Seconds until a try has failed.
        key_variable: Environment variable with the key that is sent, if it is set; the key is kept nowhere else.
        connections: Requests in flight at once.
        breaker: The circuit breaker; None makes one.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        key_variable: str,
        connections: int = 1,
        breaker: Breaker | None = None,
    ) -> None:
        import urllib3

        self.url, self.timeout, self._key_variable = url, timeout, key_variable
        self.breaker = breaker or Breaker(url)
        parts = urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            self._pool: Any = urllib3.ProxyManager(proxy, maxsize=connections)
        else:
            self._pool = urllib3.PoolManager(maxsize=connections)

    def __repr__(self) -> str:
        return f"Server({self.url!r})"

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries, the key included."""
        key = os.environ.get(self._key_variable)
        own = {"Content-Type": "application/json", "Accept": "application/json"}
        return own | ({"Authorization": f"Bearer {key}"} if key else {})

    def reach(self, path: str = "") -> None:
        """Try once whether the server is there and takes the key.

        Args:
            path: Appended to the address; whether there is something is not asked.

        Raises:
            ServerDownError: There is no connection or no answer.
            RefusedError: It does not take the key.
        """
        try:
            status, answer, _ = self._exchange("GET", path, None)
        except FailedError as error:
            raise ServerDownError(f"{self.url}: {error}. Is the server running, and is this its address?") from None
        if status in (401, 403):
            raise self._refused(path, status, answer)

    def post(self, path: str, body: dict[str, Any], read: Callable[[Any], Answer]) -> Answer:
        """Send JSON and return what its answer says.

        Args:
            path: Appended to the address.
            body: What is sent.
            read: Makes of the answer's JSON what is returned; what it raises is an answer that cannot be read.

        Returns:
            What `read` returns.

        Raises:
            ServerDownError: It failed too often.
            RefusedError: The server will not do it.
        """
        data = json.dumps(body).encode()
        for _ in range(self.breaker.limit + 1):  # the last turn is none where it failed for all
            try:
                with self.breaker.turn():
                    return self.read_answer(path, *self._exchange("POST", path, data), read)
            except FailedError as error:
                reason = str(error)
        raise ServerDownError(
            f"{self.url}{path}: {reason}; one request failed {self.breaker.limit + 1} times. What is finished is kept: "
            "the same command goes on."
        )

    def _exchange(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes, Any]:
        """Send a request once; what the server answers, whatever that is."""
        import urllib3
        from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError, SSLError

        timeout = urllib3.Timeout(connect=min(self.timeout, 10.0), read=self.timeout)
        try:
            answer = self._pool.request(
                method, self.url + path, body=data, headers=self.headers, timeout=timeout, retries=False, redirect=False
            )
        except SSLError as error:
            raise ValueError(f"{self.url}: no secure connection ({_plain(str(error))}).") from None
        except ReadTimeoutError:
            raise FailedError(f"no answer within {self.timeout:g} seconds") from None
        except NewConnectionError as error:
            raise FailedError(_plain(str(error).rpartition(": ")[2].rpartition("] ")[2]).lower()) from None
        except HTTPError as error:
            raise FailedError(f"the connection was lost ({type(error).__name__})") from None
        return answer.status, answer.data, answer.headers

    def read_answer(self, path: str, status: int, data: bytes, headers: Any, read: Callable[[Any], Answer]) -> Answer:
        """Return what an answer says, for who has exchanged it by other means too.

        Args:
            path: What was asked, appended to the address.
            status: The HTTP status.
            data: The body.
            headers: The headers.
            read: As for `post`.

        Returns:
            What `read` returns.

        Raises:
            FailedError: The try failed and may be repeated.
            RefusedError: The server will not do it.
        """
        if status in _TRIED_AGAIN or (status >= 500 and status != 501):
            raise FailedError(f"{status} {self._reason(data)}".strip(), _asked_wait(headers.get("Retry-After")))
        if not 200 <= status < 300:
            raise self._refused(path, status, data)
        try:
            content = json.loads(data)
        except ValueError:
            raise FailedError(f"the answer is no JSON ({self._scrubbed(data)[:60]!r})") from None
        try:
            return read(content)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise FailedError(f"the answer is not what it should be ({type(error).__name__}: {error})") from None

    def _refused(self, path: str, status: int, data: bytes) -> RefusedError:
        hint = f" (the key is read from {self._key_variable})" if status in (401, 403) else ""
        return RefusedError(f"{self.url}{path}", status, (self._reason(data) or "no reason given") + hint)

    def _reason(self, data: bytes) -> str:
        """What a server says of an error, in one line."""
        text = self._scrubbed(data)
        try:
            said = json.loads(text)
        except ValueError:
            return _plain(text)
        for name in ("error", "message", "detail"):
            said = said.get(name, said) if isinstance(said, dict) else said
        return _plain(said if isinstance(said, str) else json.dumps(said))

    def _scrubbed(self, data: bytes) -> str:
        text, key = data.decode(errors="replace"), os.environ.get(self._key_variable)
        return text.replace(key, "***") if key else text


def encodable(text: str) -> str:
    """Return a text without half of a pair of surrogates, which JSON can say and no file can hold: U+FFFD instead.

    Args:
        text: The text.

    Examples:
        >>> encodable("a" + chr(0xD800) + "b") == "a" + chr(0xFFFD) + "b"
        True
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(text: str) -> str:
    line = " ".join(encodable(text).split())
    return f"{line[:297]}..." if len(line) > 300 else line


def _asked_wait(value: str | None) -> float | None:
    """The seconds of a Retry-After, which may also be a date; None where there is none that can be read."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return None if value is None else min(max(0.0, Retry().parse_retry_after(value)), _LONGEST_ASKED)
    except InvalidHeader:
        return None

"""Who may ask: keys, and the names that a browser may know this machine by."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Final

from tailgrad.serving.config import ServeConfig, is_loopback
from tailgrad.serving.errors import ApiError

KEYS: Final = "TAILGRAD_API_KEY"
"""Environment variable with the keys of the clients, joined by commas."""

SHORTEST: Final = 16
"""Fewest characters of a key."""


class Keys:
    """The keys that clients are let in with; only their hashes are kept.

    Args:
        config: Says where the server listens.

    Raises:
        ValueError: A key is short, or there is none and others than this machine can reach the server.
    """

    def __init__(self, config: ServeConfig) -> None:
        keys = [key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()]
        if any(len(key) < SHORTEST for key in keys):
            raise ValueError(f"a key in {KEYS} has fewer than {SHORTEST} characters: take `openssl rand -hex 32`.")
        if not keys and not config.is_local and not config.allow_no_key:
            raise ValueError(
                f"host is {config.host!r}, which others can reach, and there is no key: put one into {KEYS} "
                "(`openssl rand -hex 32`), or say --allow_no_key true."
            )
        self._hashes = [_hash(key) for key in keys]
        self._local = config.is_local

    def client(self, headers: Mapping[str, str], address: str) -> str:
        """Return who asks, in a few letters: of the key, or else the address.

        Args:
            headers: Of the request.
            address: Where it comes from.

        Raises:
            ApiError: The key is none of ours; or there are no keys, and the request was meant for another machine, as
                those that a web page makes a browser send.
        """
        if not self._hashes:
            self._check_host(headers.get("host", ""))
            return address
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = _hash(key.strip())
        known = [hmac.compare_digest(given, one) for one in self._hashes]  # all of them, which takes the same time
        if scheme.lower() != "bearer" or not any(known):
            raise ApiError(
                401, "the API key is missing or wrong: send it as 'Authorization: Bearer KEY'.", code="invalid_api_key"
            )
        return given.hex()[:8]

    def _check_host(self, host: str) -> None:
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._local and not is_loopback(name.strip("[]")):
            raise ApiError(421, f"the host {host[:60]!r} is not this machine: ask 127.0.0.1 or localhost.")


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

"""Whether responses were drawn from the policy itself, or from what other settings made of it."""

from collections.abc import Mapping
from typing import Any

_PLAIN = {"top_p": (1, None), "top_k": (0, None)}
_NO_SHAPE = ("n", "temperature", "max_new_tokens")


def beyond_temperature(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Give what shaped responses besides temperature and length limit: `logprob` knows nothing of it.

    Args:
        sampling: `sampling` of a rollout table's metadata; it holds what acted.

    Returns:
        The settings; empty if each token was drawn from the policy's whole distribution at the temperature.

    Examples:
        >>> beyond_temperature({"n": 8, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "min_p": 0.1})
        {'min_p': 0.1}
    """
    acting = {key: value for key, value in sampling.items() if key not in _NO_SHAPE}
    return {key: value for key, value in acting.items() if value not in _PLAIN.get(key, ())}


def is_the_policy(sampling: Mapping[str, Any]) -> bool:
    """Whether responses were drawn from the policy itself: temperature 1 and nothing else.

    Args:
        sampling: `sampling` of a rollout table's metadata; it holds what acted.

    Returns:
        True if `logprob` is the log-probability under which each response was drawn; False where that is not known.

    Examples:
        >>> is_the_policy({"temperature": 1.0, "top_p": 1.0, "top_k": 0})
        True
    """
    known = all(key in sampling for key in ("temperature", *_PLAIN))
    return known and sampling["temperature"] == 1 and not beyond_temperature(sampling)

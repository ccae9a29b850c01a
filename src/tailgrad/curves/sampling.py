"""Whether responses were drawn from the policy at a temperature, or from what other settings made of it."""

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


def by_temperature_alone(sampling: Mapping[str, Any]) -> bool:
    """Whether nothing but a temperature shaped the responses, so that `logprob` is what each was drawn with.

    Args:
        sampling: `sampling` of a rollout table's metadata; it holds what acted.

    Returns:
        False also where that is not known.

    Examples:
        >>> by_temperature_alone({"temperature": 0.7, "top_p": 1.0, "top_k": 0})
        True
    """
    return all(key in sampling for key in ("temperature", *_PLAIN)) and not beyond_temperature(sampling)

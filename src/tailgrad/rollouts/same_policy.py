"""Is this the policy that sampled a table? By the log-probabilities of its responses, told apart from rounding."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tailgrad.curves import Rollouts
from tailgrad.identity import model_sha256
from tailgrad.models.loading import load_policy
from tailgrad.models.logprobs import response_logprobs

_PROBE = 128
"""Responses that are looked at before anything else, spread over all prompts."""

_EXACT = 1e-3
"""How far log-probabilities in float32 may be apart, in nats per token."""

_OF_SERVERS = "bfloat16"
"""What a server is taken to compute in, which does not say it."""

_ROUNDING, _ROUNDING_SAME_FILES, _ROUNDING_ONE_PROMPT = 3.0, 10.0, 3.0
"""How many times the model's own rounding is allowed: by all prompts; where its files are those that sampled; and how
much more of it for a single prompt."""


@dataclass(frozen=True)
class PolicyCheck:
    """Compares log-probabilities of a policy with those in a table.

    Two computations in float32 agree in every response. A table in lower precision is rounded: each token by an error
    of its own, so that a response of L tokens is off by about sqrt(L) of it, and a few by much more. What is compared
    is therefore the median of |difference| / sqrt(L), with that of the same model rounded in the same way.

    Attributes:
        model: Name of the policy, for messages.
        table: Name of the table, for messages.
        sampled_from: The policy that sampled it, by name.
        dtype: What the table was sampled in.
        rounding: Median of |rounding error| / sqrt(L) of this model in that dtype, in nats; 0 in float32.
        allowed: How many times that is allowed.
    """

    model: str
    table: str
    sampled_from: str | None
    dtype: str
    rounding: float
    allowed: float

    def check(
        self, difference: Float[np.ndarray, " b"], lengths: Int[np.ndarray, " b"], *, one_prompt: bool = False
    ) -> None:
        """Refuse a policy whose log-probabilities are not those in the table.

        Args:
            difference: Log-probability minus that in the table, in nats.
            lengths: Tokens of each response.
            one_prompt: Whether all are responses to one prompt, whose rounding may be more than the usual.

        Raises:
            ValueError: They differ by more than rounding.
        """
        if self.dtype == "float32":
            worst = float(np.abs(difference / lengths).max())
            self._require(worst <= _EXACT, f"by up to {worst:.3g} nats per token where both are computed in float32")
            return
        typical = _spread(difference, lengths)
        allowed = max(_EXACT, self.allowed * self.rounding) * (_ROUNDING_ONE_PROMPT if one_prompt else 1)
        self._require(
            typical <= allowed,
            f"by {typical:.3g} nats per root of a token in the median; {self.dtype} explains {self.rounding:.3g}",
        )

    def _require(self, same: bool, difference: str) -> None:
        if not same:
            raise ValueError(
                f"model {self.model!r} is not the policy that sampled {self.table!r}: the log-probabilities of the "
                f"same responses differ {difference}. Give the policy that the table was sampled from "
                f"({self.sampled_from!r})."
            )


def check_policy(
    model: Any,
    prompt_token_ids: Sequence[list[int]],
    table: Rollouts,
    *,
    names: tuple[str, str],
    options: dict[str, Any],
    batch_size: int,
    dtype: str = "float32",
) -> PolicyCheck:
    """Refuse a policy that did not sample a table, by a few responses to all prompts, before long work starts.

    Args:
        model: The policy in float32.
        prompt_token_ids: The tokens of the table's prompts.
        table: The table, with token ids.
        names: Names of the policy and of the table.
        options: `revision` and `device` of the policy.
        batch_size: Most responses at once.
        dtype: What the policy computes in afterwards, if less precise.

    Returns:
        The check, for the rest of the table: it allows for the rounding of that dtype, too.

    Raises:
        ValueError: It is another policy.
    """
    count, n = table.rewards.shape
    at = np.unique(np.linspace(0, count * n - 1, min(_PROBE, count * n)).astype(int))
    prompts = [prompt_token_ids[i // n] for i in at]
    responses = [table.known("token_ids")[i // n, i % n].tolist() for i in at]
    how = {"temperature": table.metadata["sampling"]["temperature"], "batch_size": batch_size}
    exact = response_logprobs(model, prompts, responses, **how)
    lengths, recorded = np.array([len(ids) for ids in responses]), table.metadata.get("dtype", "float32") or _OF_SERVERS
    rounding = {"float32": 0.0}
    for coarse in {recorded, dtype} - {"float32"}:
        rounded, _ = load_policy(names[0], dtype=coarse, **options)
        rounding[coarse] = _spread(response_logprobs(rounded, prompts, responses, **how) - exact, lengths)
    ours, theirs = model_sha256(names[0]), table.metadata.get("model_files")
    allowed = _ROUNDING_SAME_FILES if ours is not None and ours == theirs else _ROUNDING
    check = PolicyCheck(*names, table.metadata.get("model"), recorded, rounding[recorded], allowed)
    check.check(exact - table.known("logprobs").ravel()[at], lengths)
    if recorded != "float32" and ours is not None and theirs is not None and ours != theirs:
        warnings.warn(
            f"model {names[0]!r} agrees with {names[1]!r} as far as {recorded} can tell, but its files are not those "
            "that the table was sampled with: a policy that is but a small step away cannot be told from it.",
            stacklevel=2,
        )
    coarsest = max((recorded, dtype), key=rounding.__getitem__)
    return replace(check, dtype=coarsest, rounding=rounding[coarsest])


def _spread(difference: Float[np.ndarray, " b"], lengths: Int[np.ndarray, " b"]) -> float:
    return float(np.median(np.abs(difference) / np.sqrt(lengths)))

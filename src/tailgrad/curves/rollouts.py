"""One policy's responses to a set of prompts, with their rewards, as every part of the library takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped

from tailgrad.curves.best_of_n import best_of_n
from tailgrad.curves.given import check_given, unmasked
from tailgrad.curves.reference import Reference
from tailgrad.curves.sampling import by_temperature_alone
from tailgrad.curves.settings import settings_of

Later = Callable[[], Any]
"""Reads a column when it is first used; what it returns is what could have been given in its place."""


class Rollouts:
    """One policy's n responses to each of P prompts. Only the rewards are needed; what is not given is unknown.

    `tailgrad.rollouts.read_rollouts` makes them from a file; each column is then read when it is first used. Rollouts
    that share a name are training seeds of one method.

    Args:
        rewards: `[P, n]`, NaN where a response is unscored. This, and all from `selection_rewards` on, may also be a
            function without arguments that reads it, called when it is first used.
        name: The name in figures and tables.
        prompt_ids: One number or text per prompt, `[P]`, equal between rollouts on the same prompts; None: 0, 1, ...
        prompts: The P prompts; the JSON of its messages for a chat.
        counts: Number of responses to each prompt, `[P]`, if prompts have different numbers. The rest of a row is then
            padding, with NaN in `rewards`. None: n to each.
        metadata: How the responses were sampled and scored, as `tailgrad sample` records it; {} where unknown.
        selection_rewards: What the best response is picked by, `[P, n]`, if that is another reward; None: `rewards`.
            NaN is a response that cannot be picked.
        num_tokens: Tokens of each response without the end token, `[P, n]`.
        finished: False where a response was cut off, `[P, n]`.
        logprobs: Sum of the log-probabilities (nats) of each response's tokens, end token included, `[P, n]`.
        reference_logprobs: The same under the reference policy.
        kl: KL divergence to the reference policy at each prompt, in nats, `[P]`; None: from the log-probabilities
            where they tell.
        responses: The responses to each prompt.
        distinct: Number of different responses to each prompt, `[P]`; None: counted where there are `responses`.
        token_ids: The tokens of each response, end token included: arrays of int32 in an array of objects `[P, n]`.

    Raises:
        ValueError: If the shapes disagree, there are no prompts or responses, prompt ids repeat, or a reward
            is infinite.

    Examples:
        >>> rollouts = Rollouts(np.array([[0.0, 1.0], [1.0, 1.0]]), name="base")
        >>> rollouts.n, rollouts.best_of_n([1, 2]).mean(axis=0)
        (2, array([0.75, 1.  ]))
    """

    def __init__(
        self,
        rewards: Real[np.ndarray, "P n"] | Bool[np.ndarray, "P n"] | Later,
        *,
        name: str = "rollouts",
        prompt_ids: Shaped[np.ndarray, " P"] | None = None,
        prompts: Sequence[str] | None = None,
        counts: Int[np.ndarray, " P"] | None = None,
        metadata: Mapping[str, Any] | None = None,
        selection_rewards: Real[np.ndarray, "P n"] | Later | None = None,
        num_tokens: Real[np.ndarray, "P n"] | Later | None = None,
        finished: Bool[np.ndarray, "P n"] | Later | None = None,
        logprobs: Float[np.ndarray, "P n"] | Later | None = None,
        reference_logprobs: Float[np.ndarray, "P n"] | Later | None = None,
        kl: Float[np.ndarray, " P"] | Later | None = None,
        responses: Sequence[Sequence[str]] | Later | None = None,
        distinct: Int[np.ndarray, " P"] | Later | None = None,
        token_ids: Shaped[np.ndarray, "P n"] | Later | None = None,
    ) -> None:
        self.name = name
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._given: dict[str, Any] = {
            "rewards": rewards if callable(rewards) else unmasked(rewards).astype(np.float64),
            "selection_rewards": selection_rewards,
            "num_tokens": num_tokens,
            "finished": finished,
            "logprobs": logprobs,
            "reference_logprobs": reference_logprobs,
            "kl": kl,
            "responses": responses,
            "distinct": distinct,
            "token_ids": token_ids,
            "prompt_ids": prompt_ids,
            "prompts": prompts,
            "counts": counts,
        }
        check_given(name, self._given)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what was given; a column that is read later may turn out to be unknown."""
        return tuple(key for key, value in self._given.items() if value is not None)

    def known(self, column: str) -> Any:
        """Give a column that must be known.

        Args:
            column: Its name.

        Raises:
            ValueError: It is unknown.
        """
        if (value := getattr(self, column)) is None:
            raise ValueError(f"rollouts {self.name!r} lack the {column}, which are needed here.")
        return value

    @property
    def n(self) -> int:
        """Responses per prompt; of the prompt that has most where they differ."""
        return int(self.rewards.shape[1])

    @cached_property
    def prompt_ids(self) -> Shaped[np.ndarray, " P"]:
        """What tells the prompts apart, also between rollouts."""
        given = self._given["prompt_ids"]
        return np.arange(len(self.rewards)) if given is None else np.asarray(given)

    @cached_property
    def prompts(self) -> list[str] | None:
        """The prompts."""
        given = self._given["prompts"]
        return None if given is None else list(given)

    @cached_property
    def rewards(self) -> Float[np.ndarray, "P n"]:
        """NaN where unscored."""
        rewards: np.ndarray = self._read("rewards")
        return rewards

    @cached_property
    def selection_rewards(self) -> Real[np.ndarray, "P n"] | None:
        """What the best response is picked by where that is not `rewards`, NaN where unscored; None if it is."""
        return self._read_array("selection_rewards")

    @cached_property
    def num_tokens(self) -> Real[np.ndarray, "P n"] | None:
        """Response tokens without the end token; None if unknown, as all below."""
        return self._read_array("num_tokens")

    @cached_property
    def finished(self) -> Bool[np.ndarray, "P n"] | None:
        """False where the response was cut off."""
        return self._read_array("finished")

    @cached_property
    def logprobs(self) -> Float[np.ndarray, "P n"] | None:
        """Sum of log-probabilities (nats) of the response's tokens, end token included."""
        return self._read_array("logprobs")

    @cached_property
    def reference_logprobs(self) -> Float[np.ndarray, "P n"] | None:
        """The same under the reference policy."""
        return self._read_array("reference_logprobs")

    @cached_property
    def token_ids(self) -> Shaped[np.ndarray, "P n"] | None:
        """The tokens of each response, end token included; the text does not give them back."""
        return self._read_array("token_ids")

    @cached_property
    def responses(self) -> list[list[str]] | None:
        """The responses to each prompt."""
        texts: list[list[str]] | None = self._read("responses")
        return texts

    @cached_property
    def distinct(self) -> Int[np.ndarray, " P"] | None:
        """Number of different responses to each prompt."""
        known = self._read_array("distinct")
        if known is None and (texts := self._read("responses")) is not None:
            return np.array([len(set(of_prompt)) for of_prompt in texts])
        return known

    @cached_property
    def kl(self) -> Float[np.ndarray, " P"] | None:
        """KL divergence to the reference policy at each prompt, in nats.

        It is the mean over the responses of log policy(y|x) - log reference(y|x), both at the temperature of the
        sampling, and known where both are and nothing else shaped the responses.
        """
        known = self._read_array("kl")
        if known is not None or not by_temperature_alone(self.metadata.get("sampling", {})):
            return known
        ours, theirs = self._read("logprobs"), self._read("reference_logprobs")
        return None if ours is None or theirs is None else np.mean(ours - theirs, axis=1, where=self._there)

    @cached_property
    def counts(self) -> Int[np.ndarray, " P"]:
        """Number of responses to each prompt."""
        given = self._given["counts"]
        return np.full(len(self.prompt_ids), self.n) if given is None else np.asarray(given)

    @property
    def sampling(self) -> dict[str, Any]:
        """What must agree between rollouts that are compared, as far as the metadata record it."""
        return settings_of(self.metadata)

    @property
    def reference(self) -> Reference | None:
        """What `kl` is to; None if unknown."""
        name = self.metadata.get("reference")
        content = self.metadata.get("reference_files") or self.metadata.get("reference_revision")
        return None if name is None else Reference(name, content)

    def best_of_n(self, budgets: Sequence[int]) -> Float[np.ndarray, "P K"]:
        """V_N of every prompt at every budget, with the best response picked by `selection_rewards`; see `best_of_n`.

        Args:
            budgets: Values of N, from 1 to n.
        """
        return best_of_n(self.rewards, budgets, selection=self.selection_rewards)

    def measures(self) -> dict[str, Float[np.ndarray, " P"]]:
        """Give what is reported beside V_N, at each prompt, as far as it is known.

        Returns:
            `kl` in nats, `response_length` in tokens, and three shares of the responses: `distinct`
            (number of different texts over that of responses), `cut_off` (not finished) and `unscored` (without a
            reward, or without the one that picks).

        Examples:
            >>> Rollouts(np.array([[0.0, np.nan]]), distinct=np.array([1])).measures()
            {'distinct': array([0.5]), 'unscored': array([0.5])}
        """
        unscored = np.isnan(self.rewards)
        if self.selection_rewards is not None:
            unscored |= np.isnan(self.selection_rewards)
        finished = self._mean("finished")
        found = {
            "kl": self.kl,
            "response_length": self._mean("num_tokens"),
            "distinct": None if self.distinct is None else self.distinct / self.counts,
            "cut_off": None if finished is None else 1.0 - finished,
            "unscored": np.mean(unscored, axis=1, where=self._there),
        }
        return {key: value for key, value in found.items() if value is not None}

    def take(self, rows: Int[np.ndarray, " Q"]) -> Rollouts:
        """Give the rollouts of some of the prompts.

        Args:
            rows: Places of the prompts, in the order wanted.

        Examples:
            >>> Rollouts(np.array([[0.0], [1.0], [2.0]])).take(np.array([2, 0])).prompt_ids
            array([2, 0])
        """
        later = {key: partial(self._taken, key, rows) for key in self._given}
        now = {key: self._taken(key, rows) for key in ("prompts", "counts")}
        return self.replace(**later | now | {"prompt_ids": self.prompt_ids[rows]})

    def replace(self, **changes: Any) -> Rollouts:
        """Give the same rollouts with other values for some of the arguments.

        Args:
            changes: Arguments of the class.

        Examples:
            >>> Rollouts(np.array([[0.0]])).replace(name="tea").name
            'tea'
        """
        known: dict[str, Any] = {
            key: None if value is None else self.__dict__.get(key, value) for key, value in self._given.items()
        }
        return Rollouts(**known | {"name": self.name, "metadata": self.metadata} | changes)

    @property
    def _there(self) -> Any:
        """Where a response is and no padding, for numpy's `where`."""
        return True if self._given["counts"] is None else np.arange(self.n) < self.counts[:, None]

    def _read(self, key: str) -> Any:
        """A column as it was given or is read now; it is kept only where it was asked for by its own name."""
        value = self.__dict__.get(key, self._given[key])
        return value() if callable(value) else value

    def _read_array(self, key: str) -> np.ndarray | None:
        value = self._read(key)
        return None if value is None else np.asarray(value)

    def _mean(self, key: str) -> np.ndarray | None:
        """Mean of a column over the responses to each prompt."""
        values = self._read_array(key)
        return None if values is None else np.asarray(np.mean(values, axis=1, where=self._there))

    def _taken(self, key: str, rows: np.ndarray) -> Any:
        values = self._read(key)
        if values is None or isinstance(values, np.ndarray):
            return None if values is None else values[rows]
        return [values[row] for row in rows]

"""The responses of one policy to the evaluation prompts, as every part of the evaluation takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped

from tailgrad.curves.best_of_n import best_of_n
from tailgrad.curves.sampling import is_the_policy
from tailgrad.curves.settings import settings_of

_REPORTED = ("kl", "response_length", "distinct", "cut_off", "unscored")


@runtime_checkable
class Table(Protocol):
    """What a rollout table offers: n responses to each of P prompts, with what is known about them."""

    @property
    def metadata(self) -> dict[str, Any]:
        """How the responses were sampled."""

    @property
    def prompt_ids(self) -> Shaped[np.ndarray, " P"]:
        """One number or name per prompt."""

    @property
    def prompts(self) -> list[str]:
        """The prompts."""

    @property
    def distinct(self) -> Int[np.ndarray, " P"]:
        """Number of different responses to each prompt."""

    @property
    def rewards(self) -> Float[np.ndarray, "P n"]:
        """NaN where unscored."""

    @property
    def selection_rewards(self) -> Float[np.ndarray, "P n"] | None:
        """What the best response is picked by; None: `rewards`."""

    @property
    def num_tokens(self) -> Int[np.ndarray, "P n"]:
        """Tokens of each response."""

    @property
    def finished(self) -> Bool[np.ndarray, "P n"]:
        """False where a response was cut off."""

    @property
    def logprobs(self) -> Float[np.ndarray, "P n"]:
        """Log-probability of each response under the policy."""

    @property
    def reference_logprobs(self) -> Float[np.ndarray, "P n"] | None:
        """The same under the reference policy; None if there was none."""


class Reference(NamedTuple):
    """The reference policy that a KL divergence is to.

    Attributes:
        name: Its name.
        content: A hash of its files, or its revision on the hub; None where unknown.
    """

    name: str
    content: str | None

    def same_as(self, other: "Reference | None") -> bool:
        """Whether two are the same policy: by content where both have a hash, else by name."""
        if other is None:
            return False
        if self.content is None or other.content is None:
            return self.name == other.name
        return self.content == other.content


@dataclass(frozen=True, eq=False)
class Run:
    """One policy's n responses to each of P prompts. Runs that share a name are training seeds of one method.

    Attributes:
        name: The name in figures and tables.
        prompt_ids: One number or name per prompt, `[P]`, equal between runs on the same prompts.
        prompts: The P prompts as text.
        rewards: `[P, n]`, NaN where a response is unscored.
        distinct: Number of different responses to each prompt, `[P]`; None if unknown.
        num_tokens: Tokens of each response, `[P, n]`; None if unknown.
        finished: False where a response was cut off, `[P, n]`; None if unknown.
        kl: KL divergence to the reference policy at each prompt, in nats, `[P]`; None if unknown.
        sampling: What must agree between runs that are compared: n, temperature, reward, data set and so on; {} if it
            is not recorded.
        selection: What the best response is picked by, `[P, n]`, where that is another reward; None: `rewards`. NaN is
            a response that cannot be picked.
        reference: What `kl` is to; None if unknown.

    Raises:
        ValueError: If the shapes disagree, there are no prompts or responses, prompt ids repeat, or a reward
            is infinite.

    Examples:
        >>> rewards = np.array([[0.0, 1.0], [1.0, 1.0]])
        >>> run = Run("base", prompt_ids=np.array([0, 1]), prompts=["2 + 2 =", "3 + 4 ="], rewards=rewards)
        >>> run.n
        2
    """

    name: str
    prompt_ids: Shaped[np.ndarray, " P"]
    prompts: Sequence[str]
    rewards: Real[np.ndarray, "P n"]
    distinct: Int[np.ndarray, " P"] | None = None
    num_tokens: Real[np.ndarray, "P n"] | None = None
    finished: Bool[np.ndarray, "P n"] | None = None
    kl: Float[np.ndarray, " P"] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    selection: Real[np.ndarray, "P n"] | None = None
    reference: Reference | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.rewards)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(
                f"run {self.name!r}: rewards must be [P, n] with at least one prompt and one response, got {shape}."
            )
        if np.isinf(self.rewards).any():
            raise ValueError(f"run {self.name!r}: a reward is infinite; use NaN for an unscored response.")
        expected: dict[str, tuple[Any, tuple[int, ...]]] = {
            "prompt_ids": (self.prompt_ids, shape[:1]),
            "prompts": (self.prompts, shape[:1]),
            "distinct": (self.distinct, shape[:1]),
            "num_tokens": (self.num_tokens, shape),
            "finished": (self.finished, shape),
            "kl": (self.kl, shape[:1]),
            "selection": (self.selection, shape),
        }
        for attribute, (value, wanted) in expected.items():
            if value is not None and np.shape(value) != wanted:
                raise ValueError(
                    f"run {self.name!r}: {attribute} has shape {np.shape(value)}, but rewards "
                    f"{shape} asks for {wanted}."
                )
        if len(np.unique(self.prompt_ids)) < shape[0]:
            raise ValueError(f"run {self.name!r}: prompt ids repeat; give every prompt its own number.")

    @property
    def n(self) -> int:
        """Responses a prompt."""
        return int(self.rewards.shape[1])

    @classmethod
    def from_table(cls, name: str, table: Table) -> "Run":
        """Make a run of a rollout table, as `tailgrad.rollouts.table.read_table` gives it.

        The KL divergence at a prompt is the mean over its n responses of log policy(y|x) - log
        reference(y|x). It is known where the table has the reference policy's log-probabilities and the
        responses were drawn from the policy itself: temperature 1, top_p 1, top_k 0, nothing else.

        Args:
            name: The name in figures and tables.
            table: The rollout table.

        Returns:
            The run.

        Raises:
            ValueError: As for the class.

        Examples:
            >>> from types import SimpleNamespace
            >>> one = np.ones((1, 2))
            >>> table = SimpleNamespace(
            ...     metadata={"sampling": {"temperature": 1.0, "top_p": 1.0, "top_k": 0}, "reward": "length"},
            ...     prompt_ids=np.array([0]), prompts=["2 + 2 ="], distinct=np.array([2]), rewards=one,
            ...     selection_rewards=None,
            ...     num_tokens=np.array([[1, 1]]), finished=np.array([[True, True]]),
            ...     logprobs=-one, reference_logprobs=-1.5 * one,
            ... )
            >>> Run.from_table("base", table).kl
            array([0.5])
        """
        metadata = table.metadata
        kl = None
        if is_the_policy(metadata.get("sampling", {})) and table.reference_logprobs is not None:
            kl = np.mean(table.logprobs - table.reference_logprobs, axis=1)
        reference = metadata.get("reference")
        content = metadata.get("reference_files") or metadata.get("reference_revision")
        return cls(
            name=name,
            prompt_ids=np.asarray(table.prompt_ids),
            prompts=table.prompts,
            rewards=table.rewards,
            distinct=table.distinct,
            num_tokens=table.num_tokens,
            finished=table.finished,
            kl=kl,
            sampling=settings_of(metadata),
            selection=table.selection_rewards,
            reference=None if reference is None else Reference(reference, content),
        )

    def best_of_n(self, budgets: Sequence[int]) -> Float[np.ndarray, "P K"]:
        """V_N of every prompt at every budget, with the best response picked by `selection`; see `best_of_n`."""
        return best_of_n(self.rewards, budgets, selection=self.selection)

    def measures(self) -> dict[str, Float[np.ndarray, " P"]]:
        """Give what is reported beside V_N, at each prompt; NaN where it is unknown.

        Returns:
            `kl` in nats, `response_length` in tokens, and three shares of the n responses: `distinct`
            (number of different texts over n), `cut_off` (not finished) and `unscored` (without a reward, or without
            the one that picks).

        Examples:
            >>> rewards = np.array([[0.0, np.nan]])
            >>> one = {"prompt_ids": np.array([0]), "prompts": ["?"], "distinct": np.array([1])}
            >>> run = Run("base", rewards=rewards, **one)
            >>> measures = run.measures()
            >>> measures["distinct"], measures["unscored"], measures["kl"]
            (array([0.5]), array([0.5]), array([nan]))
        """
        unknown = np.full(len(self.rewards), np.nan)
        unscored = np.isnan(self.rewards)
        if self.selection is not None:
            unscored = unscored | np.isnan(self.selection)
        values = (
            unknown if self.kl is None else np.asarray(self.kl, dtype=np.float64),
            unknown if self.num_tokens is None else np.mean(self.num_tokens, axis=1),
            unknown if self.distinct is None else self.distinct / self.n,
            unknown if self.finished is None else 1.0 - np.mean(self.finished, axis=1),
            np.mean(unscored, axis=1),
        )
        return dict(zip(_REPORTED, values, strict=True))


def seeds_by_name(runs: Sequence[Run]) -> dict[str, tuple[Run, ...]]:
    """Group runs that share a name, in order of first appearance: the training seeds of one method.

    Args:
        runs: Runs in any order.

    Returns:
        The seeds of every method.

    Examples:
        >>> run = Run("tea", prompt_ids=np.array([0]), prompts=["?"], rewards=np.zeros((1, 2)))
        >>> {name: len(seeds) for name, seeds in seeds_by_name([run, run]).items()}
        {'tea': 2}
    """
    groups: dict[str, tuple[Run, ...]] = {}
    for run in runs:
        groups[run.name] = (*groups.get(run.name, ()), run)
    return groups

"""Best of N as a call: sample, score, return the best."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from operator import index
from typing import Any, SupportsIndex

from tailgrad.rewards import Reward
from tailgrad.rollouts.chats import Prompt, check_prompt
from tailgrad.rollouts.config import SampleConfig
from tailgrad.serving.best import Best, Group, NoWinnerError, Spent
from tailgrad.serving.local import LocalPolicy
from tailgrad.serving.policy import Draw, Policy, Wish
from tailgrad.serving.scoring import Scoring, ScoringError
from tailgrad.serving.served import ServedPolicy
from tailgrad.serving.stopping import FixedBudget, StoppingRule
from tailgrad.serving.waiting import Waiting


class BestOfN:
    """Samples N responses to a prompt, scores them, and returns the one with the largest reward.

    Calling it waits; `await best.best_of_n(...)` is the same in a loop of asyncio, where many prompts are under way at
    once, and cancelling it cancels the samples.

    Args:
        policy: A hub name or a local folder; with `base_url` the name by which that server knows it. Or what has the
            methods of `tailgrad.serving.policy.Policy`.
        reward: A function, the name of one, of a reward model or of a remote one; or several, which are summed.
        **options: Those of `tailgrad.rollouts.SampleConfig` that name the policy, shape its responses and describe
            rewards: `base_url`, `temperature`, `max_completion_length`, `reward_timeout`, `dtype`, ...

    Raises:
        FileNotFoundError: There is no such policy or reward model.
        ValueError: One of them cannot be loaded, or an option is out of range.
        ServerDownError: There is no server at an address.

    Examples:
        >>> def length(completions, **columns):
        ...     return [float(len(text)) for text in completions]
        >>> best_of_n = BestOfN("Qwen/Qwen3-0.6B", length, base_url="http://localhost:8000")  # doctest: +SKIP
        >>> best_of_n("Name a prime.", 16).text  # doctest: +SKIP
        '7919, which is the thousandth.'
    """

    def __init__(self, policy: str | Policy, reward: str | Reward | list[str | Reward], **options: Any) -> None:
        named = "reward_model_name_or_path" if options.get("reward_url") else "reward_funcs"
        engine = "transformers" if options.get("base_url") is None else "openai"
        name = policy if isinstance(policy, str) else policy.name
        options = {"model_name_or_path": name, "engine": engine, named: reward, **options}
        config = SampleConfig(dataset_name="", out="", **options)
        self._start(config, None if isinstance(policy, str) else policy)

    @classmethod
    def of(cls, config: SampleConfig) -> BestOfN:
        """Return the best of N of a policy and rewards that a config names.

        Args:
            config: Names them; its data set is not looked at.
        """
        new = cls.__new__(cls)
        new._start(config, None)
        return new

    def _start(self, config: SampleConfig, policy: Policy | None) -> None:
        self._scoring = Scoring(config)
        kind = LocalPolicy if config.engine == "transformers" else ServedPolicy
        self._policy: Policy = policy or kind(config)
        self._waiting = Waiting(self._policy.aclose)
        self.reward_name = self._scoring.name

    @property
    def about_reward(self) -> dict[str, Any]:
        """What a rollout table's metadata says of the reward."""
        return self._scoring.about

    @property
    def shaping(self) -> dict[str, Any] | None:
        """What shapes a response where a call does not say, by transformers' names; None: the policy does not tell."""
        return getattr(self._policy, "shaping", None)

    def check_columns(self, columns: Mapping[str, Any]) -> None:
        """Refuse columns that are not those that the rewards need.

        Args:
            columns: As for `best_of_n`.

        Raises:
            ValueError: One is missing, or has a name that is taken.
        """
        self._scoring.check(columns)

    async def best_of_n(
        self,
        prompt: Prompt,
        n: int | StoppingRule,
        *,
        columns: Mapping[str, Any] | None = None,
        seed: int | None = None,
        stop: tuple[str, ...] = (),
        spent: Callable[[Spent], None] | None = None,
        **shaping: Any,
    ) -> Best:
        """Sample, score, and return the best.

        Samples that fail or are not scored are not replaced: the best of the others is returned, and says so.

        Args:
            prompt: A string, or a chat: a list of messages with "role" and "content".
            n: Samples, or a rule that says after each batch how many more.
            columns: Values that the reward needs besides, such as `{"answer": "7"}`.
            seed: Of the samples; with the same one a policy in this process gives the same samples.
            stop: Texts that end a response; only for a policy behind a server.
            spent: Is told of each batch what it took, also where no answer comes of it.
            **shaping: What shapes a response, by transformers' names: `temperature`, `max_new_tokens`, ...

        Returns:
            The best, all candidates, and what is missing.

        Raises:
            NoWinnerError: No sample was given, or none scored.
            ValueError: The prompt is none, n is below 1, or the policy refuses what is asked.
        """
        rule = _rule(n)
        check_prompt(prompt, "the request")
        columns = columns or {}
        self._scoring.check(columns)
        wish, group = Wish(prompt, shaping, seed, stop), Group(spent)
        timed_out = False
        while (count := await _more(rule, group)) > 0:
            draw = await self._policy.draw(wish, count, group.asked)
            try:
                rewards, error = await self._rewards(wish, draw, columns)
            except BaseException:  # nobody waits any more, but it was sampled
                group.add(count, draw, [None] * len(draw.responses), None)
                raise
            group.add(count, draw, rewards, None if error is None else str(error))
            timed_out = error is not None and error.timed_out
            if error is not None or group.is_empty or not draw.responses:
                break
        try:
            return group.best()
        except NoWinnerError as error:
            raise NoWinnerError(str(error), timed_out=timed_out) from None

    def __call__(self, prompt: Prompt, n: int | StoppingRule, **options: Any) -> Best:
        """Do as `best_of_n` does, and wait for it; also where a loop of asyncio runs already, as in a notebook.

        Args:
            prompt: As there.
            n: As there.
            **options: As there.
        """
        return self._waiting.result(self.best_of_n(prompt, n, **options))

    def close(self) -> None:
        """Give back what calls have opened: connections and a thread. A later call opens them anew."""
        self._waiting.close()

    async def aclose(self) -> None:
        """Give back the connections that `best_of_n` has opened in this loop."""
        await self._policy.aclose()

    async def _rewards(
        self, wish: Wish, draw: Draw, columns: Mapping[str, Any]
    ) -> tuple[list[float | None], ScoringError | None]:
        """The rewards of a draw, or none and why."""
        if not draw.responses:
            return [], None
        try:
            return await self._scoring.score(wish, draw, columns), None
        except ScoringError as error:
            return [None] * len(draw.responses), error


def _rule(n: int | StoppingRule) -> StoppingRule:
    """A rule as it is, and of a number, also one of NumPy's, the rule that draws so many."""
    if not isinstance(n, SupportsIndex):
        return n
    if (number := index(n)) < 1:
        raise ValueError(f"n is {number}; it must be at least 1.")
    return FixedBudget(number)


async def _more(rule: StoppingRule, group: Group) -> int:
    """How many more; a rule that has to compute does so beside the loop that serves others."""
    if isinstance(rule, FixedBudget):
        return rule.more(group.rewards)
    return await asyncio.to_thread(rule.more, group.rewards)

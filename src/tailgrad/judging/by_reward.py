"""A reward as the judge: a reward model, a function, or a weighted sum; the answer with the larger reward is better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final

from tailgrad.judging.answers import Match
from tailgrad.judging.config import JudgeConfig
from tailgrad.judging.judgement import Asked, Judgement
from tailgrad.rewards import CheckedReward
from tailgrad.rollouts.chats import prompts_of_texts
from tailgrad.rollouts.prompts import plain_completions

_AT_ONCE: Final = 64
"""Pairs that are scored and written down together."""


class RewardJudge:
    """Scores both answers of a pair. Nothing stands first or second, so each pair is judged once.

    The reward is passed prompts and completions alone: the tables do not have the other columns of a data set.

    Args:
        config: Names the reward.
        match: What is judged.

    Raises:
        FileNotFoundError: A reward model does not exist; it is loaded when it is first needed, as is any reward.
        ValueError: A reward cannot be loaded, or needs a column.
    """

    orders = (0,)

    def __init__(self, config: JudgeConfig, match: Match) -> None:
        self._config, self._match = config, match
        self._prompts = prompts_of_texts([pair.prompt for pair in match.pairs])

    @cached_property
    def _loaded(self) -> tuple[CheckedReward, dict[str, Any]]:
        """The reward, and what a rollout table would say of it; a dry run does without."""
        from tailgrad.rewards.configured import load_rewards

        return load_rewards(self._config, [], "a table that is judged", ("prompts", "completions"))

    @property
    def name(self) -> str:
        """The name of the reward; see `Judge`."""
        return str(self.settings["reward"])

    @property
    def settings(self) -> dict[str, Any]:
        """The reward; see `Judge`."""
        return self._loaded[1]

    @property
    def about(self) -> dict[str, Any]:
        """Nothing; see `Judge`."""
        return {}

    def cost(self, asked: Sequence[Asked]) -> str:
        """Say how many answers are scored; see `Judge`."""
        return f"{2 * len(asked)} answers to score"

    def shown(self, asked: Asked) -> str:
        """The prompt and the answers; see `Judge`."""
        pair = self._match.pairs[asked[0]]
        answers = zip(self._match.names, pair.answers, strict=True)
        return "\n\n".join([pair.prompt, *(f"[{name}] {text}" for name, text in answers)])

    def judged(self, asked: Sequence[Asked], *, has_judged: bool) -> Iterator[Judgement]:
        """Score; see `Judge`."""
        for start in range(0, len(asked), _AT_ONCE):
            pairs = [pair for pair, _ in asked[start : start + _AT_ONCE]]
            prompts = [self._prompts[pair] for pair in pairs for _ in range(2)]
            texts = [str(text) for pair in pairs for text in self._match.pairs[pair].answers]
            rewards = self._loaded[0](prompts=prompts, completions=plain_completions(prompts, texts))
            for pair, both in zip(pairs, zip(rewards[::2], rewards[1::2], strict=True), strict=True):
                yield Judgement(pair, 0, _score(*both), list(both))


def _score(reference: float | None, other: float | None) -> float | None:
    """What two rewards are worth to the second table's answer; None where one is unscored."""
    if reference is None or other is None:
        return None
    return 0.5 if reference == other else float(other > reference)

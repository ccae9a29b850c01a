"""Score the samples of a prompt beside the loop that serves others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, Final

from tailgrad.models.breaker import ServerDownError
from tailgrad.models.server import RefusedError
from tailgrad.rewards import CheckedReward, Reward, RewardTimeoutError
from tailgrad.rewards.configured import described, rewards_of, summed
from tailgrad.rewards.remote import RemoteReward
from tailgrad.rewards.reward import ARGUMENTS_IN_TRAINING, check_columns
from tailgrad.rollouts.config import SampleConfig
from tailgrad.serving.beside import Beside
from tailgrad.serving.policy import Draw, Wish

AT_ONCE: Final = 16
"""Prompts that are scored at once where all rewards are remote; where one runs here it is one after the other."""


class ScoringError(RuntimeError):
    """A reward failed; none of a draw is scored.

    Args:
        message: What it says.
        timed_out: Whether it took too long.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Scoring:
    """The rewards of a config, loaded at once. Those of a server that was down are loaded anew for the next prompt.

    Args:
        config: Names the rewards; its data set is not looked at.

    Attributes:
        name: Of the one reward, or of their sum.

    Raises:
        FileNotFoundError: A reward model does not exist.
        ValueError: A reward cannot be loaded.
        ServerDownError: There is no server at the URL of a reward.
    """

    def __init__(self, config: SampleConfig) -> None:
        self._config = config
        self._rewards: list[Reward] | None = self._load()
        self.name = summed(config, self._rewards).__name__
        remote = all(isinstance(reward, RemoteReward) for reward in self._rewards)
        self._beside = Beside(AT_ONCE if remote else 1)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What a rollout table's metadata says of the rewards; it takes the time to read their files."""
        return described(self._config, self._rewards or self._load())

    async def score(self, wish: Wish, draw: Draw, columns: Mapping[str, Any]) -> list[float | None]:
        """Score a draw.

        Args:
            wish: Has the prompt.
            draw: The responses.
            columns: What the rewards are passed besides, one value each for this prompt.

        Returns:
            One reward per response, None where not scored.

        Raises:
            ScoringError: A reward failed, or took too long.
            ValueError: The columns are not those that the rewards need.
        """
        return await self._beside.run(partial(self._score, wish, draw, dict(columns)))

    def check(self, columns: Mapping[str, Any]) -> None:
        """Refuse columns that are not those that the rewards need, before anything is sampled.

        Args:
            columns: The columns.

        Raises:
            ValueError: One is missing, or has a name that is taken.
        """
        taken = sorted(columns.keys() & set(ARGUMENTS_IN_TRAINING))
        if taken:
            raise ValueError(
                f"the column {taken[0]!r} has a name that every reward is passed anyway: call it otherwise."
            )
        for reward in self._rewards or ():
            check_columns(reward, list(columns), "the request (reward_columns)")

    def _score(self, wish: Wish, draw: Draw, columns: dict[str, Any], _: threading.Event) -> list[float | None]:
        count = len(draw.responses)
        ids = [one.token_ids for one in draw.responses]
        known = {} if None in ids else {"completion_ids": ids}
        repeated = {name: [value] * count for name, value in columns.items()}
        try:
            return self._reward()(prompts=[wish.prompt] * count, completions=draw.completions, **known, **repeated)
        except ServerDownError as error:
            self._rewards = None
            raise ScoringError(str(error)) from error
        except RewardTimeoutError as error:
            raise ScoringError(str(error), timed_out=True) from error
        except (RefusedError, RuntimeError, ValueError) as error:
            raise ScoringError(str(error)) from error
        except (SystemExit, asyncio.CancelledError) as error:  # which would end the server, or look like a hang-up
            raise ScoringError(f"the reward {self.name!r} raised {type(error).__name__}") from error

    def _reward(self) -> CheckedReward:
        rewards = self._rewards  # which another prompt may set to None meanwhile
        if rewards is None:
            rewards = self._rewards = self._load()
        return summed(self._config, rewards)

    def _load(self) -> list[Reward]:
        """The rewards, of which none writes into the log: what a server says of a failure may quote a response."""
        rewards = rewards_of(self._config)
        for reward in rewards:
            if isinstance(reward, RemoteReward):
                reward.tell(lambda line: None)
        return rewards

"""What scores responses, as options: what each command that has a reward has of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from tailgrad.options import option
from tailgrad.rewards.names import reads
from tailgrad.rewards.reward import Reward

MODEL_OPTIONS: Final = ("revision", "batch_size", "max_length", "dtype", "device", "input_format", "url")
"""Options of reward models, by the names that `RewardModel` gives them; as options they begin with reward_."""

_REWARDS: Final = "rewards"
_REWARD_MODELS: Final = "how a reward model is run"


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """What scores responses: functions, reward models, or a weighted sum of several, as in `tailgrad train`.

    From Python `reward_funcs` may be callables, and one need not stand in a list.
    """

    reward_funcs: str | Reward | Sequence[str | Reward] = option(
        (),
        "package.module.function (modules are also looked for in the current directory), one of TRL's rewards by "
        "name, or the URL of one; several are summed",
        group=_REWARDS,
    )
    reward_model_name_or_path: str | None = option(None, "reward model: hub name or local folder", group=_REWARDS)
    reward_url: str | None = option(
        None,
        "where the reward model is served, if not here: address of vLLM's /pooling or /classify, or SGLang's /classify",
        group=_REWARDS,
        metavar="URL",
    )
    reward_weights: Sequence[float] | None = option(
        None, "one weight per reward; that of the reward model comes first (default 1 each)", group=_REWARDS
    )
    reward_timeout: float | None = option(
        None,
        "most seconds that one call of a reward may take (default: no limit), or one request to a remote one (default "
        "60)",
        group=_REWARDS,
        metavar="SECONDS",
    )
    reward_revision: str | None = option(None, "revision of the reward model on the hub", group=_REWARD_MODELS)
    reward_batch_size: int | None = option(
        None, "rollouts that a reward model scores in one forward pass (default 16)", group=_REWARD_MODELS
    )
    reward_max_length: int | None = option(
        None,
        "most tokens of prompt and response that a reward model reads (default: the model's limit)",
        group=_REWARD_MODELS,
    )
    reward_dtype: str | None = option(
        None,
        "precision of a reward model: float32 (default), bfloat16, float16, or auto (as saved)",
        group=_REWARD_MODELS,
    )
    reward_device: str | None = option(
        None,
        "where a reward model runs: cpu, cuda, ... (default: where the policy does; in training the GPU)",
        group=_REWARD_MODELS,
    )
    reward_input_format: str | None = option(
        None,
        "how a reward model reads a rollout: chat (its template), text (plain), or auto (as the prompts are; default)",
        group=_REWARD_MODELS,
        choices=("auto", "chat", "text"),
    )

    @property
    def reward_list(self) -> list[str | Reward]:
        """The rewards as a list, the reward model first, as in TRL."""
        functions = self.reward_funcs
        several = [functions] if isinstance(functions, str) or callable(functions) else list(functions)
        return [*filter(None, [self.reward_model_name_or_path]), *several]

    @property
    def reward_options(self) -> dict[str, Any]:
        """What is given of the options of reward models, by the names that `RewardModel` gives them."""
        return model_options(self)

    @property
    def of_rewards(self) -> dict[str, Any]:
        """These options by name, for another configuration that has them."""
        return {entry.name: getattr(self, entry.name) for entry in fields(RewardOptions)}

    def __post_init__(self) -> None:
        if not self.reward_list:
            raise ValueError(
                "no reward given: use --reward_funcs package.module.function or --reward_model_name_or_path NAME."
            )
        check_reward_options(self, self.reward_list)


def check_reward_options(config: Any, rewards: Sequence[str | Reward]) -> None:
    """Refuse a configuration with the address of a reward model that it does not name, or with options of none.

    Args:
        config: Has these options.
        rewards: The rewards that it names.

    Raises:
        ValueError: As said.
    """
    if config.reward_url is not None and config.reward_model_name_or_path is None:
        raise ValueError(
            "reward_url without reward_model_name_or_path: the name is needed for the tokenizer. A function behind a "
            "URL is named by --reward_funcs."
        )
    if config.reward_url is not None and config.reward_device is not None:
        raise ValueError("reward_device with reward_url: the reward model runs where its server is. Leave one out.")
    check_model_options(rewards, model_options(config))


def model_options(config: object) -> dict[str, Any]:
    """What a configuration with these options gives of those of reward models, by the names of `RewardModel`."""
    given = {name: getattr(config, f"reward_{name}") for name in MODEL_OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def check_model_options(specs: Sequence[str | Reward], options: Iterable[str]) -> None:
    """Refuse options of reward models that no reward reads.

    Args:
        specs: The rewards, by name or as callables.
        options: What is given, by the names that `RewardModel` gives them.

    Raises:
        ValueError: As said.
    """
    names = [spec for spec in specs if isinstance(spec, str)]
    idle = [option for option in options if not any(reads(name, option) for name in names)]
    if idle:
        raise ValueError(
            f"reward_{idle[0]} without a reward model: nothing would read it. Leave it out, or name the model by "
            "--reward_model_name_or_path."
        )

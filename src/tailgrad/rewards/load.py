"""From the name of a reward to a callable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tailgrad.rewards.functions import Reward, import_reward
from tailgrad.rewards.reward_model import RewardModel


def load_reward(spec: str | Reward, **reward_model_options: Any) -> Reward:
    """Return the reward that a name stands for.

    A callable is returned as it is. A name is read as, in this order: an existing folder (a reward model);
    "package.module:function"; a name with a slash, or a path (a reward model, local or of the hub);
    "package.module.function"; any other name is a reward model of the hub.

    Args:
        spec: A callable or a name.
        reward_model_options: Options of `RewardModel`; used where the name is a reward model's, None dropped.

    Returns:
        A reward: `reward(*, prompts, completions, **columns)` returns one number or None a rollout.

    Raises:
        FileNotFoundError: There is no such folder, or the hub does not give the model.
        ValueError: There is no such module or function, or the model is not a reward model.
        TypeError: The name is not callable, or an option is not one of `RewardModel`.

    Example:
        >>> load_reward("statistics.mean").__name__
        'mean'
    """
    if not isinstance(spec, str):
        return spec
    options = {name: value for name, value in reward_model_options.items() if value is not None}
    if Path(spec).expanduser().is_dir():
        return RewardModel(spec, **options)
    is_path = not spec or "/" in spec or spec.startswith((".", "~"))
    if not is_path and (":" in spec or "." in spec):
        return import_reward(spec)
    return RewardModel(spec, **options)

"""From the name of a reward to a callable."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from tailgrad.files import expanded
from tailgrad.rewards.functions import import_reward
from tailgrad.rewards.names import TRL_REWARDS, names_function, names_url
from tailgrad.rewards.remote import HttpReward, ServedRewardModel
from tailgrad.rewards.reward import Reward
from tailgrad.rewards.reward_model import RewardModel


def load_reward(
    spec: str | Reward, *, url: str | None = None, timeout: float | None = None, **reward_model_options: Any
) -> Reward:
    """Return the reward that a name stands for.

    A callable is returned as it is. A name is read as one of `TRL_REWARDS`, else as a function behind a URL, or as a
    function where `names_function` says so, else as a reward model, local or of the hub.

    Args:
        spec: A callable or a name.
        url: Where a reward model is served, if not here.
        timeout: Seconds of one request to a server; None is 60.
        reward_model_options: Options of `RewardModel`; used where the name is a reward model's, None dropped.

    Returns:
        A reward: `reward(*, prompts, completions, **columns)` returns one number or None per rollout.

    Raises:
        FileNotFoundError: There is no such folder, or the hub does not give the model.
        ValueError: There is no such module or function, the model is not a reward model, or a served one is given
            options of one that runs here.
        ServerDownError: There is no server at a URL.
        TypeError: The name is not callable, or an option is not one of `RewardModel`.

    Examples:
        >>> load_reward("statistics.mean").__name__
        'mean'
    """
    if not isinstance(spec, str):
        return spec
    if spec in TRL_REWARDS:
        return _trl_reward(spec)
    if names_url(spec):
        return HttpReward(spec, batch_size=reward_model_options.get("batch_size"), timeout=timeout)
    _check_names_no_file(spec)
    options = {name: value for name, value in reward_model_options.items() if value is not None}
    if names_function(spec):
        return import_reward(spec)
    return RewardModel(spec, **options) if url is None else _served(spec, url, timeout, options)


def _served(name: str, url: str, timeout: float | None, options: dict[str, Any]) -> ServedRewardModel:
    if "dtype" in options:
        raise ValueError("reward_dtype with reward_url: the server decides the precision. Leave one out.")
    options.pop("device", None)
    return ServedRewardModel(name, url=url, timeout=timeout, **options)


def _check_names_no_file(spec: str) -> None:
    """Refuse the name of a Python file, or of a module in the current directory, in the place of a function in it."""
    if within := re.fullmatch(r"(?:.*/)?([^/]+)\.py:(\w+)", spec):
        module, function = within.groups()
        raise ValueError(
            f"reward {spec!r} names a file, not a module: write {module}:{function} or {module}.{function}, and run in "
            "the folder of the file."
        )
    file = expanded(spec if spec.endswith(".py") else f"{spec}.py")
    if not file.is_file() or Path(spec).is_dir():
        return
    names = [f"{file.stem}.{name}" for name in re.findall(r"^(?:async )?def (\w+)", file.read_text(), re.MULTILINE)]
    raise ValueError(
        f"reward {spec!r} is the Python file {str(file)!r}, not a function: name one in it as module.function, such as "
        f"{' or '.join(names) or f'{file.stem}.my_reward'}, from the folder of the file."
    )


def _trl_reward(name: str) -> Reward:
    if name.endswith("accuracy_reward") and importlib.util.find_spec("math_verify") is None:
        raise ValueError(f"reward {name!r} needs a package that is not installed: pip install math-verify")
    options = TRL_REWARDS[name]
    reward = import_reward(f"trl.rewards.{name}")
    return reward(**options) if options else reward

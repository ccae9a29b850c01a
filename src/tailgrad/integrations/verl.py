"""verl: each estimator under its name in `algorithm.adv_estimator`, with its options beside it.

verl loads this module as a plugin (the entry point `verl.plugins` in pyproject.toml) whenever it is imported itself: in
the driver and in every Ray worker. Importing it registers the estimators.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, register_adv_est

from tailgrad.estimators import ESTIMATORS, find_estimator
from tailgrad.integrations.groups import DEPLOY_N, GroupEstimator
from tailgrad.integrations.token_level import token_level_advantages

OWN_KEYS = {field.name for field in fields(AlgoConfig)}
"""The keys of `algorithm` that verl itself reads: none of them is an option of an estimator here."""


@dataclass(frozen=True)
class VerlEstimator:
    """An estimator as verl calls one.

    Attributes:
        name: A key of `ESTIMATORS`.
    """

    name: str

    def __call__(
        self,
        token_level_rewards: Tensor,
        response_mask: Tensor,
        config: Mapping[str, Any] | None = None,
        index: np.ndarray | None = None,
        **others: Any,
    ) -> tuple[Tensor, Tensor]:
        """Advantages and returns `[B, T]` of a batch whose prompts are in `index`; `config` is `algorithm`."""
        estimator = estimator_of(self.name, config or {})
        return token_level_advantages(estimator, token_level_rewards, response_mask, index)


def estimator_of(name: str, algorithm: Mapping[str, Any]) -> GroupEstimator:
    """The estimator with the options that `algorithm` has for it.

    Args:
        name: Its name.
        algorithm: verl's configuration; `+algorithm.deploy_n=64` on the command line adds an option.

    Returns:
        The estimator. Keys that resemble no option are left alone: they may be another plugin's.

    Raises:
        ValueError: An option is missing or of another kind, belongs to another estimator, or is misspelt.
    """
    row = find_estimator(name)
    given = {key: _plain(value) for key, value in algorithm.items() if key not in OWN_KEYS and value is not None}
    scaling = given.pop("advantage_scaling", None)
    for key in given.keys() - row.options.keys():
        close = difflib.get_close_matches(key, [*row.options, "advantage_scaling"], n=1)
        takers = [other for other, one in ESTIMATORS.items() if key in one.options]
        if close or takers:
            hint = f"it belongs to {', '.join(takers)}" if takers else f"did you mean {close[0]}?"
            raise ValueError(f"{name} takes no option algorithm.{key}: {hint}")
    options = {key: value for key, value in given.items() if key in row.options}
    default = {"deploy_n": DEPLOY_N} if row.takes_deploy_n else {}
    try:
        return GroupEstimator(name, default | options, scaling)
    except (TypeError, ValueError) as error:
        raise ValueError(f"algorithm.adv_estimator={name}: {error} (as +algorithm.OPTION=VALUE)") from None


def _plain(value: Any) -> Any:
    """A list in the place of OmegaConf's."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else value


def register() -> dict[str, str]:
    """Register every estimator: under its name, or as `tailgrad_NAME` where verl has one of its own of this name.

    Returns:
        The name in verl of each estimator.
    """
    names = {}
    for name in ESTIMATORS:
        ours = VerlEstimator(name)
        free = ADV_ESTIMATOR_REGISTRY.get(name, ours) == ours
        names[name] = name if free else f"tailgrad_{name}"
        register_adv_est(names[name])(ours)
    return names


register()

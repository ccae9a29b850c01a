"""SkyRL: an estimator in its registry, to be chosen by `trainer.algorithm.advantage_estimator`.

SkyRL refuses keys of `trainer.algorithm` that it does not know, so the options are given where the estimator is
registered. Register it before `initialize_ray`; Ray workers get it from there, and need tailgrad too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimator, AdvantageEstimatorRegistry
from torch import Tensor

from tailgrad.estimators.ragged import GroupIds
from tailgrad.integrations.groups import DEPLOY_N, GroupEstimator
from tailgrad.integrations.token_level import token_level_advantages


@dataclass(frozen=True)
class SkyRLEstimator:
    """An estimator as SkyRL calls one.

    Attributes:
        estimator: The estimator.
    """

    estimator: GroupEstimator

    def __call__(
        self, token_level_rewards: Tensor, response_mask: Tensor, index: GroupIds | None = None, **others: Any
    ) -> tuple[Tensor, Tensor]:
        """Advantages and returns `[B, T]` of a batch whose prompts are in `index`; 0 for the rows that fill it up."""
        if index is not None:
            own = [re.fullmatch(r"pad\d+", str(uid)) is None for uid in index]
            response_mask = response_mask * response_mask.new_tensor(own).unsqueeze(1)
        return token_level_advantages(self.estimator, token_level_rewards, response_mask, index)


def register(estimator: str, *, deploy_n: int = DEPLOY_N, advantage_scaling: str | None = None) -> str:
    """Register an estimator: under its name, or as `tailgrad_NAME` where SkyRL has one of its own of this name.

    Args:
        estimator: Name and options, such as "tea:tail_fraction=0.5".
        deploy_n: N, for an estimator that takes it.
        advantage_scaling: "none", "group" or "batch"; None is the estimator's own.

    Returns:
        The name for `trainer.algorithm.advantage_estimator`.
    """
    ours = GroupEstimator.read(estimator, deploy_n=deploy_n, advantage_scaling=advantage_scaling)
    name = ours.name_beside({own.value for own in AdvantageEstimator})
    AdvantageEstimatorRegistry.register(name, SkyRLEstimator(ours))
    return name

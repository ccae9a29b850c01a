"""rLLM: an estimator in its registry, to be chosen by `rllm.algorithm.adv_estimator` or for a role of a workflow.

rLLM's configuration has no place for options, so they are given where the estimator is registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rllm.trainer.algorithms.advantage import register_rllm_adv_estimator
from rllm.trainer.algorithms.config import rLLMAdvantageEstimator

from tailgrad.integrations.groups import DEPLOY_N, GroupEstimator


@dataclass(frozen=True)
class RLLMEstimator:
    """An estimator as rLLM calls one.

    Attributes:
        estimator: The estimator.
    """

    estimator: GroupEstimator

    def __call__(
        self, rewards: list[np.ndarray], algorithm_config: Any = None, **others: Any
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Advantages, and again as the returns, of groups of trajectories."""
        if not rewards:
            return [], []
        sizes = [len(group) for group in rewards]
        flat = torch.from_numpy(np.concatenate(rewards).astype(np.float32))
        ids = np.repeat(np.arange(len(sizes)), sizes)
        # rLLM drops trajectories before, and asynchronously it calls this for one task after the other.
        advantages = self.estimator(flat, ids, whole_batch=False).numpy()
        groups = np.split(advantages, np.cumsum(sizes)[:-1])
        return groups, groups


def register(estimator: str, *, deploy_n: int = DEPLOY_N, advantage_scaling: str | None = None) -> str:
    """Register an estimator: under its name, or as `tailgrad_NAME` where rLLM has one of its own of this name.

    `rllm.algorithm.adv_estimator` turns every name that rLLM does not know into its own "other", so the estimator that
    was registered last stands there too. `traj_group_adv_estimator_map` keeps the names apart.

    Args:
        estimator: Name and options, such as "tea:tail_fraction=0.5".
        deploy_n: N, for an estimator that takes it.
        advantage_scaling: "none", "group" or "batch"; None is the estimator's own.

    Returns:
        The name in rLLM.
    """
    ours = GroupEstimator.read(estimator, deploy_n=deploy_n, advantage_scaling=advantage_scaling)
    name = ours.name_beside({own.value for own in rLLMAdvantageEstimator})
    for key in (name, rLLMAdvantageEstimator.OTHER):
        register_rllm_adv_estimator(key)(RLLMEstimator(ours))
    return name

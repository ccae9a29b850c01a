"""TRL's experimental `AsyncGRPOTrainer`: an estimator in the process that draws and scores its rollouts."""

from __future__ import annotations

from typing import Any

import torch
from trl.experimental.async_grpo import AsyncGRPOTrainer
from trl.experimental.async_grpo.async_rollout_worker import (
    AsyncRolloutWorker,
    RolloutGroup,
    RolloutSample,
    _AsyncRolloutLoop,
)

from tailgrad.integrations.groups import DEPLOY_N, GroupEstimator


class TailRolloutLoop(_AsyncRolloutLoop):
    """TRL's loop of drawing and scoring, with another advantage.

    Args:
        estimator: Gives it.
        **options: Those of TRL's loop.
    """

    def __init__(self, *, estimator: GroupEstimator, **options: Any) -> None:
        super().__init__(**options)
        self._estimator = estimator

    async def _score_group(self, group: RolloutGroup) -> list[RolloutSample]:
        """Score a group as TRL does, and hand each row the advantage of its rollout."""
        samples = await super()._score_group(group)
        rows = [len(sequences) for sequences in group.completions_sequences]
        owners = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(rows))
        rewards = torch.full((len(rows),), torch.nan)
        rewards[owners] = torch.tensor([sample.metrics["reward"] for sample in samples])
        advantages = self._estimator(rewards, [0] * len(rows), torch.tensor(rows) > 0)
        for sample, advantage in zip(samples, advantages[owners].tolist(), strict=True):
            sample.advantage = advantage
        return samples


def use(
    trainer: AsyncGRPOTrainer, estimator: str, *, deploy_n: int = DEPLOY_N, advantage_scaling: str | None = None
) -> None:
    """Give a trainer an estimator; before `trainer.train()`, in every process.

    The worker scores one prompt's rollouts after the other, so advantages cannot be scaled over a batch.

    Args:
        trainer: A trainer with TRL's own worker.
        estimator: Name and options, such as "tea:tail_fraction=0.5".
        deploy_n: N, for an estimator that takes it.
        advantage_scaling: "none" or "group"; None is the estimator's own.

    Raises:
        ValueError: The estimator or an option is unknown, or needs more rollouts per prompt than are drawn.
        TypeError: The trainer's worker does not score as TRL's does.
        RuntimeError: The worker has been started.
    """
    ours = GroupEstimator.read(estimator, deploy_n=deploy_n, advantage_scaling=advantage_scaling)
    if ours.scaling == "batch":
        raise ValueError('advantage_scaling = "batch" needs a batch, and the worker scores prompt by prompt: "group"')
    ours.check_drawn(trainer.args.num_generations, "num_generations is")
    worker = trainer.rollout_worker
    if worker is None:  # not the main process, which alone has a worker
        return
    loop = getattr(worker, "_loop_cls", type(worker))
    if not isinstance(worker, AsyncRolloutWorker) or loop not in (_AsyncRolloutLoop, TailRolloutLoop):
        raise TypeError(f"the rollout worker scores by {loop.__name__}; this works with TRL's own, AsyncRolloutWorker")
    if worker._process is not None:
        raise RuntimeError("the rollout worker has been started: choose the estimator before trainer.train()")
    worker._loop_cls = TailRolloutLoop
    worker._loop_kwargs["estimator"] = ours

"""Advantages as SkyRL's trainer computes them, in this process and in a Ray worker: `make check-skyrl`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry, compute_advantages_and_returns

from tailgrad.estimators import ESTIMATORS, bind, with_budget
from tailgrad.integrations.skyrl import register

NEEDED = {"max_at_k": {"k": 3}, "order_grad": {"k": 4, "top": 2}, "pass_at_k": {"k": 3}, "rs_grpo": {"risk_beta": 1.0}}
PROMPTS = ["a"] * 13 + ["b"] * 16 + ["c"] * 14


def spelled(name: str) -> str:
    options = ",".join(f"{option}={value}" for option, value in NEEDED.get(name, {}).items())
    return f"{name}:{options}" if options else name


@pytest.fixture
def registered() -> Iterator[Any]:
    """Registers an estimator, and takes it out again."""
    before = dict(AdvantageEstimatorRegistry._functions)
    yield lambda name: register(spelled(name), deploy_n=64, advantage_scaling="none")
    AdvantageEstimatorRegistry._functions = before


def batch() -> dict[str, Any]:
    """Shuffled groups of 13, 16 and 14 responses, two without a token to train on, and two that fill the batch up."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(PROMPTS), generator=generator).tolist()
    ids = [PROMPTS[place] for place in order]
    mask = torch.ones(len(ids), 3)
    mask[[4, 30]] = 0
    rewards = torch.zeros(len(ids), 3, dtype=torch.float64)
    rewards[:, 2] = torch.randint(0, 2, (len(ids),), generator=generator).double()
    whole = {"token_level_rewards": rewards, "response_mask": mask}
    filled = {name: torch.cat([tensor, tensor[:1], tensor[:1]]) for name, tensor in whole.items()}
    return filled | {"index": [*ids, "pad0", "pad1"], "config": None}


def expected(name: str) -> torch.Tensor:
    """What each group gets alone."""
    given = batch()
    estimate = bind(name, **with_budget(name, NEEDED.get(name, {}), 64))
    rewards, kept = given["token_level_rewards"][:, 2], given["response_mask"].any(dim=1)
    found = torch.zeros_like(rewards)
    for prompt in "abc":
        rows = torch.tensor([one == prompt for one in given["index"]]) & kept
        found[rows] = estimate(rewards[None, rows])[0]
    return found[:, None] * given["response_mask"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_gives_each_response_what_its_group_gets_alone(registered: Any, name: str) -> None:
    advantages, returns = compute_advantages_and_returns(**batch(), adv_estimator=registered(name))
    torch.testing.assert_close(advantages.double(), expected(name), rtol=1e-5, atol=1e-6)
    assert torch.equal(advantages, returns)


def test_a_ray_worker_has_what_was_registered_before_ray_began(registered: Any) -> None:
    name = registered("tea")
    source = str(Path(__file__).resolve().parents[3] / "src")

    @ray.remote
    def in_a_worker(given: dict[str, Any]) -> Any:
        import typing

        import typing_extensions

        typing.TypedDict = typing_extensions.TypedDict
        from skyrl.backends.skyrl_train.utils import ppo_utils

        ppo_utils.AdvantageEstimatorRegistry.sync_with_actor()
        return ppo_utils.compute_advantages_and_returns(**given)[0]

    ray.init(num_cpus=2, runtime_env={"env_vars": {"PYTHONPATH": source, "RAY_USAGE_STATS_ENABLED": "0"}})
    try:
        AdvantageEstimatorRegistry.sync_with_actor()
        advantages = ray.get(in_a_worker.remote(batch() | {"adv_estimator": name}))
    finally:
        ray.shutdown()
    torch.testing.assert_close(advantages.double(), expected("tea"), rtol=1e-5, atol=1e-6)

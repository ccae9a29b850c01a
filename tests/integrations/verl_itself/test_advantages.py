"""Advantages as verl's trainers compute them, in this process and in a Ray worker: `make check-verl`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import ray
import torch
import verl  # noqa: F401 - what loads the plugin
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from verl.protocol import DataProto
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, AdvantageEstimator
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

from tailgrad.estimators import ESTIMATORS, bind, tea

THEIRS = {name.value for name in AdvantageEstimator}
OPTIONS = {"max_at_k": {"k": 3}, "order_grad": {"k": 4, "top": 2}, "pass_at_k": {"k": 3}, "rs_grpo": {"risk_beta": 1.0}}
FIVE_LINES = ("algorithm.adv_estimator=tea", "+algorithm.deploy_n=64", "+algorithm.tail_fraction=0.5")


@cache
def configured(*overrides: str) -> DictConfig:
    """verl's own configuration with what a command line gives."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=list(overrides))


def with_algorithm(**given: Any) -> DictConfig:
    """verl's own configuration with these keys of `algorithm`."""
    config = configured().copy()
    with open_dict(config):
        config.algorithm.update(given)
    return config


def batch_of(rewards: torch.Tensor, rejected: int | None = None) -> DataProto:
    """What a trainer has of responses with these rewards `[P, M]`: shuffled, of random lengths."""
    prompts, rollouts = rewards.shape
    size, tokens = rewards.numel(), 5
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, tokens + 1, (size,), generator=generator)
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    per_token = torch.zeros(size, tokens)
    per_token[torch.arange(size), lengths - 1] = rewards.T.flatten().float()
    if rejected is not None:
        mask[rejected] = 0
    uids = np.array([f"prompt-{number}" for number in range(prompts)] * rollouts, dtype=object)
    tensors = {"token_level_rewards": per_token, "response_mask": mask}
    return DataProto(TensorDict(tensors, batch_size=size), {"uid": uids})


def as_trainer(batch: DataProto, config: DictConfig) -> DataProto:
    """The call in `RayPPOTrainer.fit` of verl 0.9.1."""
    return compute_advantage(
        batch,
        adv_estimator=config.algorithm.adv_estimator,
        gamma=config.algorithm.gamma,
        lam=config.algorithm.lam,
        num_repeat=config.actor_rollout_ref.rollout.n,
        norm_adv_by_std_in_grpo=config.algorithm.get("norm_adv_by_std_in_grpo", True),
        config=config.algorithm,
    )


def graded(name: str = "tea") -> torch.Tensor:
    rewards = torch.randn(3, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
    return (rewards > 0).float() if name in ("pass_at_k", "pass_at_n", "max_rl", "f_grpo") else rewards


def test_import_verl_alone_registers_every_estimator_and_replaces_none() -> None:
    program = (
        "import verl; from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as r; "
        "print(*(f'{name}={type(f).__name__}' for name, f in r.items()))"
    )
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    registered = dict(word.split("=") for word in found.stdout.split())
    ours = {name for name, kind in registered.items() if kind == "VerlEstimator"}
    assert ours == {f"tailgrad_{name}" if name in THEIRS else name for name in ESTIMATORS}
    assert {"tailgrad_grpo", "tailgrad_rloo", "tea"} <= ours
    assert registered.keys() - ours == THEIRS


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_gives_the_tokens_of_a_response_its_advantage(name: str) -> None:
    row, options = ESTIMATORS[name], OPTIONS.get(name, {})
    theirs = f"tailgrad_{name}" if name in THEIRS else name
    config = with_algorithm(adv_estimator=theirs, advantage_scaling="none", **options)
    rewards = graded(name)
    found = as_trainer(batch_of(rewards), config).batch
    bound = bind(name, **options, **({"deploy_n": 128} if row.takes_deploy_n else {}))
    expected = torch.cat([bound(group[None]) for group in rewards]).T.flatten()[:, None] * found["response_mask"]
    torch.testing.assert_close(found["advantages"], expected)
    torch.testing.assert_close(found["returns"], expected)


def test_a_rejected_response_is_left_out_of_its_group() -> None:
    rewards = graded()
    rewards[2, 15] = 1000.0
    config = configured(*FIVE_LINES)
    advantages = as_trainer(batch_of(rewards, rejected=47), config).batch["advantages"]
    groups = [rewards[0], rewards[1], rewards[2, :15]]
    expected = [tea(group[None], deploy_n=64, tail_fraction=0.5)[0] for group in groups]
    assert not advantages[47].any()
    for number, one in enumerate(expected):
        torch.testing.assert_close(advantages[number::3, 0][: len(one)], one)


def test_the_newer_trainers_call_gives_the_same() -> None:
    config, rewards = configured(*FIVE_LINES), graded()
    old = as_trainer(batch_of(rewards), config).batch["advantages"]
    keys = [f"{uid}_{number}_0" for number, uid in enumerate(batch_of(rewards).non_tensor_batch["uid"])]
    new = compute_advantage_for_multi_trajectories(
        batch_of(rewards), keys, adv_estimator=config.algorithm.adv_estimator, config=config.algorithm
    )
    assert torch.equal(new.batch["advantages"], old)


@pytest.mark.parametrize(
    ("algorithm", "error"),
    [
        ({"adv_estimator": "tea", "tail_fracton": 0.5}, "did you mean tail_fraction"),
        ({"adv_estimator": "tea", "k": 3}, "it belongs to max_at_k"),
        ({"adv_estimator": "max_at_k"}, "needs the option k"),
    ],
)
def test_wrong_options_are_one_clear_error(algorithm: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        as_trainer(batch_of(graded()), with_algorithm(**algorithm))


def test_omegaconfs_lists_are_read() -> None:
    config = with_algorithm(adv_estimator="pass_at_n", deploy_n=64, levels=[0.0, 0.5, 1.0], prior=[1.0, 9.0])
    assert as_trainer(batch_of(graded("pass_at_n")), config).batch["advantages"].any()


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so Ray spells it; its own, 15, waits beside other work
    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_ray_worker_has_the_estimators_and_computes_the_same(cluster: None) -> None:
    """verl's driver is itself a Ray task, and it computes the advantages."""

    @ray.remote(num_cpus=1)
    def in_worker(batch: DataProto, config: DictConfig) -> tuple[list[str], int, Any]:
        import os

        from verl.trainer.ppo import core_algos
        from verl.trainer.ppo.ray_trainer import compute_advantage

        done = compute_advantage(batch, adv_estimator=config.algorithm.adv_estimator, config=config.algorithm)
        return list(core_algos.ADV_ESTIMATOR_REGISTRY), os.getpid(), done.batch["advantages"]

    config, rewards = configured(*FIVE_LINES), graded()
    names, process, advantages = ray.get(in_worker.remote(batch_of(rewards), config))
    assert process != os.getpid()
    assert names == list(ADV_ESTIMATOR_REGISTRY)
    assert torch.equal(advantages, as_trainer(batch_of(rewards), config).batch["advantages"])

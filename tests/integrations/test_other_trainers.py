"""The adapters for SkyRL, rLLM and slime against the signatures of their sources (`stand_ins.py`)."""

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from stand_ins import rllm, skyrl, verl
from torch import Tensor

from tailgrad.estimators import bind, parse_estimator, tea, with_budget
from tailgrad.integrations.slime import post_process_rewards

REWARDS = torch.arange(32.0, dtype=torch.float64).view(2, 16).square()
EXPECTED = tea(REWARDS, deploy_n=64, tail_fraction=0.5)
TEA = "tea:tail_fraction=0.5"


def test_skyrl_gives_each_token_its_advantage() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0]]).repeat(32, 1)
    rewards = torch.zeros(32, 3, dtype=torch.float64)
    rewards[:, 1] = REWARDS.T.flatten()
    with skyrl() as host:
        assert host.adapter.register(TEA, deploy_n=64) == "tea"
        advantages, returns = host.compute(rewards, mask, ["a", "b"] * 16, "tea")
        torch.testing.assert_close(advantages, EXPECTED.T.flatten()[:, None] * mask.double())
        assert torch.equal(returns, advantages)
        assert host.adapter.register("grpo") == "tailgrad_grpo"
        assert host.registry.keys() == {"tea", "tailgrad_grpo"}
        with pytest.raises(ValueError, match="already registered"):
            host.adapter.register("tea")


def test_rllm_gives_each_trajectory_of_ragged_groups_its_advantage() -> None:
    groups = [REWARDS[0].numpy(), REWARDS[1, :9].numpy()]
    with rllm() as host:
        assert host.adapter.register(TEA, deploy_n=64) == "tea"
        for name in ("tea", host.names("tea")):  # of a role's map, and as the configuration reads it
            advantages, returns = host.compute(groups, name)
            assert [len(group) for group in advantages] == [16, 9]
            np.testing.assert_allclose(advantages[0], EXPECTED[0].numpy(), rtol=1e-6)
            shorter = tea(REWARDS[1:, :9], deploy_n=64, tail_fraction=0.5)[0].numpy()
            np.testing.assert_allclose(advantages[1], shorter, rtol=1e-6)
            assert returns is advantages
        with pytest.warns(UserWarning, match="groups with fewer"):  # of one task that lost most, asynchronously
            assert not host.compute([groups[0][:2]], "tea")[0][0].any()
        assert host.compute([], "tea") == ([], [])
        assert host.adapter.register("rloo") == "tailgrad_rloo"
        assert host.registry[host.names.RLOO] == "rLLM's own"


def test_rows_that_fill_up_a_batch_of_skyrl_change_nothing() -> None:
    """SkyRL copies the first row, mask and all, under the names pad0, pad1, ..."""
    rewards, mask = torch.arange(8.0).square()[:, None], torch.ones(8, 1)
    ids = ["a", "b"] * 4
    with skyrl() as host:
        host.adapter.register("dr_grpo", advantage_scaling="batch")
        alone = host.compute(rewards, mask, ids, "dr_grpo")[0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            filled = host.compute(
                torch.cat([rewards, rewards[:1], rewards[:1]]), torch.ones(10, 1), [*ids, "pad0", "pad1"], "dr_grpo"
            )[0]
    assert torch.equal(filled, torch.cat([alone, torch.zeros(2, 1)]))
    assert alone.square().mean().item() == pytest.approx(1)


@pytest.mark.parametrize("host_name", ["verl", "skyrl", "slime"])
@pytest.mark.parametrize("name", ["tea", "max_at_k:k=4", "grpo"])
def test_shuffled_groups_of_any_size_get_what_each_would_get_alone(host_name: str, name: str) -> None:
    """Groups of 6, 9 and 12, of which two have a row without a token to train on."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.repeat_interleave(torch.arange(3), torch.tensor([6, 9, 12]))
    rewards = torch.rand(27, generator=generator, dtype=torch.float64)
    trained = torch.ones(27, dtype=torch.bool)
    trained[[3, 20]] = False
    estimator, options = parse_estimator(name)
    estimate = bind(estimator, **with_budget(estimator, options, 64))
    expected = torch.zeros(27, dtype=torch.float64)
    for group in range(3):
        rows = (groups == group) & trained
        expected[rows] = estimate(rewards[None, rows])[0]
    order = torch.randperm(27, generator=generator)
    found = advantages_of(host_name, name, rewards[order], groups[order], trained[order])
    torch.testing.assert_close(found, expected[order], rtol=1e-5, atol=1e-6)


def advantages_of(host_name: str, name: str, rewards: Tensor, groups: Tensor, trained: Tensor) -> Tensor:
    """Advantages `[B]` as a trainer gets them, in responses of three tokens that are scored at the last one."""
    if host_name == "slime":
        args = SimpleNamespace(tailgrad={"estimator": name, "deploy_n": 64, "advantage_scaling": "none"})
        rows = zip(rewards.tolist(), groups.tolist(), trained.tolist(), strict=True)
        samples = [sample(reward, group, loss_mask=[int(kept)] * 3) for reward, group, kept in rows]
        return torch.tensor(post_process_rewards(args, samples)[1], dtype=torch.float64)
    mask = torch.ones(len(rewards), 3) * trained[:, None]
    tokens = torch.zeros(len(rewards), 3, dtype=torch.float64)
    tokens[:, 2] = rewards
    ids = [f"prompt {group}" for group in groups.tolist()]
    if host_name == "skyrl":
        with skyrl() as host:
            chosen = host.adapter.register(name, deploy_n=64, advantage_scaling="none")
            return host.compute(tokens, mask, ids, chosen)[0][:, 0]
    with verl() as host:
        estimator, options = parse_estimator(name)
        names = host.adapter.register()
        options = with_budget(estimator, options, 64)
        given = {"adv_estimator": names[estimator], "advantage_scaling": "none", **options}
        return host.compute_advantage(tokens, mask, np.array(ids, dtype=object), **given)[0][:, 0].double()


@pytest.mark.parametrize("host_name", ["rllm", "slime"])
def test_rounding_of_float32_is_no_signal(host_name: str) -> None:
    """0.3 + 0.4 in float32, widened by the host, beside 0.7: flat TEA scales each group, and would make it one."""
    seven, other = (float(one) for one in (np.float32(0.7), np.float32(0.3) + np.float32(0.4)))
    assert seven != other
    rewards = [seven, seven, other, seven]
    if host_name == "rllm":
        with rllm() as host:
            host.adapter.register("flat_tea", deploy_n=64)
            advantages = host.compute([np.array(rewards)], "flat_tea")[0][0]
    else:
        args = SimpleNamespace(tailgrad={"estimator": "flat_tea", "deploy_n": 64})
        advantages = np.array(post_process_rewards(args, [sample(one, 0) for one in rewards])[1])
    assert not advantages.any()


def sample(reward: float | None, group: int, **others: Any) -> SimpleNamespace:
    """The fields of `slime.utils.types.Sample` (slime at 624b824) that are read."""
    given = {"group_index": group, "remove_sample": False, "loss_mask": None, "response_length": 7, **others}
    return SimpleNamespace(get_reward_value=lambda args: reward, **given)


def test_slime_puts_advantages_in_the_place_of_rewards() -> None:
    args = SimpleNamespace(tailgrad=yaml.safe_load(f"estimator: {TEA}\ndeploy_n: 64\n"))
    samples = [sample(REWARDS[group, i].item(), group) for i in range(16) for group in range(2)]
    raw, advantages = post_process_rewards(args, samples)
    assert raw == REWARDS.T.flatten().tolist()
    np.testing.assert_allclose(advantages, EXPECTED.T.flatten().numpy(), rtol=1e-6)


def test_slime_leaves_out_what_is_not_trained_on() -> None:
    args = SimpleNamespace(tailgrad={"estimator": "rloo"})
    left_out = [sample(50.0, 0, remove_sample=True), sample(60.0, 0, loss_mask=[0, 0]), sample(None, 0)]
    left_out.append(sample(70.0, 0, response_length=0))  # its mask would be made later
    kept = [sample(1.0, 0, loss_mask=[0, 1]), sample(5.0, 0)]
    raw, advantages = post_process_rewards(args, left_out + kept)
    assert raw == [50.0, 60.0, None, 70.0, 1.0, 5.0]
    expected = bind("rloo")(torch.tensor([[1.0, 5.0, float("nan")]], dtype=torch.float64))[0]
    assert advantages == [0.0, 0.0, 0.0, 0.0, *expected[:2].tolist()]


@pytest.mark.parametrize("given", [None, "tea", {}, {"deploy_n": 8}, {"estimator": "tea", "deploy_m": 8}])
def test_slime_says_what_its_file_must_have(given: Any) -> None:
    args = SimpleNamespace() if given is None else SimpleNamespace(tailgrad=given)
    with pytest.raises(ValueError, match="must have `tailgrad:` with `estimator: NAME`"):
        post_process_rewards(args, [sample(1.0, 0), sample(2.0, 0)])

import math

import pytest
import torch
from torch import Tensor

from tailgrad.estimators import bind
from tailgrad.estimators.batch import advantage_metrics, differ_by_rounding, scale_advantages, sum_rewards
from tailgrad.rewards import WeightedSum

NAN = math.nan


def none(prompts: int) -> Tensor:
    """No group differs by rounding."""
    return torch.zeros(prompts, 1, dtype=torch.bool)


def test_sum_rewards_sums_what_was_scored() -> None:
    rewards = torch.tensor([[1.0, 10.0], [NAN, 4.0], [3.0, NAN], [NAN, NAN]])
    summed = sum_rewards(rewards, torch.tensor([2.0, 0.5]), 2)
    expected = torch.tensor([[2 * 1 + 0.5 * 10, 0.5 * 4], [2 * 3, NAN]])
    torch.testing.assert_close(summed, expected, equal_nan=True, rtol=0, atol=0)


def test_a_function_that_is_only_logged_makes_no_reward() -> None:
    """Its weight is 0; where the other one did not score, a reward of 0 would be the best of a group of penalties."""
    rewards = torch.tensor([[-4.0, 9.0], [NAN, 7.0], [NAN, NAN], [-6.0, NAN]])
    summed = sum_rewards(rewards, torch.tensor([1.0, 0.0]), 4)
    torch.testing.assert_close(summed, torch.tensor([[-4.0, NAN, NAN, -6.0]]), equal_nan=True, rtol=0, atol=0)
    assert torch.isnan(sum_rewards(rewards, torch.zeros(2), 4)).tolist() == [[False, False, True, False]]

    def given(place: int):
        column = [None if math.isnan(one) else one for one in rewards[:, place].tolist()]
        return lambda prompts, completions, **columns: column

    for weights, expected in (([1.0, 0.0], [-4.0, None, None, -6.0]), ([0.0, 0.0], [0.0, 0.0, None, 0.0])):
        both = WeightedSum([given(0), given(1)], weights)
        assert both(prompts=["a"] * 4, completions=["b"] * 4) == expected


@pytest.mark.parametrize("rollouts", [2, 3, 4, 7])
def test_small_groups_have_a_spread_and_a_forecast(rollouts: int) -> None:
    rewards = torch.randn(6, rollouts, generator=torch.Generator().manual_seed(0))
    metrics = advantage_metrics(rewards, rewards, deploy_n=128, smallest_group=2)
    assert metrics["tail/spread"] > 0
    assert metrics["tail/forecast_best_of_128"] > metrics[f"tail/best_of_{rollouts}"]


def test_scaling_gives_root_mean_square_one() -> None:
    advantages = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1e-3], [1], [7], [50], [0]]
    )
    assert scale_advantages(advantages, "none", ~none(5)) is advantages
    by_group = scale_advantages(advantages, "group", none(5))
    torch.testing.assert_close(by_group[:4].square().mean(dim=1), torch.ones(4))
    assert not by_group[4].any()
    by_batch = scale_advantages(advantages, "batch", none(5))
    torch.testing.assert_close(by_batch.square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(by_batch / by_batch[2, 0], advantages / advantages[2, 0])
    assert not scale_advantages(torch.zeros(2, 4), "batch", none(2)).any()


def test_scaled_per_group_grpo_has_nothing_that_dr_grpo_has_not() -> None:
    rewards = 3 * torch.randn(5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    ours, other = (bind(name)(rewards) for name in ("grpo", "dr_grpo"))
    assert (ours - other).abs().max() > 1
    torch.testing.assert_close(*(scale_advantages(one, "group", none(5)) for one in (ours, other)))


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match="none, group, batch"):
        scale_advantages(torch.zeros(1, 2), "std", none(1))


SUMS = [
    ([[0.3, 0.4]] * 3 + [[0.7, 0.0]], [1.0, 1.0]),
    ([[0.3, 0.4, -0.7]] * 3 + [[0.0, 0.0, 0.0]], [1.0, 1.0, 1.0]),
    ([[18.93, 0.1]] * 3 + [[18.93 + 2e-6, 0.1]], [1.0, 1.0]),
    ([[0.7, -1e4]] * 3 + [[0.7 + 2**-10, -1e4]], [1.0, 1.0]),
    ([[9.0, 0.0]] * 3 + [[0.0, 6.3]], [0.7, 1.0]),
]


@pytest.mark.parametrize(("parts", "weights"), SUMS)
@pytest.mark.parametrize("estimator", ["tea", "grpo", "max_at_k", "rloo", "bon_max_mean"])
def test_rounding_is_not_scaled_up_to_a_signal(parts: list[list[float]], weights: list[float], estimator: str) -> None:
    """One unit in the last place between equal sums is a root mean square of one otherwise, and single ones of 3.9."""
    options = {"tea": {"deploy_n": 128, "tail_fraction": 0.5}, "max_at_k": {"k": 4}}.get(estimator, {})
    rewards_per_func = torch.tensor(parts)
    rewards = sum_rewards(rewards_per_func, torch.tensor(weights), 4)
    assert rewards.amin() < rewards.amax()
    rounding = differ_by_rounding(rewards_per_func, torch.tensor(weights), 4)
    advantages = bind(estimator, **options)(rewards)
    for scaling in ("group", "batch"):
        assert not scale_advantages(advantages, scaling, rounding).any()
        two = scale_advantages(torch.cat([advantages, torch.eye(4)[:1]]), scaling, torch.cat([rounding, none(1)]))
        assert not two[0].any()
        assert two[1, 0] == pytest.approx(2.0 if scaling == "group" else 8**0.5)
    assert torch.equal(scale_advantages(advantages, "none", rounding), advantages)


def test_no_rounding_of_equal_sums_is_taken_for_a_difference() -> None:
    """Four terms in float64, weighted so that every rollout's sum is 1, then handed over in float32."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.3, 0.7, 1.3, 0.9])
    terms = torch.rand(5000 * 4, 4, dtype=torch.float64, generator=generator)
    terms[:, 3] = (1 - (terms * weights)[:, :3].sum(dim=1)) / weights[3].double()
    rewards = sum_rewards(terms.float(), weights, 4)
    equal = rewards.amin(dim=1, keepdim=True) == rewards.amax(dim=1, keepdim=True)
    assert equal.double().mean() < 0.5
    assert torch.equal(differ_by_rounding(terms.float(), weights, 4), ~equal)


@pytest.mark.parametrize(
    ("parts", "weights"),
    [
        ([[0.1, 0.2]] * 2, [1.0, 1.0]),  # equal
        ([[18.93], [18.94]], [1.0]),
        ([[18.93], [18.93 + 2e-5]], [1.0]),
        ([[1e-30], [2e-30]], [1.0]),
        ([[0.0], [1e-30]], [1.0]),
        ([[1e6], [1e6 + 1]], [1.0]),
        ([[0.1, 0.2], [0.1, NAN]], [1.0, 1.0]),
        ([[0.1, 0.2], [NAN, NAN]], [1.0, 1.0]),
        ([[NAN, NAN], [NAN, NAN]], [1.0, 1.0]),
        ([[1.0, -1e9], [2.0, -1e9]], [1.0, 0.0]),  # a function that is only watched
    ],
)
def test_what_the_rewards_really_differ_by_is_no_rounding(parts: list[list[float]], weights: list[float]) -> None:
    assert differ_by_rounding(torch.tensor(parts), torch.tensor(weights), 2).tolist() == [[False]]


def test_metrics_by_hand() -> None:
    rewards = torch.tensor([[0.0, 1.0, 3.0, 5.0], [2.0, 2.0, 2.0, NAN]])
    advantages = torch.tensor([[-2.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    metrics = advantage_metrics(rewards, advantages, deploy_n=2, tail_fraction=0.5, smallest_group=4)
    assert metrics["tail/advantage_scale"] == pytest.approx(1.0)
    assert metrics["tail/groups_without_signal"] == 0.5
    assert metrics["tail/groups_too_small"] == 0.5
    assert metrics["tail/unscored"] == 0.125
    # Tails (3, 5) and (2, 2): standard deviations 1 and 0, means 4 and 2.
    assert metrics["tail/spread"] == pytest.approx(0.5)
    # c_2 = 1 / sqrt(pi); at alpha = 1/2, lambda = sqrt(2 / pi) and kappa = sqrt(1 - 2 / pi).
    coefficient = (1 / math.sqrt(math.pi) - math.sqrt(2 / math.pi)) / math.sqrt(1 - 2 / math.pi)
    assert metrics["tail/forecast_best_of_2"] == pytest.approx(((4 + coefficient) + 2) / 2)
    # The larger of two of 0, 1, 3, 5: 1 + 3 + 5 + 3 + 5 + 5 over 6 pairs; of three scored rewards all are 2.
    assert metrics["tail/best_of_2"] == pytest.approx((22 / 6 + 2) / 2)


def test_of_one_rollout_per_prompt_the_best_is_its_reward() -> None:
    """An evaluation may draw one; nothing is forecast from it."""
    rewards = torch.tensor([[1.0], [3.0], [math.nan]])
    metrics = advantage_metrics(rewards, torch.zeros_like(rewards), deploy_n=64, smallest_group=2)
    assert metrics["tail/best_of_1"] == 2
    assert math.isnan(metrics["tail/forecast_best_of_64"])
    assert metrics["tail/groups_too_small"] == 1


@pytest.mark.parametrize(
    ("deploy_n", "k", "best"), [(128, 4, 5.0), (1e9, 4, 5.0), (4, 4, 5.0), (3.5, 3, 4.5), (1, 1, 2.25)]
)
def test_the_best_of_a_group_is_of_no_more_than_it_holds(deploy_n: float, k: int, best: float) -> None:
    """Of three of 0, 1, 3, 5 the largest is 5 in three cases and 3 in one. The other group has but three scored."""
    rewards = torch.tensor([[0.0, 1.0, 3.0, 5.0], [7.0, 7.0, 7.0, NAN]])
    metrics = advantage_metrics(rewards, rewards, deploy_n=deploy_n, smallest_group=2)
    assert [name for name in metrics if name.startswith("tail/best_of_")] == [f"tail/best_of_{k}"]
    assert metrics[f"tail/best_of_{k}"] == pytest.approx(best if k == 4 else (best + 7) / 2)


def test_metrics_without_a_single_scored_rollout() -> None:
    metrics = advantage_metrics(
        torch.full((2, 4), NAN), torch.zeros(2, 4), deploy_n=8, tail_fraction=0.5, smallest_group=3
    )
    assert metrics["tail/unscored"] == 1.0
    assert math.isnan(metrics["tail/spread"])
    assert math.isnan(metrics["tail/best_of_4"])

import math

import pytest
import torch

from tailgrad.training.advantages import advantage_metrics, scale_advantages, sum_rewards

NAN = math.nan


def test_sum_rewards_sums_what_was_scored() -> None:
    rewards = torch.tensor([[1.0, 10.0], [NAN, 4.0], [3.0, NAN], [NAN, NAN]])
    summed = sum_rewards(rewards, torch.tensor([2.0, 0.5]), 2)
    expected = torch.tensor([[2 * 1 + 0.5 * 10, 0.5 * 4], [2 * 3, NAN]])
    torch.testing.assert_close(summed, expected, equal_nan=True, rtol=0, atol=0)


def test_scaling_gives_root_mean_square_one() -> None:
    advantages = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1e-3], [1], [7], [50], [0]]
    )
    assert scale_advantages(advantages, "none") is advantages
    by_group = scale_advantages(advantages, "group")
    torch.testing.assert_close(by_group[:4].square().mean(dim=1), torch.ones(4))
    assert not by_group[4].any()
    by_batch = scale_advantages(advantages, "batch")
    torch.testing.assert_close(by_batch.square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(by_batch / by_batch[2, 0], advantages / advantages[2, 0])
    assert not scale_advantages(torch.zeros(2, 4), "batch").any()


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match="none, group, batch"):
        scale_advantages(torch.zeros(1, 2), "std")


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


def test_metrics_without_a_single_scored_rollout() -> None:
    metrics = advantage_metrics(
        torch.full((2, 4), NAN), torch.zeros(2, 4), deploy_n=8, tail_fraction=0.5, smallest_group=3
    )
    assert metrics["tail/unscored"] == 1.0
    assert math.isnan(metrics["tail/spread"])

"""The bias of TEA and Prefix-TEA on Gaussian rewards, by simulation.

R ~ N(0, 1), N = 128, alpha = 0.25: the truth is dV/dmu = 1 and dV/dlog sigma = c_128 = 2.594597. The gradient
estimate of a group is (1/m) sum A_i s_i with score s = R for mu and s = R^2 - 1 for log sigma. The expected
figures were measured independently, with standard errors of at most 0.002 (mu) and 0.006 (log sigma).
"""

import math

import pytest
import torch
from torch import Tensor

from tailgrad.estimators import prefix_tea, tea

TRUTH = torch.tensor([1.0, 2.594597], dtype=torch.float64)
TABLE_ERROR = torch.tensor([0.002, 0.006], dtype=torch.float64)
TEA_BIAS = {
    16: (-0.345, -1.314),
    32: (-0.226, -0.820),
    64: (-0.135, -0.479),
    128: (-0.074, -0.264),
    256: (-0.039, -0.139),
}
TEA_SD = {16: (0.84, 2.26), 32: (0.82, 2.25), 64: (0.68, 1.95), 128: (0.53, 1.56), 256: (0.39, 1.18)}
PREFIX_BIAS = {
    16: (-0.193, -0.773),
    32: (-0.153, -0.549),
    64: (-0.077, -0.235),
    128: (-0.029, -0.095),
    256: (-0.009, -0.032),
}
PREFIX_SD = {16: (1.32, 3.50), 32: (0.95, 2.64), 64: (0.78, 2.21), 128: (0.58, 1.71), 256: (0.41, 1.25)}


def draw(groups: int, m: int) -> Tensor:
    return torch.randn(groups, m, dtype=torch.float64, generator=torch.Generator().manual_seed(m))


def gradients(advantages: Tensor, rewards: Tensor) -> Tensor:
    """One gradient estimate per group for mu and for log sigma: `[groups, 2]`."""
    return torch.stack([(advantages * rewards).mean(1), (advantages * (rewards**2 - 1)).mean(1)], dim=1)


def assert_within(actual: Tensor, expected: Tensor, error: Tensor) -> None:
    """Within four standard errors."""
    assert bool(((actual - expected).abs() < 4 * error).all()), f"{actual} is not {expected} +- {error}"


def assert_spread(estimates: Tensor, expected: tuple[float, float]) -> None:
    """Standard deviations agree within the rounding of the table and four errors of both measurements."""
    sd = estimates.std(dim=0)
    kurtosis = ((estimates - estimates.mean(0)) / sd).pow(4).mean(0)
    error = sd * ((kurtosis - 1) / (4 * len(estimates))).sqrt()
    assert_within(sd, torch.tensor(expected).double(), 0.005 / 4 + 1.5 * error)


@pytest.mark.parametrize(("m", "groups"), [(16, 200_000), (32, 100_000), (64, 50_000), (128, 25_000), (256, 12_000)])
def test_tea(m: int, groups: int) -> None:
    """Standard errors here: 0.002 to 0.0036 for mu, 0.005 to 0.011 for log sigma."""
    rewards = draw(groups, m)
    parts = [
        gradients(tea(part, deploy_n=128, validate=False), part)  # m >= 128 would warn
        for part in rewards.split(4096)
    ]
    estimates = torch.cat(parts) - TRUTH
    error = estimates.std(dim=0) / math.sqrt(groups)
    assert error[0] < 0.004
    assert error[1] < 0.012
    assert_within(estimates.mean(0), torch.tensor(TEA_BIAS[m]).double(), (error**2 + TABLE_ERROR**2).sqrt())
    assert_spread(estimates, TEA_SD[m])


@pytest.mark.parametrize(("m", "groups"), [(16, 8_000), (32, 3_000), (64, 1_500), (128, 600), (256, 200)])
def test_prefix_tea_with_all_shifts(m: int, groups: int) -> None:
    """TEA on the same groups is the control variate: its bias is known, and it explains 99% of the variance.

    That leaves standard errors of 0.0025 for mu and 0.004 for log sigma, besides those of the two tables.
    """
    rewards = draw(groups, m)
    estimates = (
        torch.cat([gradients(prefix_tea(part, deploy_n=128, validate=False), part) for part in rewards.split(512)])
        - TRUTH
    )
    control = gradients(tea(rewards, deploy_n=128, validate=False), rewards) - TRUTH  # m >= 128 would warn
    assert_spread(estimates, PREFIX_SD[m])
    deviation = control - control.mean(0)
    slope = (deviation * estimates).sum(0) / deviation.pow(2).sum(0)
    adjusted = estimates - slope * (control - torch.tensor(TEA_BIAS[m]).double())
    error = adjusted.std(dim=0) / math.sqrt(groups)
    assert error[0] < 0.003
    assert error[1] < 0.005
    total = (error**2 + (1 + slope**2) * TABLE_ERROR**2).sqrt()
    assert_within(adjusted.mean(0), torch.tensor(PREFIX_BIAS[m]).double(), total)

import pytest
import torch
from torch import Tensor

from tailgrad.estimators import dr_grpo, grpo, rloo


def trl_grpo(rewards: Tensor) -> Tensor:
    """TRL's own lines (`GRPOTrainer`, sum_then_normalize, scale_rewards="group"), with TRL's own `nanstd`."""
    nanstd = pytest.importorskip("trl.trainer.utils").nanstd  # the core is tested without it, too (`make lowest`)

    m = rewards.shape[1]
    flat = rewards.reshape(-1)
    mean = torch.nanmean(flat.view(-1, m), dim=1).repeat_interleave(m, dim=0)
    std = nanstd(flat.view(-1, m), dim=1).repeat_interleave(m, dim=0)
    return torch.nan_to_num((flat - mean) / (std + 1e-4), nan=0.0).view(-1, m)


def exact(rewards: Tensor) -> Tensor:
    rewards = rewards.double()
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (rewards.std(dim=1, keepdim=True) + 1e-4)


@pytest.mark.parametrize("m", [4, 5, 8, 12, 16, 32, 64])
@pytest.mark.parametrize("kind", ["normal", "offset", "fractions", "binary"])
def test_bitwise_trl_on_ordinary_float32_rewards(m: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(m)
    shape = (2000, m)
    rewards = {
        "normal": torch.randn(shape, generator=generator),
        "offset": 2 + torch.randn(shape, generator=generator),
        "fractions": torch.randint(0, 8, shape, generator=generator) / 7,
        "binary": torch.randint(0, 2, shape, generator=generator).float(),
    }[kind]
    rewards = rewards[rewards.std(dim=1) > 0.1]  # (nearly) equal rewards: see below
    assert torch.equal(grpo(rewards), trl_grpo(rewards))
    assert (grpo(rewards).double() - exact(rewards)).abs().max() < 5e-6


@pytest.mark.parametrize("spread", [1e-38, 1e-25, 1e-20, 1e-14, 1.0, 1e14, 1e19, 1e25, 1e38])
def test_without_eps_the_unit_of_float32_rewards_does_not_matter(spread: float) -> None:
    """Squares of 1e-20 are 0 in float32 and those of 1e19 infinite: TRL gives zeros or infinities."""
    rewards = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).clamp(-3, 3) * spread
    values = rewards.double()
    expected = (values - values.mean(dim=1, keepdim=True)) / values.std(dim=1, keepdim=True)
    torch.testing.assert_close(grpo(rewards, eps=0.0).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
def test_equal_rewards_are_zero_for_every_number_of_them(dtype: torch.dtype, eps: float) -> None:
    """Whatever their mean was off by is the same few units in the last place for all of them, and is taken off."""
    for m in range(2, 40):
        rewards = torch.rand(200, 1, dtype=dtype, generator=torch.Generator().manual_seed(m)).repeat(1, m)
        rewards[::2, m // 2 + 1 :] = torch.nan
        assert not grpo(rewards, eps=eps).any()


def test_equal_rewards_are_exactly_zero_where_trl_has_rounding_noise() -> None:
    """The float32 mean of eight times 0.3 may be off in its last bit, and TRL divides that by 1e-4."""
    rewards = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 8).contiguous()
    assert trl_grpo(rewards).abs().max() > 1e-4
    assert bool((grpo(rewards) == 0).all())


@pytest.mark.parametrize(("offset", "spread"), [(18.93, 0.01), (1e4, 1.0), (1e4, 100.0), (-300.0, 0.1)])
@pytest.mark.parametrize("m", [4, 16, 64])
def test_offsets_do_not_cost_digits(offset: float, spread: float, m: int) -> None:
    """TRL's float32 mean is off by up to 1e-3 standard deviations here."""
    rewards = offset + spread * torch.randn(500, m, generator=torch.Generator().manual_seed(m))
    assert (grpo(rewards).double() - exact(rewards)).abs().max() < 1e-5


def test_float64_is_computed_in_float64() -> None:
    rewards = 18.93 + 0.01 * torch.randn(500, 16, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(grpo(rewards), exact(rewards), rtol=0, atol=1e-11)


def test_eps_is_added_to_the_standard_deviation() -> None:
    """std of (0, 1, 2) is 1."""
    rewards = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(grpo(rewards, eps=1.0), torch.tensor([[-0.5, 0.0, 0.5]]).double())


def test_unscored_rollouts_are_trls_up_to_the_factor_m_over_n() -> None:
    rewards = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    rewards[:, 3] = torch.nan
    torch.testing.assert_close(grpo(rewards), trl_grpo(rewards) * 8 / 7, rtol=1e-6, atol=0)


def test_dr_grpo_and_rloo_by_hand() -> None:
    """Mean 2; RLOO: 0 - 8/3, 1 - 7/3, 5 - 1, 2 - 2."""
    rewards = torch.tensor([[0.0, 1.0, 5.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(dr_grpo(rewards), torch.tensor([[-2.0, -1.0, 3.0, 0.0]]).double())
    torch.testing.assert_close(rloo(rewards), torch.tensor([[-8 / 3, -4 / 3, 4.0, 0.0]]).double())


def test_rloo_subtracts_the_mean_of_the_others() -> None:
    rewards = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)).double()
    others = torch.stack([rewards[:, [j for j in range(7) if j != i]].mean(dim=1) for i in range(7)], dim=1)
    torch.testing.assert_close(rloo(rewards), rewards - others)


def test_one_scored_rollout_is_no_signal() -> None:
    rewards = torch.tensor([[torch.nan, 3.0, torch.nan]])
    for estimator in (grpo, dr_grpo, rloo):
        assert bool((estimator(rewards) == 0).all())


def test_grpo_rejects_a_negative_eps() -> None:
    with pytest.raises(ValueError, match=r"eps = -1\.0 must not be negative"):
        grpo(torch.zeros(1, 4), eps=-1.0)

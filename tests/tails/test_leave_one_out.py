import math

import torch

from tailgrad.tails.leave_one_out import leave_one_out_error


def test_the_error_of_a_mean_is_its_own_and_only_members_are_read() -> None:
    """Of n values the mean's error is std / sqrt(n), and the mean without x_i is (sum - x_i) / (n - 1)."""
    values = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = values.std(dim=1) / math.sqrt(8)
    without = (values.sum(dim=1, keepdim=True) - values) / 7
    torch.testing.assert_close(leave_one_out_error(without), expected)
    padded = torch.cat([without, torch.full((3, 2), math.nan, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(leave_one_out_error(padded, ~padded.isnan()), expected)
    assert leave_one_out_error(padded).isnan().all()
    assert leave_one_out_error(torch.full((1, 7), 1e15 / 3)).item() == 0


def test_equal_values_have_no_error_at_all() -> None:
    """Whatever their sum rounds to, and whatever stands in the other groups."""
    equal = torch.rand(50, 1, generator=torch.Generator().manual_seed(0)).expand(50, 7)
    assert not leave_one_out_error(equal).any()
    assert not leave_one_out_error(equal.double()).any()

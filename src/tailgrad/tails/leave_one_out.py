"""The jackknife's standard error, for many groups at once."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def leave_one_out_error(
    without: Float[Tensor, "P M"], present: Bool[Tensor, "P M"] | None = None
) -> Float[Tensor, " P"]:
    """Standard error of a number from its values f_i without member i of n: sqrt((n - 1) / n sum_i (f_i - mean f)^2).

    Args:
        without: The values of each group, without each of its members in turn.
        present: Which members a group has; the others are not read. None is all.

    Returns:
        One error per group, exactly 0 where all values are equal; NaN for a group of none or where a value is NaN.

    Examples:
        >>> leave_one_out_error(torch.tensor([[3.0, 2.0, 1.0]]))  # of the mean of 0, 2 and 4: std / sqrt(3)
        tensor([1.1547])

    Reference:
        Efron and Stein (1981), The jackknife estimate of variance, Annals of Statistics 9(3).
    """
    present = torch.ones_like(without, dtype=torch.bool) if present is None else present
    relative = without - without.where(present, -math.inf).amax(dim=1, keepdim=True)
    n = present.sum(dim=1)
    mean = relative.where(present, 0.0).sum(dim=1, keepdim=True) / n.unsqueeze(1)
    squares = ((relative - mean) ** 2).where(present, 0.0).sum(dim=1)
    return (squares * (n - 1) / n).sqrt()

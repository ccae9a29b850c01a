"""Shapes of an upper tail: each is fitted to the top of a group, forecasts V_N, and says what a rollout adds to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Real
from torch import Tensor

from tailgrad.tails.constants import check_budget, extrapolation_coefficient
from tailgrad.tails.statistics import UpperTail, excess_moments, upper_tail
from tailgrad.types import Rewards

_EULER = 0.57721566490153286061
"""H_n = digamma(n + 1) + this."""


class FittedTail(NamedTuple):
    """A shape, fitted to the k largest of n rewards of each group; columns, NaN where k < 2."""

    threshold: Float[Tensor, "*groups 1"]
    """r_hat, the smallest reward of the tail."""
    location: Float[Tensor, "*groups 1"]
    """Where the shape lies, relative to the threshold, in the units of the rewards."""
    scale: Float[Tensor, "*groups 1"]
    """How wide it is, in the same units; 0 where the rewards of the tail are equal."""
    size: Real[Tensor, "*groups 1"]
    """k."""
    scored: Real[Tensor, "*groups 1"]
    """n."""


class Influence(NamedTuple):
    """What a rollout adds to the forecast: a polynomial of its excess over the threshold, 0 at and below it."""

    jump: Float[Tensor, "*groups 1"] | None
    """The polynomial's constant, which rollouts above the threshold get whatever their excess; None is 0."""
    linear: Float[Tensor, "*groups 1"]
    """Its slope at the threshold."""
    quadratic: Float[Tensor, "*groups 1"]
    """The factor of the squared excess."""

    def of(self, excess: Float[Tensor, "*groups M"]) -> Float[Tensor, "*groups M"]:
        """The influence of rollouts.

        Args:
            excess: Their excesses over the threshold, 0 for those not above it, which get 0.
        """
        values = excess * (self.linear + self.quadratic * excess)
        return values if self.jump is None else values + self.jump * (excess > 0)


@dataclass(frozen=True)
class TailShape:
    """A shape that the upper tail of the rewards is assumed to have, but for its location and scale.

    The forecast of every shape is V_N = threshold + location + c_N scale. The influence is the derivative of this
    forecast when weight is added to a rollout of the group.

    Attributes:
        moments: Location and scale of each tail, `[..., 1]`, from the excesses over its threshold `[..., M]` (among
            zeros), its size k and the n rollouts of its group.
        coefficient: c_N from `deploy_n`, a number or a tensor, and `tail_fraction`; refuses N outside [1, 1e9], the
            values of a tensor only if `validate`.
        influence: The influence on the forecast, from a fitted tail, c_N and `tail_fraction`; 0 where the scale is 0.
        weighted: Location and scale of the tail of rollouts with weights; None for a shape that has no such form.
    """

    moments: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    coefficient: Callable[..., float | Tensor]
    influence: Callable[[FittedTail, float | Tensor, float], Influence]
    weighted: Callable[[UpperTail], tuple[Tensor, Tensor]] | None = None

    def fit(self, rewards: Rewards, *, tail_fraction: float, weights: Float[Tensor, "P M"] | None = None) -> FittedTail:
        """Fit the shape to the k = ceil(alpha n) largest rewards of each group.

        Args:
            rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
            tail_fraction: alpha in (0, 1], the share of the group in the tail.
            weights: Mass of each rollout, as in `tail_statistics`.

        Returns:
            Columns `[P, 1]` in float64.

        Raises:
            ValueError: If `tail_fraction` lies outside (0, 1], or weights are given to a shape that takes none.

        Examples:
            >>> tail = GAUSSIAN.fit(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), tail_fraction=0.5)
            >>> tail.threshold.item(), tail.location.item(), tail.scale.item()
            (3.0, 1.0, 1.0)
        """
        tail = upper_tail(rewards, tail_fraction, weights)
        if weights is None:
            location, scale = self.moments(tail.excess, tail.size, tail.scored)
        elif self.weighted is not None:
            location, scale = self.weighted(tail)
        else:
            raise ValueError(
                "this shape of the tail has no form for ratios of an older policy: leave them out, or take "
                'tail = "gaussian"'
            )
        return FittedTail(tail.threshold, location, scale, tail.size, tail.scored)

    def forecast(self, tail: FittedTail, coefficient: float | Tensor) -> Float[Tensor, " P"]:
        """V_N of each group.

        Args:
            tail: The group's tail, from `fit`.
            coefficient: c_N, one number or one for each group.

        Examples:
            >>> tail = GAUSSIAN.fit(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), tail_fraction=0.5)
            >>> GAUSSIAN.forecast(tail, GAUSSIAN.coefficient(64, 0.5)).round(decimals=6)
            tensor([6.5644], dtype=torch.float64)
        """
        return (tail.threshold + tail.location + as_column(coefficient) * tail.scale).squeeze(1)


def as_column(coefficient: float | Tensor) -> float | Tensor:
    """One coefficient for each group as a column; one number stays as it is."""
    return coefficient.unsqueeze(1) if isinstance(coefficient, Tensor) and coefficient.ndim else coefficient


def mean_and_std(
    excess: Float[Tensor, "*groups M"], size: Real[Tensor, "..."], scored: Real[Tensor, "..."]
) -> tuple[Float[Tensor, "*groups 1"], Float[Tensor, "*groups 1"]]:
    """Location and scale of a shape that is fitted by its mean and its standard deviation.

    Args:
        excess: The excesses over the tail's threshold, `[..., M]`, among zeros.
        size: k, how many rollouts the tail holds.
        scored: n, how many rollouts the group holds; it does not matter here.

    Returns:
        Two columns `[..., 1]`: the mean, relative to the threshold, and the standard deviation.

    Examples:
        >>> excess, size = torch.tensor([[2.0, 0.0, 0.0, 0.0]]), torch.tensor([[2]])
        >>> mean_and_std(excess, size, torch.tensor([[4]]))  # of the two that the tail holds
        (tensor([[1.]]), tensor([[1.]]))
    """
    return excess_moments(excess, size)


def influence_on_mean_and_std(tail: FittedTail, coefficient: float | Tensor, tail_fraction: float) -> Influence:
    """The influence on mean + c std of the upper alpha, from `mean_and_std`; both have a derivative, and no jump.

    (1 / alpha) [e + c / (2 std) ((u - mean)^2 - (threshold - mean)^2)] for the rewards u above the threshold; with
    the excess e = u - threshold the two squares differ by e (e - 2 location).

    Args:
        tail: The tail, fitted by its mean and standard deviation.
        coefficient: c, one number or a column `[..., 1]`.
        tail_fraction: alpha in (0, 1], the share of the group in the tail.

    Returns:
        The polynomial, 0 where the tail has no spread.

    Examples:
        >>> tail = GAUSSIAN.fit(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), tail_fraction=0.5)
        >>> influence_on_mean_and_std(tail, 0.5, 0.5).of(torch.tensor([[0.0, 0.0, 2.0, 0.0]])).tolist()
        [[0.0, 0.0, 4.0, 0.0]]
    """
    quadratic = coefficient / (2 * tail_fraction * tail.scale)
    linear = 1 / tail_fraction - 2 * quadratic * tail.location
    spread = tail.scale > 0
    return Influence(None, linear.where(spread, 0.0), quadratic.where(spread, 0.0))


def _exponential_moments(
    excess: Float[Tensor, "*groups M"], size: Real[Tensor, "..."], scored: Real[Tensor, "..."]
) -> tuple[Float[Tensor, "*groups 1"], Float[Tensor, "*groups 1"]]:
    """Where the exponential distribution begins that has this tail, and its mean over that: s (H_{k-1} - H_n), s."""
    scale = excess.sum(dim=-1, keepdim=True) / (size - 1)
    return scale * _log_share(size, scored), scale


def _harmonic(deploy_n: int | float | Tensor, tail_fraction: float, *, validate: bool = True) -> Tensor:
    """H_N, the expected maximum of N exponentials in units of their scale."""
    check_budget(deploy_n, "deploy_n", validate=validate)
    return torch.digamma(torch.as_tensor(deploy_n, dtype=torch.float64) + 1) + _EULER


def _exponential_influence(tail: FittedTail, coefficient: float | Tensor, tail_fraction: float) -> Influence:
    """The weight derivative with the threshold held: weight on a rollout above it makes the tail heavier, and longer.

    With the mass p = (k - 1) / n above the threshold the forecast is threshold + s (H_N - H_n + H_{np}), s the mean
    excess of that mass; weight on a rollout of excess e changes s by (e - s) / p, and p by one.
    """
    size = tail.size.to(torch.float64)
    linear = (coefficient + _log_share(tail.size, tail.scored)) * tail.scored / (size - 1)
    jump = tail.scale * (tail.scored * torch.polygamma(1, size) - linear)
    spread = tail.scale > 0
    linear = linear.where(spread, 0.0)
    return Influence(jump.where(spread, 0.0), linear, torch.zeros_like(linear))


def _log_share(size: Real[Tensor, "..."], scored: Real[Tensor, "..."]) -> Float[Tensor, "..."]:
    """H_{k-1} - H_n, which stands for the logarithm of the share above the threshold."""
    return torch.digamma(size.to(torch.float64)) - torch.digamma(scored.to(torch.float64) + 1)


def _weighted_mean_and_std(tail: UpperTail) -> tuple[Tensor, Tensor]:
    return excess_moments(tail.excess, tail.size, tail.shares)


GAUSSIAN = TailShape(mean_and_std, extrapolation_coefficient, influence_on_mean_and_std, _weighted_mean_and_std)
"""The upper tail of a normal distribution: V_N = mu_alpha + ctilde_N sigma_alpha."""

EXPONENTIAL = TailShape(_exponential_moments, _harmonic, _exponential_influence)
"""The upper tail of an exponential distribution of any location and scale: V_N = location + H_N scale."""

TAIL_SHAPES: dict[str, TailShape] = {
    "gaussian": GAUSSIAN,
    "exponential": EXPONENTIAL,
}
"""Every shape of a tail by its plain name, as `tea(tail=...)` takes it."""


def tail_shape(name: str) -> TailShape:
    """The shape of this name.

    Args:
        name: A key of `TAIL_SHAPES`.

    Returns:
        The shape.

    Raises:
        ValueError: If the name is unknown.

    Examples:
        >>> tail_shape("gaussian") is GAUSSIAN
        True
    """
    if name not in TAIL_SHAPES:
        raise ValueError(f"unknown tail {name!r}: choose one of {', '.join(TAIL_SHAPES)}")
    return TAIL_SHAPES[name]

"""Gradient fidelity: what estimators make of m rollouts, against the gradient of V_N from a large pool."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Real

from tailgrad.estimators import bind, find_estimator, max_at_k, parse_estimator, smallest_group, with_budget
from tailgrad.fidelity.products import agreement, inner_products, measure, without_each_prompt
from tailgrad.statistics.intervals import Interval
from tailgrad.types import check_rewards


@runtime_checkable
class ResponseGradients(Protocol):
    """The gradients of log-probability of n responses to each of P prompts; `gradients[p]` is `[n, D]`."""

    def __len__(self) -> int:
        """Number of prompts."""

    def __getitem__(self, prompt: int, /) -> Any:
        """The gradients `[n, D]` of one prompt's responses."""


@dataclass(frozen=True, eq=False)
class FidelityPoint:
    """One estimator at one m and N.

    Attributes:
        estimator: As it was written, `max_at_k:k=4`.
        m: Rollouts per prompt.
        deploy_n: N of the truth, and of the estimator where it takes one.
        steps: Number of training steps over which `step` is the mean.
        measures: `direction`, `step`, `norm_ratio` and `signal_to_noise` (see `gradient_fidelity`) with intervals,
            one column each; NaN where noise leaves nothing, or the estimator has no scale.
        left_out: The measures in that order without each of the P prompts; empty with one prompt.
    """

    estimator: str
    m: int
    deploy_n: int
    steps: int
    measures: dict[str, Interval]
    left_out: Float[np.ndarray, "P 4"]


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Gradient fidelity of several estimators, from one pool.

    Attributes:
        prompts: P.
        n: Responses per prompt in the pool.
        points: One per estimator, m and N; N varies slowest, the estimator fastest.
        truth_agreement: For each N the plain cosine between the truths of the two halves of the pool.
    """

    prompts: int
    n: int
    points: tuple[FidelityPoint, ...]
    truth_agreement: dict[int, float]


def population_influence(rewards: Real[np.ndarray, "P n"], deploy_n: int) -> Float[np.ndarray, "P n"]:
    """Influence of each response of a large pool on V_N, without bias.

        psi_N(u) = N times the integral of F(s)^(N-1) over s up to u

    with F the distribution function of the prompt's rewards. F(s)^(N-1) is replaced by its unbiased estimate from the
    other n - 1 responses, C(c, N - 1) / C(n - 1, N - 1), where c of them are <= s. So the mean of influence times
    gradient of log-probability is unbiased for the gradient of V_N at every N <= n, with ties and at both ends. (The
    empirical F itself to the power N - 1 would be off by about N / 2n.) This is the influence on the U-statistic of the
    best of N: `max_at_k` with k = N and `baseline="subset"`.

    Args:
        rewards: Rewards of n responses to each of P prompts; NaN where unscored.
        deploy_n: N, from 2 to n.

    Returns:
        Influences in the unit of the rewards, 0 where unscored, times n over the number of scored responses.

    Raises:
        ValueError: If `rewards` is not `[P, n]` or holds an infinity, or N is out of range.

    Examples:
        >>> population_influence(np.array([[0.0, 1.0, 3.0]]), 2)  # of 3: 2 * ((3 - 0) + (3 - 1)) / 2
        array([[0., 1., 5.]])

    Reference:
        arXiv 2605.10716 for psi_N; arXiv 2505.15201 for the U-statistic.
    """
    if not 2 <= deploy_n <= rewards.shape[1]:
        raise ValueError(
            f"deploy_n = {deploy_n} must lie between 2 and the {rewards.shape[1]} responses per prompt: beyond that "
            "the truth would be extrapolated. Take more responses per prompt, or a smaller N."
        )
    values = torch.from_numpy(np.array(rewards, dtype=np.float64))
    return max_at_k(values, k=deploy_n, baseline="subset").numpy()


def gradient_fidelity(
    rewards: Real[np.ndarray, "P n"],
    gradients: ResponseGradients,
    *,
    estimators: Sequence[str],
    m: Sequence[int],
    deploy_n: Sequence[int],
    seed: int = 0,
) -> Fidelity:
    """Compare estimators' gradients from m rollouts with the gradient of V_N, both from one pool.

    The responses of each prompt are split into two independent halves. g is the gradient of a training step: the mean
    over the P prompts of (1/m) sum A_i grad log pi(y_i|x), with groups of m consecutive responses of one half. The
    truth t is the mean of `population_influence` times gradient, over the prompts and over the responses of a half.
    Products that noise would inflate are taken between the halves. |t|^2 is <t_A, t_B>; |E g|^2 is <g_A, g_B>, with g_A
    the mean of the steps of half A; and g is compared with the t of the other half. The measures are

    - `direction`: <E g, t> / (|E g| |t|), the bias in direction;
    - `step`: mean over steps of <g, t> / (|g| |t|), with the norm of g as it is;
    - `norm_ratio`: |E g| / |t|, NaN for estimators without a gradient scale;
    - `signal_to_noise`: |E g|^2 / E |g - E g|^2 at these P prompts.

    Intervals: `mean_interval` of delete-one jackknife pseudo-values over prompts.

    Args:
        rewards: Rewards of n responses to each of P prompts; NaN where unscored.
        gradients: Gradients of log-probability of the same responses, or sketches of them; `gradients[p]` is
            `[n, D]`. An array `[P, n, D]` will do.
        estimators: Names with options, as `parse_estimator` reads them; not deploy_n.
        m: Rollouts per prompt in training.
        deploy_n: Values of N, each at most n / 2.
        seed: Seed of the bootstrap.

    Returns:
        The measures of every estimator at every m and N.

    Raises:
        ValueError: As `check_fidelity`, or gradients and rewards do not fit.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> rewards = rng.normal(size=(4, 512))
        >>> scores = np.stack([rewards, rewards**2 - 1], axis=2)  # of a Gaussian policy: mean and log deviation
        >>> fidelity = gradient_fidelity(rewards, scores, estimators=["tea"], m=[16], deploy_n=[64])
        >>> fidelity.points[0].measures["direction"].mean.round(1)
        array([1.])

    Reference:
        arXiv 2605.10716.
    """
    check_fidelity(rewards, estimators=estimators, m=m, deploy_n=deploy_n)
    if len(gradients) != len(rewards) or gradients[0].shape[0] != rewards.shape[1]:
        raise ValueError(
            f"rewards {rewards.shape} need gradients of the same prompts and responses, got {len(gradients)} prompts "
            f"with {gradients[0].shape[0]} responses."
        )
    half = rewards.shape[1] // 2
    halves = np.stack([rewards[:, :half], rewards[:, -half:]], axis=1).astype(np.float64)
    truths = {budget: _truth(halves, gradients, budget) for budget in sorted(set(deploy_n))}
    points = []
    for size in sorted(set(m)):
        for text in estimators:
            name, options = parse_estimator(text)
            steps = None
            for budget, truth in truths.items():
                if steps is None or find_estimator(name).takes_deploy_n:
                    steps = _step_gradients(halves, gradients, name, options, m=size, deploy_n=budget)
                products = inner_products(steps, truth)
                measures = measure(products, has_scale=find_estimator(name).has_scale, seed=seed)
                left_out = without_each_prompt(products)
                points.append(FidelityPoint(text, size, budget, 2 * (half // size), measures, left_out))
    points.sort(key=lambda point: (point.deploy_n, point.m))
    reliability = {budget: agreement(truth) for budget, truth in truths.items()}
    return Fidelity(len(rewards), rewards.shape[1], tuple(points), reliability)


def check_fidelity(
    rewards: Real[np.ndarray, "P n"], *, estimators: Sequence[str], m: Sequence[int], deploy_n: Sequence[int]
) -> None:
    """Refuse what `gradient_fidelity` cannot do, before any gradient is computed.

    Args:
        rewards: Rewards of the pool `[P, n]`.
        estimators: Names with options.
        m: Rollouts per prompt.
        deploy_n: Values of N.

    Raises:
        ValueError: If an estimator is unknown, written wrongly, lacks an option or cannot take m rollouts, nothing or
            something twice is asked for, an m leaves fewer than two groups in half of the pool, or an N is below 2
            or above the scored responses in half of a prompt's.

    Examples:
        >>> check_fidelity(np.zeros((1, 64)), estimators=["tea"], m=[4], deploy_n=[32])
        Traceback (most recent call last):
            ...
        ValueError: tea needs at least 5 rollouts per prompt, got m = 4: use more, or other options of the estimator.
    """
    check_rewards(torch.from_numpy(np.array(rewards, dtype=np.float64)))
    for name, values in (("estimators", estimators), ("m", m), ("deploy_n", deploy_n)):
        if len(values) == 0 or len(set(values)) < len(values):
            raise ValueError(f"{name} must name at least one and none twice, got {list(values)}.")
    half = rewards.shape[1] // 2
    scored = np.isfinite(np.stack([rewards[:, :half], rewards[:, -half:]])).sum(axis=2)
    for budget in deploy_n:
        if not 2 <= budget <= scored.min():
            raise ValueError(
                f"deploy_n = {budget} must lie between 2 and {scored.min()}, the scored responses in half of a "
                f"prompt's {rewards.shape[1]}: the truth comes from each half by itself and would be extrapolated "
                "beyond that. Sample more responses per prompt, or take a smaller N."
            )
    for size in m:
        if not 2 <= size <= half // 2:
            raise ValueError(
                f"m = {size} must lie between 2 and {half // 2}: each half of a prompt's {rewards.shape[1]} "
                "responses must give at least two groups."
            )
    for text in estimators:
        _check_estimator(text, m, deploy_n)


def _check_estimator(text: str, m: Sequence[int], deploy_n: Sequence[int]) -> None:
    name, options = parse_estimator(text)
    if "deploy_n" in options:
        raise ValueError(f"estimator {text!r}: every estimator gets the N that it is compared at; leave deploy_n out.")
    for budget in deploy_n:
        needed = smallest_group(name, **with_budget(name, options, budget))
        if min(m) < needed:
            raise ValueError(
                f"{text} needs at least {needed} rollouts per prompt, got m = {min(m)}: use more, or other options of "
                "the estimator."
            )


def _truth(halves: np.ndarray, gradients: ResponseGradients, deploy_n: int) -> Float[np.ndarray, "P 2 D"]:
    """The gradient of V_N at every prompt, from each half of its responses."""
    half = halves.shape[2]
    weights = np.stack([population_influence(halves[:, h], deploy_n) for h in (0, 1)], axis=1) / half
    return np.stack([np.einsum("hi,hid->hd", weights[p], part) for p, part in _by_half(gradients, half)])


def _step_gradients(
    halves: np.ndarray, gradients: ResponseGradients, name: str, options: dict[str, Any], *, m: int, deploy_n: int
) -> Float[np.ndarray, "P 2 G D"]:
    """The gradient that the estimator makes of each group of m, for every prompt, half and training step."""
    estimate = bind(name, **with_budget(name, options, deploy_n))
    prompts, _, half = halves.shape
    groups = half // m
    rewards = torch.from_numpy(halves[:, :, : groups * m].reshape(prompts, 2 * groups, m))
    # One call per step, all prompts together, as in training: an estimator may normalise over the batch.
    advantages = torch.stack([estimate(rewards[:, step]) for step in range(2 * groups)], dim=1).numpy()
    weights = (advantages / m).reshape(prompts, 2, groups, 1, m)
    steps = []
    for prompt, part in _by_half(gradients, half):
        grouped = part[:, : groups * m].reshape(2, groups, m, -1)
        steps.append((weights[prompt].astype(part.dtype) @ grouped)[:, :, 0])
    return np.stack(steps)


def _by_half(gradients: ResponseGradients, half: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each prompt with the gradients of its two halves `[2, half, D]`."""
    for prompt in range(len(gradients)):
        values = np.asarray(gradients[prompt])
        yield prompt, np.stack([values[:half], values[-half:]])

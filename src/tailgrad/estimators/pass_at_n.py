"""Pass@N from m rollouts, m much smaller than N: a Beta prior over the prompts' success rates, fitted to the batch."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.estimators._groups import above_the_others, finish, per_prompt
from tailgrad.tails.constants import check_budget
from tailgrad.types import Advantages, Rewards, check_rewards

_EXPONENTS = (-3, 3), (-2, 7)
"""Powers of two, from and to, that a and b of the Beta priors run through when the batch weighs them."""

_TOLERANCE = 0.01
"""How far from its level a reward may lie, in units of the narrowest gap: bfloat16 has three digits."""


def pass_at_n(
    rewards: Rewards,
    *,
    deploy_n: int | float | Tensor,
    levels: Sequence[float] | None = None,
    prior: Sequence[float] | None = None,
    validate: bool = True,
) -> Advantages:
    """Gradient of pass@N, averaged over what m rollouts and the batch say of a prompt's success rate; rewards 0 or 1.

    Formula: p the success rate of the prompt, s of its m rollouts successful, and p ~ Beta(a, b) over the prompts,

        A_i = m / (m - 1) (r_i - rbar) W_s,
        W_s = E[N (1 - p)^(N-1) | s of m] = N B(a + s, b + m - s + N - 1) / B(a + s, b + m - s),

    RLOO's advantage times the posterior mean of d pass@N / dp; B is the Beta function. `bon_rl` plugs rbar in for p
    instead: for one success of 8 and N = 128 its weight is 5e-6, where the prior Beta(1, 9) gives W_s = 1.7.

    With `prior`, a and b are those. Without, W_s is the mean over 70 priors (a = 1/8 to 8, b = 1/4 to 128, in powers
    of two, equally likely at first), each with the probability that it has given the successes of the whole batch.
    So one prompt, or a batch without a success, is no exception, and no rollout is counted twice.

    Scale: mean scale. Averaged over prompts from the prior, or from the 70 priors, it is unbiased for grad pass@N at
    every m, if d, the mean score of successes minus that of failures, tells nothing of p; grad p = p (1 - p) d.
    Proof: given s, (1/m) sum_i A_i score_i has the mean s (m - s) / (m (m - 1)) W_s d, and s (m - s) / (m (m - 1))
    C(m, s) = C(m - 2, s - 1), so two rollouts stand for p (1 - p) and all m of them belong in W_s.
    For one prompt of a given p it is biased: no m rollouts tell p = 1 / N from 0. Groups without a success are
    silent, and those with one speak for them.

    Graded rewards on `levels` t_0 < t_1 < ...: V_N = t_0 + sum_j (t_j - t_(j-1)) (1 - P(r < t_j)^N), a sum of pass@N.
    A is the same sum of the advantages of 1{r >= t_j}; each level has its own fitted prior.

    No signal: equal rewards, or one scored rollout, give zeros. With N <= m, `max_at_k` with k = N needs no prior.

    Args:
        rewards: Rewards `[P, M]`, M >= 2, each 0 or 1, or one of `levels`; NaN where a rollout could not be scored.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        levels: The values that a reward can take, increasing. None: 0 and 1.
        prior: a and b, both positive; at every level. None: fitted to the batch, whose prompts then see each other.
            With few prompts per batch (1, 16) is less noisy; a moves the size of the advantages alone.
        validate: Check the values of the rewards and of `deploy_n` first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number or a tensor.
        ValueError: If the rewards are not `[P, M]`, one is at none of the levels, or an option is out of range.

    Examples:
        >>> rewards = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
        >>> pass_at_n(rewards, deploy_n=64, prior=(1.0, 9.0))
        tensor([[-0.5839,  1.7516, -0.5839, -0.5839],
                [-0.1736,  0.1736,  0.1736, -0.1736]])

    Reference:
        Ours; pass@k for k up to m is that of arXiv 2508.10751.
    """
    steps = (0.0, 1.0) if levels is None else tuple(map(float, levels))
    _check_options(steps, prior)
    if validate:
        check_rewards(rewards)
        _check_levels(rewards, steps)
    check_budget(deploy_n, "deploy_n", validate=validate)
    budget = per_prompt(deploy_n, rewards)
    values = rewards.to(torch.float64)
    advantages = torch.zeros_like(values)
    for lower, upper in pairwise(steps):
        success = (values > (lower + upper) / 2).to(torch.float64).masked_fill(torch.isnan(values), math.nan)
        weight = _mean_weight(success, budget, prior)
        advantages = advantages + (upper - lower) * weight * above_the_others(success)
    return finish(advantages, rewards)


def _mean_weight(
    success: Float[Tensor, "P M"], deploy_n: int | float | Tensor, prior: Sequence[float] | None
) -> Float[Tensor, "P 1"]:
    """E[N (1 - p)^(N-1)] given the successes of the prompt and, where no prior is given, of all prompts."""
    a, b = _priors(prior, success)
    counts = torch.arange(success.shape[1] + 1, dtype=success.dtype, device=success.device).view(-1, 1, 1)
    s, f = ((success == outcome).sum(dim=1) for outcome in (1, 0))
    log_chance = torch.lgamma(a + counts)[s] + torch.lgamma(b + counts)[f] - torch.lgamma(a + b + counts)[s + f]
    log_chance = log_chance - (torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b))
    share = log_chance.sum(dim=0).flatten().softmax(dim=0).view(log_chance.shape[1:])
    log_weight = _log_growth(b + counts, f, deploy_n) - _log_growth(a + b + counts, s + f, deploy_n)
    n = deploy_n.to(success.dtype).unsqueeze(1) if isinstance(deploy_n, Tensor) else deploy_n
    return n * (log_weight.exp() * share).sum(dim=(1, 2)).unsqueeze(1)


def _log_growth(x: Tensor, row: Tensor, deploy_n: int | float | Tensor) -> Tensor:
    """Logarithm of Gamma(x + N - 1) / Gamma(x) at one row of x per prompt, from a table of all if N is one number."""
    if isinstance(deploy_n, Tensor):
        n = deploy_n.to(x.dtype).view(-1, 1, 1)
        return torch.lgamma(x[row] + n - 1) - torch.lgamma(x)[row]
    return (torch.lgamma(x + deploy_n - 1) - torch.lgamma(x))[row]


def _priors(prior: Sequence[float] | None, like: Tensor) -> tuple[Float[Tensor, "A 1"], Float[Tensor, " B"]]:
    """The priors' a and b, to be paired by broadcasting."""
    if prior is None:
        a, b = (torch.arange(low, high + 1, dtype=like.dtype, device=like.device).exp2() for low, high in _EXPONENTS)
    else:
        a, b = (like.new_full((1,), value) for value in prior)
    return a.unsqueeze(1), b


def _check_options(levels: Sequence[float], prior: Sequence[float] | None) -> None:
    """Refuse levels that do not increase, and a prior that is none."""
    if len(levels) < 2 or not all(-math.inf < low < high < math.inf for low, high in pairwise(levels)):
        raise ValueError(f"levels = {levels} must be two or more finite numbers, each larger than the one before")
    if prior is not None and (len(prior) != 2 or not all(0 < value < math.inf for value in prior)):
        raise ValueError(f"prior = {tuple(prior)} must be a and b of a Beta distribution, both positive, such as 0.5+4")


def _check_levels(rewards: Rewards, levels: Sequence[float]) -> None:
    """Refuse a reward at none of the levels; waits for the device."""
    steps = torch.tensor(levels, dtype=torch.float64, device=rewards.device)
    distance = (rewards.to(torch.float64).unsqueeze(2) - steps).abs().amin(dim=2)
    wrong = distance > _TOLERANCE * steps.diff().min()
    if wrong.any():
        prompt, rollout = wrong.nonzero()[0].tolist()
        *others, last = (f"{level:g}" for level in levels)
        raise ValueError(
            f"pass_at_n takes rewards {', '.join(others)} and {last} only, got {rewards[prompt, rollout].item()} "
            f"(prompt {prompt}, rollout {rollout}): name every value in levels, or take max_at_k for graded rewards"
        )

"""From how many prompts a step on one estimator's step beats another's."""

from __future__ import annotations

import math

import numpy as np

from tailgrad.evaluation.fidelity import FidelityPoint


def break_even(point: FidelityPoint, reference: FidelityPoint, prompts: int) -> float:
    """Prompts a step from which on a step points closer to the gradient of V_N than a step of the reference.

    With direction d and signal to noise s at P prompts, a step of B prompts has noise of P / (s B) times the
    squared norm of its mean, and so about the cosine d / sqrt(1 + P / (s B)) with the gradient of V_N. The two
    cosines are equal at B = P (d_r^2 / s - d^2 / s_r) / (d^2 - d_r^2), r the reference. A point estimate for one step
    from this policy, whose noise is that of rollouts and not of which prompts a step draws. Training averages over
    steps, which moves the crossing to fewer prompts a step.

    Args:
        point: An estimator at some m and N.
        reference: Another one, at the same N.
        prompts: P, the prompts of a step at which both were measured.

    Returns:
        B; 0 where the estimator is closer at every B, infinite where the reference is at every large B, NaN where
        direction or signal to noise is unknown. Directions above 1, which noise makes, count as 1.

    Example:
        >>> from tailgrad.evaluation import gradient_fidelity
        >>> rng = np.random.default_rng(0)
        >>> rewards = rng.normal(size=(8, 1024))
        >>> scores = np.stack([rewards, rewards**2 - 1], axis=2)  # of a Gaussian policy: mean and log deviation
        >>> asked = {"estimators": ["dr_grpo", "tea"], "m": [16], "deploy_n": [128]}
        >>> mean, tail = gradient_fidelity(rewards, scores, **asked).points
        >>> break_even(tail, mean, 8) < 8, break_even(mean, tail, 8)
        (True, inf)
    """
    direction, signal = (
        np.array([one.measures[name].mean[0] for one in (point, reference)])
        for name in ("direction", "signal_to_noise")
    )
    if np.isnan(direction).any() or not (signal > 0).all():
        return math.nan
    (square, of_reference), (s, s_r) = np.minimum(direction, 1.0) ** 2, signal
    bias, noise = float(square - of_reference), float(prompts * (of_reference / s - square / s_r))
    if bias < 0 or (bias == 0 and noise >= 0):
        return math.inf
    return 0.0 if noise <= 0 else noise / bias

"""Which estimators and m a plan compares, by default and as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tailgrad.estimators import parse_estimator, smallest_group, spell_estimator, with_budget

ESTIMATORS_COMPARED: Final = (
    *("grpo", "dr_grpo", "max_at_k:k=4", "max_at_k:k=8", "max_at_k:k=16", "max_at_k:k=32"),
    *("rs_grpo:risk_beta=1,units=spread", "cvar", "flat_tea", "tea:center=true"),
    *("tea:center=true,tail_fraction=0.5", "tea:center=true,tail_fraction=1", "prefix_tea"),
)
"""What is compared where no estimators are asked for."""

ROLLOUTS: Final = (4, 8, 16, 32, 64)
"""The m that are compared where none are asked for."""

REFERENCE: Final = "grpo"
"""What the others are compared with; it is always among them."""


def candidates(
    estimators: Sequence[str] | None, m: Sequence[int] | None, *, n: int, deploy_n: int, rollouts_per_step: int
) -> list[tuple[str, int]]:
    """Pairs of an estimator, spelled with its options in order, and an m that fits.

    Args:
        estimators: As `parse_estimator` reads them; None is `ESTIMATORS_COMPARED`, and `max_at_k` with k = N where an m
            is as large as N.
        m: Rollouts per prompt; None is those of `ROLLOUTS` that fit.
        n: Responses per prompt in the pool.
        deploy_n: N.
        rollouts_per_step: B x m.

    Returns:
        The pairs, all of one m together; `grpo` first.

    Raises:
        ValueError: Nothing or something twice is asked for, an m is below 2, above n / 2 or no divisor of the rollouts
            per step, an estimator gives N itself, or takes none of the m.

    Examples:
        >>> candidates(["cvar"], [4, 8], n=64, deploy_n=16, rollouts_per_step=64)
        [('grpo', 4), ('grpo', 8), ('cvar', 8)]
    """
    sizes = _sizes(m, n, rollouts_per_step)
    names = [*(ESTIMATORS_COMPARED if estimators is None else estimators)]
    if estimators is None and deploy_n <= max(sizes):
        names.append(f"max_at_k:k={deploy_n}")
    spelled = [_spelled(text) for text in names]
    if estimators is not None:
        _check_unique("estimators", spelled)
    spelled = list(dict.fromkeys([REFERENCE, *spelled]))
    found = []
    for text in spelled:
        name, options = parse_estimator(text)
        needed = smallest_group(name, **with_budget(name, options, deploy_n))
        fitting = [(text, size) for size in sizes if size >= needed]
        if estimators is not None and not fitting:
            raise ValueError(
                f"{text} needs at least {needed} rollouts per prompt, got num_generations = {max(sizes)} at most: take "
                "more, or other options of the estimator."
            )
        found += fitting
    return sorted(found, key=lambda pair: pair[1])


def _sizes(m: Sequence[int] | None, n: int, rollouts_per_step: int) -> list[int]:
    if rollouts_per_step < 2:
        raise ValueError(f"rollouts_per_step = {rollouts_per_step} must be at least 2, one group of two.")
    if m is None:
        fitting = [size for size in ROLLOUTS if size <= n // 2 and rollouts_per_step % size == 0]
        if not fitting:
            raise ValueError(
                f"none of num_generations = {', '.join(map(str, ROLLOUTS))} divides rollouts_per_step = "
                f"{rollouts_per_step} and is at most {n // 2}, half of the responses: give --num_generations."
            )
        return fitting
    _check_unique("num_generations", [str(size) for size in m])
    for size in m:
        if not 2 <= size <= n // 2:
            raise ValueError(
                f"num_generations = {size} must lie between 2 and {n // 2}, half of the {n} responses per prompt."
            )
        if rollouts_per_step % size:
            below = rollouts_per_step - rollouts_per_step % size
            raise ValueError(
                f"rollouts_per_step = {rollouts_per_step} does not hold whole groups of num_generations = {size}: take "
                f"{below + size} rollouts per step, or another m."
            )
    return sorted(m)


def _spelled(text: str) -> str:
    name, options = parse_estimator(text)
    if "deploy_n" in options:
        raise ValueError(f"estimator {text!r}: a plan is for one N, that of deploy_n; leave it out of the estimator.")
    return spell_estimator(name, options)


def _check_unique(name: str, values: Sequence[str]) -> None:
    if len(values) == 0 or len(set(values)) < len(values):
        raise ValueError(f"{name} must name at least one and none twice, got {', '.join(values)}.")

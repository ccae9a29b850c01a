"""What a plan says in words: the answer, the reason, and what it depends on."""

from __future__ import annotations

import numpy as np

from tailgrad.display.cells import interval_cell
from tailgrad.estimators import find_estimator, parse_estimator
from tailgrad.planning.plan import Plan, PlanRow, is_known


def answer(plan: Plan) -> str:
    """What to train with, what a step of it is worth beside one of GRPO, and why.

    Args:
        plan: The plan.

    Returns:
        Two sentences.
    """
    chosen, grpo = plan.chosen, plan.reference
    unit = "prompt" if chosen.prompts_per_step == 1 else "prompts"
    take = (
        f"Take `{chosen.estimator}` with m = {chosen.m}, {chosen.prompts_per_step} {unit} per step of "
        f"{plan.rollouts_per_step} rollouts: such a step has an expected cosine of {_cell(chosen)} with the gradient "
        f"of V_{plan.deploy_n}"
    )
    if chosen.estimator == grpo.estimator:
        return f"{take}. {_why_the_mean(plan)}"
    gap = interval_cell(grpo.difference, 0, 3, sign="+")
    return f"{take}; `grpo` at its best, m = {grpo.m}, has {_cell(grpo)} (difference {gap}). {_why(chosen, grpo)}"


def _cell(row: PlanRow) -> str:
    return interval_cell(row.value, 0, 3)


def _why(row: PlanRow, grpo: PlanRow) -> str:
    direction, other = (f"{one.direction.mean[0]:.2f}" for one in (row, grpo))
    noise = float(grpo.signal_to_noise.mean[0] / row.signal_to_noise.mean[0])
    if noise <= 1:
        return f"It points as close or closer (direction {direction}, `grpo` {other}) and has no more noise."
    return (
        f"It points closer to that gradient (direction {direction}, `grpo` {other}), which outweighs its noise, "
        f"{noise:.1f} times as much beside its signal."
    )


def _why_the_mean(plan: Plan) -> str:
    tails = [row for row in plan.rows if np.isfinite(row.value.mean[0]) and not _of_mean(row)]
    if not tails:
        return "Of no estimator of the tail the value is known."
    rival = max(tails, key=lambda row: row.value.mean[0])
    where = (
        "in a step of this size the noise counts for more"
        if rival.value.mean[0] < plan.chosen.value.mean[0]
        else ("what it gains is within 5%, or within the noise of the pool")
    )
    noise = float(plan.chosen.signal_to_noise.mean[0] / rival.signal_to_noise.mean[0])
    return (
        f"Of the estimators of the tail `{rival.estimator}` with m = {rival.m} comes closest ({_cell(rival)}): it "
        f"has a direction of {rival.direction.mean[0]:.2f} where `{plan.chosen.estimator}` has "
        f"{plan.chosen.direction.mean[0]:.2f}, and {noise:.1f} times the noise beside its signal; {where}."
    )


def _of_mean(row: PlanRow) -> bool:
    return find_estimator(parse_estimator(row.estimator)[0]).follows_mean


def direction_of_the_mean(plan: Plan) -> str:
    """Where the gradient of the mean reward points, which decides whether the tail is worth looking at.

    Args:
        plan: The plan.

    Returns:
        A few sentences.
    """
    known = plan.mean_direction[plan.traits.spread_weight]
    text = f"Direction of the gradient of the mean reward: cosine {interval_cell(known, 0, 2)} with that of V_N"
    if len(plan.mean_direction) > 1:
        cells = {w: interval_cell(interval, 0, 2) for w, interval in plan.mean_direction.items()}
        text += (
            f" if a step moves the spread of a prompt's rewards {plan.traits.spread_weight:g} times as much as their "
            f"mean; {cells[0.0]} if it leaves the spread as it is, {cells[1.0]} if it moves both alike"
        )
    return f"{text}. From 0.85 on GRPO is hard to beat; below 0.6 an estimator of the tail helps (docs/concepts.md)."


def dependence(plan: Plan) -> str:
    """Whether the choice stands whatever the policy is, and what else it is level with.

    Args:
        plan: The plan.

    Returns:
        A few sentences.
    """
    if not plan.elsewhere:
        return (
            f"Measured by {plan.traits.source}: steps are noisy in D = {plan.traits.noise_directions:,.0f} directions, "
            f"and move the spread w = {plan.traits.spread_weight:.2f} times as much as the mean. {_how_far_off(plan)}"
        ).rstrip()
    if plan.robust and not is_known(plan.chosen.value):
        return "The same estimator is chosen for all policies below, by values that are hardly known (see the notes)."
    if plan.robust:
        return "Robust: the same estimator is chosen for all policies below."
    return (
        "It depends on the policy, as the table shows. `tailgrad fidelity` measures it; give its report to this "
        "command with --fidelity."
    )


def _how_far_off(plan: Plan) -> str:
    """How far the plan's directions are from the measured ones."""
    gaps = {
        row: abs(row.direction.mean[0] - row.measured_direction)
        for row in plan.rows
        if row.measured_direction is not None and not np.isnan(row.direction.mean[0])
    }
    if not gaps:
        return ""
    worst = max(gaps, key=lambda row: gaps[row])
    return (
        f"Directions are then off by {np.mean([*gaps.values()]):.2f} on average, most for `{worst.estimator}` with m = "
        f"{worst.m}: {worst.direction.mean[0]:.2f}, measured {worst.measured_direction:.2f}."
    )


def level_with(plan: Plan) -> str:
    """What else is level with the largest value.

    Args:
        plan: The plan.

    Returns:
        A sentence.
    """
    others: dict[str, list[str]] = {}
    for row in plan.rows:
        if row.level and row is not plan.chosen:
            others.setdefault(row.estimator, []).append(str(row.m))
    if not others:
        return "Nothing else is within 5% of the largest value, or cannot be told from it."
    named = ", ".join(f"`{name}` (m = {', '.join(sizes)})" for name, sizes in others.items())
    return f"Level with the largest value, within 5% or the interval of the difference: {named}."

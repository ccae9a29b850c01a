"""Plan a training from rewards of the starting policy: which estimator, m and prompts per step fit N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Real

from tailgrad.estimators import parse_estimator, smallest_group, with_budget
from tailgrad.fidelity.break_even import crossing
from tailgrad.planning.candidates import REFERENCE, candidates
from tailgrad.planning.choice import Choice, choose
from tailgrad.planning.measured import MeasuredGradients, fitted_traits
from tailgrad.planning.pool import usable_pool
from tailgrad.planning.replay import Replay, replay
from tailgrad.planning.scoring import COMMITTED, Measures, PolicyTraits, measures, measures_per_prompt
from tailgrad.statistics.intervals import Interval
from tailgrad.statistics.jackknife import jackknife_interval

_IMPOSSIBLE: Final = (1.2, 10.0)
"""A cosine whose interval lies above the first, or that is itself above the second, is none. Noise may put one a little
above 1."""


@dataclass(frozen=True, eq=False)
class PlanRow:
    """One estimator at one m.

    Attributes:
        estimator: With its options, as `tailgrad train` reads it.
        m: Rollouts per prompt.
        prompts_per_step: B.
        direction: Cosine of its expected gradient with that of V_N.
        signal_to_noise: Of a step of B prompts: squared norms.
        value: Expected cosine of such a step with the gradient of V_N.
        difference: Its value less that of the row that is chosen.
        ahead_from: Rollouts per step from which on its value is above that of the plan's `reference`, as `break_even`.
        level: Whether it is level with the largest value (see `choose`).
        measured_direction: As a fidelity report has it; None without one.
        values: The value at each of the plan's `steps`.
        directions: The direction at each of the plan's `used_prompts` by itself; NaN where it is not known.
        signals_to_noise: Likewise the signal to noise, of a step of B prompts like this one.
    """

    estimator: str
    m: int
    prompts_per_step: int
    direction: Interval
    signal_to_noise: Interval
    value: Interval
    difference: Interval
    ahead_from: Interval
    level: bool
    measured_direction: float | None
    values: tuple[float, ...]
    directions: tuple[float, ...]
    signals_to_noise: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """What to train with, and why.

    Attributes:
        deploy_n: N.
        rollouts_per_step: B x m.
        used_prompts: The prompts that it is made from, by their rows in the rewards, counted from 0.
        n: Responses per prompt.
        traits: What was assumed or measured of the policy.
        rows: Every estimator at every m it takes.
        chosen: The row to train with.
        reference: `grpo` at the m where its value is largest.
        mean_direction: Cosine between the gradients of the mean reward and of V_N, by w: 0, that of the traits, 1.
        elsewhere: What would be chosen at other D and w: estimator and m by both. Empty where they were measured.
        steps: Rollouts per step at which `values` of the rows are.
        notes: What was left out, and what the rewards say.
    """

    deploy_n: int
    rollouts_per_step: int
    used_prompts: tuple[int, ...]
    n: int
    traits: PolicyTraits
    rows: tuple[PlanRow, ...]
    chosen: PlanRow
    reference: PlanRow
    mean_direction: dict[float, Interval]
    elsewhere: dict[tuple[float, float], tuple[str, int]]
    steps: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def prompts(self) -> int:
        """How many prompts it is made from."""
        return len(self.used_prompts)

    @property
    def robust(self) -> bool:
        """Whether the same estimator is chosen at all D and w that were tried."""
        return {name for name, _ in self.elsewhere.values()} <= {self.chosen.estimator}


def make_plan(
    rewards: Real[np.ndarray, "P n"],
    *,
    deploy_n: int,
    estimators: Sequence[str] | None = None,
    m: Sequence[int] | None = None,
    rollouts_per_step: int = 128,
    measured: MeasuredGradients | None = None,
    seed: int = 0,
) -> Plan:
    """Say which estimator, m and prompts per step fit N, from rewards of the starting policy.

    Each estimator is replayed on groups of m drawn from the pool. Its expected gradient, along location and spread of
    each prompt's rewards, is compared with that of V_N, and a step of `rollouts_per_step` rollouts gets a value: its
    expected cosine with the gradient of V_N (`measures`). The largest value is chosen; `choose` says how.

    Args:
        rewards: Rewards of n responses of the starting policy to each of P prompts; NaN where unscored.
        deploy_n: N, at most n / 2.
        estimators: Names with options, as `parse_estimator` reads them; None for a list of likely ones. `grpo` is
            always among them.
        m: Rollouts per prompt; None for 4, 8, 16, 32 and 64 as far as they fit.
        rollouts_per_step: B x m, the same for all.
        measured: From `read_fidelity_report`, where there is one.
        seed: Seed of the groups and of the bootstrap.

    Returns:
        The plan.

    Raises:
        ValueError: As `usable_pool`, `candidates`, `replay`, `fitted_traits` and `choose`.

    Examples:
        >>> found = make_plan(np.random.default_rng(0).normal(size=(8, 512)), deploy_n=64, estimators=["tea"], m=[16])
        >>> found.chosen.m, found.chosen.prompts_per_step
        (16, 8)
    """
    pool, used, notes = usable_pool(rewards, deploy_n, seed=seed)
    groups = candidates(estimators, m, n=pool.shape[1], deploy_n=deploy_n, rollouts_per_step=rollouts_per_step)
    mean = ("dr_grpo", groups[-1][1])
    others = [] if measured is None else _replayable(measured, groups, pool.shape[1], deploy_n)
    replayed = replay(pool, [*groups, *others, mean], deploy_n=deploy_n, seed=seed)
    traits = COMMITTED if measured is None else fitted_traits(replayed, [*groups, *others], measured)
    weights = {0.0, traits.spread_weight, 1.0} if measured is None else {traits.spread_weight}
    scene = _Scene(groups, _part(replayed, slice(len(groups))), rollouts_per_step, seed)
    rows, choice, steps = _rows(scene, traits, {} if measured is None else measured.points)
    _check_possible(rows[choice.chosen])
    return Plan(
        deploy_n=deploy_n,
        rollouts_per_step=rollouts_per_step,
        used_prompts=tuple(used.tolist()),
        n=pool.shape[1],
        traits=traits,
        rows=rows,
        chosen=rows[choice.chosen],
        reference=rows[_reference(groups, scene.measures(traits))],
        mean_direction={w: _direction(_part(replayed, slice(-1, None)), w, seed) for w in sorted(weights)},
        elsewhere={} if measured else _elsewhere(scene, traits),
        steps=steps,
        notes=(*notes, *_hardly_known(rows[choice.chosen].value), *(measured.notes if measured else ())),
    )


class _Scene(NamedTuple):
    """What is compared, whatever the policy."""

    groups: Sequence[tuple[str, int]]
    replayed: Replay
    rollouts_per_step: int
    seed: int

    def measures(self, traits: PolicyTraits, rollouts_per_step: int | None = None) -> Measures:
        """The numbers of steps of so many rollouts, by default those of the plan."""
        return measures(self.replayed, traits, self._prompts_per_step(rollouts_per_step or self.rollouts_per_step))

    def per_prompt(self, traits: PolicyTraits) -> Measures:
        """The numbers of each prompt."""
        return measures_per_prompt(self.replayed, traits, self._prompts_per_step(self.rollouts_per_step))

    def _prompts_per_step(self, rollouts: int) -> np.ndarray:
        return rollouts / np.array([size for _, size in self.groups])


def _part(replayed: Replay, places: slice) -> Replay:
    return Replay(replayed.square[places], replayed.along[places], replayed.noise[places], replayed.truth)


def _direction(of_one: Replay, spread_weight: float, seed: int) -> Interval:
    (direction,) = measures(of_one, PolicyTraits(1.0, spread_weight, ""), np.ones(1)).direction
    return jackknife_interval(direction[:1], direction[1:, None], seed=seed)


def _replayable(
    measured: MeasuredGradients, groups: Sequence[tuple[str, int]], n: int, deploy_n: int
) -> list[tuple[str, int]]:
    """What was measured and is not compared, but says something of the policy."""
    others = []
    for text, size in measured.points:
        name, options = parse_estimator(text)
        needed = smallest_group(name, **with_budget(name, options, deploy_n))
        if needed <= size <= n // 2 and (text, size) not in groups:
            others.append((text, size))
    return others


def _rows(
    scene: _Scene, traits: PolicyTraits, measured: Mapping[tuple[str, int], tuple[float, float]]
) -> tuple[tuple[PlanRow, ...], Choice, tuple[int, ...]]:
    """The rows, the choice among them, and the rollouts per step of their `values`."""
    groups, rollouts, seed = scene.groups, scene.rollouts_per_step, scene.seed
    found, own = scene.measures(traits), scene.per_prompt(traits)
    choice = choose(groups, found.value, seed=seed)
    largest = max(size for _, size in groups)
    steps = tuple(step for k in range(-3, 8) if (step := int(rollouts * 2.0**k)) >= largest)
    values = np.stack([scene.measures(traits, step).value[:, 0] for step in steps], axis=1)
    direction, signal, value = (jackknife_interval(of[:, 0], of[:, 1:].T, seed=seed) for of in found)
    reference = _reference(groups, found)
    rows = tuple(
        PlanRow(
            estimator=name,
            m=size,
            prompts_per_step=rollouts // size,
            direction=_column(direction, place),
            signal_to_noise=_column(signal, place),
            value=_column(value, place),
            difference=_column(choice.difference, place),
            ahead_from=_ahead_from(found, place, reference, rollouts),
            level=bool(choice.level[place]),
            measured_direction=measured[name, size][0] if (name, size) in measured else None,
            values=tuple(values[place].tolist()),
            directions=tuple(own.direction[place].tolist()),
            signals_to_noise=tuple(own.signal_to_noise[place].tolist()),
        )
        for place, (name, size) in enumerate(groups)
    )
    return rows, choice, steps


def _check_possible(chosen: PlanRow) -> None:
    """Refuse a plan by a cosine that cannot be one: what is known of V_N's gradient is then noise."""
    for what, interval in (("direction", chosen.direction), ("expected cosine", chosen.value)):
        if interval.low[0] > _IMPOSSIBLE[0] or interval.mean[0] > _IMPOSSIBLE[1]:
            raise ValueError(
                f"the pool tells too little of the gradient of V_N: the {what} of {chosen.estimator} comes out as "
                f"{interval.mean[0]:.3g} [{interval.low[0]:.3g}, {interval.high[0]:.3g}], and no cosine is above 1. "
                "Sample more responses per prompt, plan for a smaller N, or see whether a few rewards are far off."
            )


def _hardly_known(value: Interval) -> list[str]:
    """Say where the gradient of V_N has so much noise that values may be anything, also above 1."""
    if is_known(value):
        return []
    return [
        "The gradient of V_N is hardly known here: the interval of what is chosen is wider than half of its cosine. "
        "Sample more responses per prompt (8 N or more), or more prompts. Differences are known better than cosines, "
        "as all have this noise in common."
    ]


def is_known(value: Interval) -> bool:
    """Whether an expected cosine is known to a quarter of itself, up and down."""
    return bool(value.high[0] - value.low[0] <= value.mean[0] / 2)


def _column(interval: Interval, place: int) -> Interval:
    return Interval(*(part[place : place + 1] for part in interval))


def _reference(groups: Sequence[tuple[str, int]], found: Measures) -> int:
    """Place of `grpo` at its best m."""
    own = [place for place, (name, _) in enumerate(groups) if name == REFERENCE]
    return max(own, key=lambda place: (not np.isnan(found.value[place, 0]), found.value[place, 0]))


def _ahead_from(found: Measures, place: int, reference: int, rollouts_per_step: int) -> Interval:
    """In rollouts: `crossing` counts in what its signal to noise is of P of, here steps of P rollouts."""
    prompts = found.value.shape[1] - 1
    to_rollouts = np.array([1.0, prompts / rollouts_per_step])
    own, other = (
        np.stack([found.direction[at], found.signal_to_noise[at]], axis=1) * to_rollouts for at in (place, reference)
    )
    return crossing(own, other)


def _elsewhere(scene: _Scene, traits: PolicyTraits) -> dict[tuple[float, float], tuple[str, int]]:
    """What would be chosen at ten times fewer and more directions of noise, and at both ends of the spread's weight."""
    found = {}
    for factor in (0.1, 1.0, 10.0):
        for weight in sorted({0.0, traits.spread_weight, 1.0}):
            other = PolicyTraits(factor * traits.noise_directions, weight, "")
            choice = choose(scene.groups, scene.measures(other).value, seed=scene.seed)
            found[other.noise_directions, weight] = scene.groups[choice.chosen]
    return found

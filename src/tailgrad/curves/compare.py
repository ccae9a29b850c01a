"""Best-of-N curves of one or more methods, and their paired differences to a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tailgrad.curves.best_of_n import budgets_up_to, check_budgets
from tailgrad.curves.pairing import comparable_runs, to_one_reference, unchecked
from tailgrad.curves.runs import Run, seeds_by_name
from tailgrad.statistics import paired_difference
from tailgrad.statistics.intervals import Interval, mean_interval

BEST_OF_N = "Best-of-N reward"
"""What a comparison shows where the reward itself picks the best."""


@dataclass(frozen=True, eq=False)
class Curve:
    """V_N of one method and what is reported beside it.

    Attributes:
        name: The method.
        seeds: Number of runs (training seeds).
        v_n: V_N with intervals, one column a budget.
        per_seed: Mean V_N of each run, `[S, K]`, over the prompts that `v_n` counts.
        measures: KL, response length and shares (see `Run.measures`) with intervals, one column each.
        difference: Paired difference of V_N to the reference; None for the reference itself.
    """

    name: str
    seeds: int
    v_n: Interval
    per_seed: Float[np.ndarray, "S K"]
    measures: dict[str, Interval]
    difference: Interval | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Best-of-N curves of all methods on the same prompts.

    Attributes:
        budgets: The K values of N.
        n: Responses a prompt.
        prompts: Number of prompts.
        reference: Name of the method that the differences are taken to.
        curves: One a method.
        sampling: What all runs share.
        notes: What a reader must know of how far the runs may be compared.
    """

    budgets: tuple[int, ...]
    n: int
    prompts: int
    reference: str
    curves: tuple[Curve, ...]
    sampling: dict[str, object]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What V_N is here, in a few words: also which reward picks the best, where that is another one."""
        if "selection_reward" not in self.sampling:
            return BEST_OF_N
        return f"Scored by {self.reward_name('reward')}, the best of N by {self.reward_name('selection_reward')}"

    def reward_name(self, name: str) -> str:
        """The last part of the name of `reward` or `selection_reward`; its column's name where it is not recorded."""
        return str(self.sampling.get(name, name)).rstrip("/").rsplit("/", 1)[-1]


def compare(
    runs: Sequence[Run],
    *,
    budgets: Sequence[int] | None = None,
    reference: str | None = None,
    seed: int = 0,
) -> Comparison:
    """Compute the best-of-N curves of all methods and their paired differences to a reference.

    Runs that share a name are training seeds of one method: V_N is averaged over them, and the intervals are
    over prompts and seeds.

    Args:
        runs: Runs on the same prompts, sampled alike.
        budgets: Values of N; None for 1, 2, 4, ..., n.
        reference: Name of the method to take differences to; None for the first.
        seed: Seed of the bootstrap.

    Returns:
        Curves in the order of the runs.

    Raises:
        ValueError: If the runs were sampled differently, a budget is below 1 or above n, the reference is
            not among the runs, or the numbers of seeds cannot be paired.

    Examples:
        >>> rewards = np.array([[0.0, 1.0], [0.5, 0.5]])
        >>> prompts = {"prompt_ids": np.array([0, 1]), "prompts": ["a", "b"]}
        >>> base = Run("base", rewards=rewards, **prompts)
        >>> comparison = compare([base, Run("tea", rewards=rewards + 1, **prompts)])
        >>> comparison.budgets, comparison.curves[0].v_n.mean, comparison.curves[1].difference.mean
        ((1, 2), array([0.5 , 0.75]), array([1., 1.]))
    """
    runs, notes = to_one_reference(comparable_runs(runs))
    n = runs[0].n
    chosen = budgets_up_to(n) if budgets is None else tuple(sorted(set(budgets)))
    check_budgets(chosen, n)
    groups = seeds_by_name(runs)
    reference = runs[0].name if reference is None else reference
    values = {name: np.stack([run.best_of_n(chosen) for run in group]) for name, group in groups.items()}
    measures = {name: _stacked([run.measures() for run in group]) for name, group in groups.items()}
    sampling = dict(next((run.sampling for run in runs if run.sampling), {}))
    if runs[0].selection is not None:
        sampling.setdefault("selection_reward", "selection_reward")
    compared = compare_values(values, measures, budgets=chosen, n=n, reference=reference, sampling=sampling, seed=seed)
    return replace(compared, notes=(*unchecked(runs), *notes))


def compare_values(
    values: Mapping[str, Float[np.ndarray, "S P K"]],
    measures: Mapping[str, Mapping[str, Float[np.ndarray, "S P"]]],
    *,
    budgets: Sequence[int],
    n: int,
    reference: str,
    sampling: Mapping[str, object] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare methods whose V_N at every prompt is known already, as `compare` does.

    A mean over fewer than half of the prompts is left unknown: prompts that have a value need not be like those that
    have none.

    Args:
        values: V_N of each method: seeds, prompts (the same in all, in one order), budgets.
        measures: What is reported beside V_N of each method (see `Run.measures`): seeds, prompts.
        budgets: The K values of N.
        n: Responses a prompt that the values come from.
        reference: Name of the method to take differences to.
        sampling: What all methods share.
        seed: Seed of the bootstrap.

    Returns:
        Curves in the order of `values`.

    Raises:
        ValueError: If the reference is not among the methods, or prompts or seeds cannot be paired.

    Examples:
        >>> values = {"base": np.zeros((1, 2, 1)), "tea": np.ones((3, 2, 1))}
        >>> compare_values(values, {"base": {}, "tea": {}}, budgets=(4,), n=4, reference="base").curves[1].seeds
        3
    """
    if reference not in values:
        raise ValueError(f"reference {reference!r} is not among the runs: choose from {', '.join(values)}.")
    curves = []
    for name, of_method in values.items():
        difference = None if name == reference else _difference(values, name, reference, seed)
        curves.append(_curve(name, of_method, measures[name], difference, seed))
    prompts = values[reference].shape[1]
    return Comparison(tuple(budgets), n, prompts, reference, tuple(curves), dict(sampling or {}))


def _stacked(measures: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.stack([of_run[key] for of_run in measures]) for key in measures[0]}


def _difference(values: Mapping[str, np.ndarray], name: str, reference: str, seed: int) -> Interval:
    try:
        difference = paired_difference(values[name], values[reference], seed=seed)
        return _of_most_prompts(difference, values[reference].shape[1])
    except ValueError as error:
        raise ValueError(f"{name!r} and {reference!r}: {error}") from error


def _of_most_prompts(interval: Interval, prompts: int) -> Interval:
    enough = 2 * interval.prompts >= prompts
    mean, low, high = (np.where(enough, part, np.nan) for part in interval[:3])
    return Interval(mean, low, high, interval.prompts)


def _curve(
    name: str, values: np.ndarray, measures: Mapping[str, np.ndarray], difference: Interval | None, seed: int
) -> Curve:
    v_n = _of_most_prompts(mean_interval(values, seed=seed), values.shape[1])
    known = ~np.isnan(values).any(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=1)
    per_seed = np.divide(sums, v_n.prompts, out=np.full_like(sums, np.nan), where=~np.isnan(v_n.mean))
    intervals = {key: mean_interval(by_prompt[:, :, None], seed=seed) for key, by_prompt in measures.items()}
    return Curve(name, len(values), v_n, per_seed, intervals, difference)

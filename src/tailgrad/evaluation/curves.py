"""Best-of-N curves of one or more methods, and their paired differences to a reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tailgrad.evaluation.best_of_n import best_of_n, budgets_up_to, check_budgets
from tailgrad.evaluation.comparison import comparable_runs, paired_difference
from tailgrad.evaluation.intervals import Interval, mean_interval
from tailgrad.evaluation.runs import Run, seeds_by_name


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
    """

    budgets: tuple[int, ...]
    n: int
    prompts: int
    reference: str
    curves: tuple[Curve, ...]
    sampling: dict[str, object]


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

    Example:
        >>> rewards = np.array([[0.0, 1.0], [0.5, 0.5]])
        >>> prompts = {"prompt_ids": np.array([0, 1]), "prompts": ["a", "b"]}
        >>> base = Run("base", rewards=rewards, **prompts)
        >>> comparison = compare([base, Run("tea", rewards=rewards + 1, **prompts)])
        >>> comparison.budgets, comparison.curves[0].v_n.mean, comparison.curves[1].difference.mean
        ((1, 2), array([0.5 , 0.75]), array([1., 1.]))
    """
    runs = comparable_runs(runs)
    n = runs[0].n
    chosen = budgets_up_to(n) if budgets is None else tuple(sorted(set(budgets)))
    check_budgets(chosen, n)
    groups = seeds_by_name(runs)
    reference = runs[0].name if reference is None else reference
    if reference not in groups:
        raise ValueError(f"reference {reference!r} is not among the runs: choose from {', '.join(groups)}.")
    values = {name: np.stack([best_of_n(run.rewards, chosen) for run in group]) for name, group in groups.items()}
    curves = []
    for name, group in groups.items():
        difference = None
        if name != reference:
            difference = _difference(values, name, reference, seed)
        curves.append(_curve(name, group, values[name], difference, seed))
    return Comparison(chosen, n, len(runs[0].prompts), reference, tuple(curves), dict(runs[0].sampling))


def _difference(values: dict[str, np.ndarray], name: str, reference: str, seed: int) -> Interval:
    try:
        return paired_difference(values[name], values[reference], seed=seed)
    except ValueError as error:
        raise ValueError(f"{name!r} and {reference!r}: {error}") from error


def _curve(name: str, group: tuple[Run, ...], values: np.ndarray, difference: Interval | None, seed: int) -> Curve:
    v_n = mean_interval(values, seed=seed)
    known = ~np.isnan(values).any(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=1)
    per_seed = np.divide(sums, v_n.prompts, out=np.full_like(sums, np.nan), where=v_n.prompts > 0)
    by_run = [run.measures() for run in group]
    stacked = np.stack([np.stack(list(measures.values()), axis=-1) for measures in by_run])
    intervals = mean_interval(stacked, seed=seed)
    measures = {
        key: Interval(*(part[column : column + 1] for part in intervals)) for column, key in enumerate(by_run[0])
    }
    return Curve(name, len(group), v_n, per_seed, measures, difference)

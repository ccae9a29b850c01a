"""Best-of-N curves of one or more methods, and their paired differences to a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tailgrad.curves.best_of_n import budgets_up_to, check_budgets
from tailgrad.curves.forecast import CurveForecast, forecast_curve
from tailgrad.curves.pairing import comparable_rollouts, kl_left_out, seeds_by_name, unchecked
from tailgrad.curves.rollouts import Rollouts
from tailgrad.statistics import paired_difference
from tailgrad.statistics.intervals import Interval, mean_interval

BEST_OF_N = "Best-of-N reward"
"""What a comparison shows where the reward itself picks the best."""


@dataclass(frozen=True, eq=False)
class Curve:
    """V_N of one method and what is reported beside it.

    Attributes:
        name: The method.
        seeds: Number of training seeds.
        v_n: V_N with intervals, one column per budget.
        per_seed: Mean V_N of each seed, `[S, K]`, over the prompts that `v_n` counts.
        measures: KL, response length and shares (see `Rollouts.measures`), those that are known, with intervals, one
            column each.
        difference: Paired difference of V_N to the reference; None for the reference itself.
        forecast: V_N beyond the responses that are there, if it was asked for.
    """

    name: str
    seeds: int
    v_n: Interval
    per_seed: Float[np.ndarray, "S K"]
    measures: dict[str, Interval]
    difference: Interval | None
    forecast: CurveForecast | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Best-of-N curves of all methods on the same prompts.

    Attributes:
        budgets: The K values of N.
        n: Responses per prompt; of the prompts that have most where they differ.
        prompts: Number of prompts.
        reference: Name of the method that the differences are taken to.
        curves: One per method.
        sampling: What all methods share.
        notes: What a reader must know of how far the methods may be compared.
        ragged: Whether some prompts have fewer than n responses.
    """

    budgets: tuple[int, ...]
    n: int
    prompts: int
    reference: str
    curves: tuple[Curve, ...]
    sampling: dict[str, object]
    notes: tuple[str, ...] = ()
    ragged: bool = False

    @property
    def title(self) -> str:
        """What V_N is here, in a few words: also which reward picks the best, where that is another one."""
        if "selection_reward" not in self.sampling:
            return BEST_OF_N
        return f"Scored by {self.reward_name('reward')}, the best of N by {self.reward_name('selection_reward')}"

    def reward_name(self, name: str) -> str:
        """The last part of the name of a reward.

        Args:
            name: Its column, `reward` or `selection_reward`, which stands for a name that is not recorded.
        """
        return str(self.sampling.get(name, name)).rstrip("/").rsplit("/", 1)[-1]


def compare(
    rollouts: Sequence[Rollouts],
    *,
    budgets: Sequence[int] | None = None,
    reference: str | None = None,
    forecast_n: Sequence[int] = (),
    seed: int = 0,
) -> Comparison:
    """Compute the best-of-N curves of all methods and their paired differences to a reference.

    Rollouts that share a name are training seeds of one method: V_N is averaged over them, and the intervals are
    over prompts and seeds.

    Args:
        rollouts: Rollouts on the same prompts, sampled alike.
        budgets: Values of N; None for 1, 2, 4, ..., n. If prompts have different numbers of responses, these go up to
            the smallest number, so that V_N is over the same prompts at every N.
        reference: Name of the method to compare the others with; None for the first.
        forecast_n: Values of N above n to forecast V_N at (see `forecast_curve`).
        seed: Seed of the bootstrap.

    Returns:
        Curves in the order of the rollouts.

    Raises:
        ValueError: If the rollouts were sampled differently, a budget is below 1 or above n, the reference is
            not among them, or the numbers of seeds cannot be paired.

    Examples:
        >>> rewards = np.array([[0.0, 1.0], [0.5, 0.5]])
        >>> comparison = compare([Rollouts(rewards, name="base"), Rollouts(rewards + 1, name="tea")])
        >>> comparison.budgets, comparison.curves[0].v_n.mean, comparison.curves[1].difference.mean
        ((1, 2), array([0.5 , 0.75]), array([1., 1.]))
    """
    runs = comparable_rollouts(rollouts)
    n = runs[0].n
    fewest = _fewest_responses(runs)
    chosen = budgets_up_to(fewest) if budgets is None else tuple(sorted(set(budgets)))
    check_budgets(chosen, n)
    groups = seeds_by_name(runs)
    reference = runs[0].name if reference is None else reference
    values = {name: np.stack([run.best_of_n(chosen) for run in group]) for name, group in groups.items()}
    other_references = kl_left_out(runs)
    aside = ("kl",) if other_references else ()
    measures = {name: _stacked([run.measures() for run in group], aside) for name, group in groups.items()}
    sampling = dict(next((run.sampling for run in runs if run.sampling), {}))
    if runs[0].selection_rewards is not None:
        sampling.setdefault("selection_reward", "selection_reward")
    compared = compare_values(values, measures, budgets=chosen, n=n, reference=reference, sampling=sampling, seed=seed)
    if forecast_n:
        of_method = {name: forecast_curve(group, forecast_n, seed=seed) for name, group in groups.items()}
        compared = replace(
            compared, curves=tuple(replace(curve, forecast=of_method[curve.name]) for curve in compared.curves)
        )
    ragged = _ragged(runs)
    if budgets is None and fewest < n:
        ragged.append(
            f"V_N stops at N = {fewest}, which all prompts have responses for: larger N, asked for with --budgets, are "
            "over fewer prompts, and V_N may then fall as N grows."
        )
    return replace(compared, notes=(*ragged, *unchecked(runs), *other_references), ragged=bool(ragged))


def _fewest_responses(runs: Sequence[Rollouts]) -> int:
    """Responses, scored or not, of the prompt that has fewest in any run; prompts that are counted at no N aside."""
    fewest = [run.counts[~np.isnan(run.best_of_n([1])[:, 0])].min(initial=run.n) for run in runs]
    return int(min(fewest))


def _ragged(runs: Sequence[Rollouts]) -> list[str]:
    """Say of which rollouts the prompts have different numbers of responses."""
    return [
        f"{run.name}: prompts have {run.counts.min()} to {run.n} responses." for run in runs if run.counts.min() < run.n
    ]


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
        measures: What is reported beside V_N of each method (see `Rollouts.measures`): seeds, prompts.
        budgets: The K values of N.
        n: Responses per prompt that the values come from.
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
        raise ValueError(f"reference {reference!r} is not among the methods: choose from {', '.join(values)}.")
    curves = []
    for name, of_method in values.items():
        difference = None if name == reference else _difference(values, name, reference, seed)
        curves.append(_curve(name, of_method, measures[name], difference, seed))
    prompts = values[reference].shape[1]
    return Comparison(tuple(budgets), n, prompts, reference, tuple(curves), dict(sampling or {}))


def _stacked(measures: Sequence[Mapping[str, np.ndarray]], aside: Sequence[str]) -> dict[str, np.ndarray]:
    """What every seed knows, but for what is left aside."""
    known = [key for key in measures[0] if key not in aside and all(key in of_run for of_run in measures)]
    return {key: np.stack([of_run[key] for of_run in measures]) for key in known}


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
    intervals = {
        key: _of_most_prompts(mean_interval(by_prompt[:, :, None], seed=seed), values.shape[1])
        for key, by_prompt in measures.items()
        if not np.isnan(by_prompt).all()
    }
    return Curve(name, len(values), v_n, per_seed, intervals, difference)

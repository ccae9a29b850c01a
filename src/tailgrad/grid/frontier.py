"""V_N against the KL divergence to the starting policy: methods move at different speeds, and equal steps mislead."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from textwrap import fill

import numpy as np
from jaxtyping import Bool, Float

from tailgrad.display.cells import aligned, decimals_of, interval_cell
from tailgrad.display.style import drawing, styles_of
from tailgrad.grid.config import GridConfig
from tailgrad.grid.gather import Method
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import BASE, candidates, choosing, key_of
from tailgrad.statistics import paired_difference
from tailgrad.statistics.intervals import Interval, mean_interval

Points = tuple[Float[np.ndarray, "S T"], Float[np.ndarray, "S P T"]]
"""KL of each seed at each of T points, mean over prompts, and V_N of each prompt there."""
ReadAt = Callable[[Float[np.ndarray, "S T"], Float[np.ndarray, "S P T"], float], Float[np.ndarray, "S P"]]
"""From KL and V_N at measured points and the KL wanted to V_N there: `value_at_kl` or `best_within_kl`."""
KL_VALUES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0, 11.0, 16.0, 23.0, 32.0, 45.0, 64.0, 90.0, 128.0)
"""KL divergences, in nats per response, at which methods are compared: half octaves."""


def value_at_kl(
    kl: Float[np.ndarray, "S T"], v_n: Float[np.ndarray, "S P T"], wanted: float
) -> Float[np.ndarray, "S P"]:
    """V_N where each seed first reaches a KL divergence, linear in sqrt(KL) between measured points.

    Near the start KL grows with the square of the distance that the policy has moved, and V_N with the distance
    itself, so that a line in KL would be far below the curve.

    Args:
        kl: Mean KL over prompts of each seed at each measured point, in nats.
        v_n: V_N of each seed and prompt at the same points.
        wanted: The KL divergence, above 0.

    Returns:
        One value per seed and prompt; NaN for a seed that never gets there, or is there before its first point.

    Examples:
        >>> kl, v_n = np.array([[0.0, 1.0, 9.0]]), np.array([[[5.0, 6.0, 8.0]]])
        >>> value_at_kl(kl, v_n, 4.0), value_at_kl(kl, v_n, 10.0)
        (array([[7.]]), array([[nan]]))

    References:
        Gao, Schulman and Hilton (2022), Scaling laws for reward model overoptimization, arXiv:2210.10760: reward
        against sqrt(KL).
    """
    found = np.full(v_n.shape[:2], np.nan)
    for seed, path in enumerate(kl):
        after = int(np.argmax(path >= wanted))
        if path[after] >= wanted and (after > 0 or path[0] == wanted):
            left, at, right = np.sqrt(np.maximum([path[after - 1], wanted, path[after]], 0.0))
            share = (at - left) / (right - left) if after > 0 else 1.0
            found[seed] = (1 - share) * v_n[seed, :, after - 1] + share * v_n[seed, :, after]
    return found


def best_within_kl(
    kl: Float[np.ndarray, "S T"], v_n: Float[np.ndarray, "S P T"], wanted: float
) -> Float[np.ndarray, "S P"]:
    """V_N of the best policy within a KL divergence: a measured one, or one between two as `value_at_kl` has it.

    A larger learning rate may go further and reach less; who has so much KL to spend would not take it.

    Args:
        kl: Mean KL over prompts of each seed at each measured point, in nats.
        v_n: V_N of each seed and prompt at the same points.
        wanted: The KL divergence, above 0.

    Returns:
        One value per seed and prompt, of the point with the best mean over prompts; NaN for a seed all of whose points
        lie beyond.

    Examples:
        >>> kl, v_n = np.array([[1.0, 4.0, 16.0]]), np.array([[[5.0, 6.0, 2.0]]])
        >>> best_within_kl(kl, v_n, 9.0), best_within_kl(kl, v_n, 0.5)
        (array([[6.]]), array([[nan]]))
    """
    reached = np.concatenate([v_n, value_at_kl(kl, v_n, wanted)[:, :, None]], axis=2)
    known = ~np.isnan(reached)
    means = np.where(known, reached, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    within = known.any(axis=1) & np.pad(kl <= wanted, ((0, 0), (0, 1)), constant_values=True)
    best = np.where(within, means, -np.inf).argmax(axis=1)
    found = np.take_along_axis(reached, best[:, None, None], axis=2)[:, :, 0]
    return np.where(within.any(axis=1, keepdims=True), found, np.nan)


def over_steps(methods: Mapping[str, Method], budget: int) -> dict[str, Points]:
    """Every method's points along training, at its own learning rate: all seeds, the start first."""
    found = {}
    for name, method in methods.items():
        if name != BASE:
            kl = np.stack([method.measure(step, "kl").mean(axis=1) for step in method.steps], axis=1)
            found[name] = kl, np.concatenate([method.v_n(step, [budget]) for step in method.steps], axis=2)
    return found


def over_rates(
    config: GridConfig, methods: Mapping[str, Method], rows: Mapping[str, Row], budget: int
) -> tuple[dict[str, Points], int]:
    """Every method's points over what was tried for it: first seed, last step, choosing prompts, by increasing KL.

    Args:
        config: The grid.
        methods: The methods.
        rows: All results by their key.
        budget: N.

    Returns:
        Points by method, and the N they are at: the largest up to the one wanted that all choosing rows have.
    """
    measured = {}
    for name, method in methods.items():
        tried = candidates(config, method.training) if name != BASE else []
        keys = [key_of(config, training, choosing(config, training)[0]) for training in tried]
        of_method = sorted((rows[key] for key in keys if key in rows), key=lambda row: float(np.mean(row["kl"])))
        if len(of_method) > 1:
            measured[name] = of_method
    shared = [set(row["budgets"]) for of_method in measured.values() for row in of_method]
    budgets = [known for known in set.intersection(*shared) if known <= budget] if shared else []
    if not budgets:
        return {}, budget
    at = max(budgets)
    found = {}
    for name, of_method in measured.items():
        values = [np.array(row["v_n"], float)[:, row["budgets"].index(at)] for row in of_method]
        kl = np.array([[np.mean(row["kl"]) for row in of_method]], float)
        found[name] = kl, np.stack(values, axis=1)[None]
    return found, at


def on_shared_prompts(points: Mapping[str, Points], budget: int) -> tuple[dict[str, Points], str]:
    """The points on those prompts alone that know V_N at all of them: else each would be a mean over other prompts.

    Args:
        points: Points of the methods, on the same prompts.
        budget: N.

    Returns:
        The points, none where fewer than half of the prompts are left; and a sentence where not all are.
    """
    known = np.all([~np.isnan(v_n).any(axis=(0, 2)) for _, v_n in points.values()], axis=0)
    if known.all():
        return dict(points), ""
    who = f"{int(known.sum())} of {len(known)} prompts that have {budget} scored responses at every point"
    if 2 * known.sum() < len(known):
        return {}, f"No V_{budget} against KL: there are only {who}."
    return {name: (kl, v_n[:, known]) for name, (kl, v_n) in points.items()}, f"Over the {who}."


def _best_so_far(values: Float[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
    """Which values are above all before them."""
    return np.asarray(values > np.concatenate([[-np.inf], np.fmax.accumulate(values)[:-1]]))


def without_start(points: Mapping[str, Points]) -> dict[str, Points]:
    """The points of `over_steps` but for the start: between it and the first measured step the path is not known."""
    return {name: (kl[:, 1:], v_n[:, :, 1:]) for name, (kl, v_n) in points.items()}


def equal_kl_table(points: Mapping[str, Points], *, budget: int, reference: str, read: ReadAt = value_at_kl) -> str:
    """V_N at equal KL, and the paired difference to the reference, as a Markdown table.

    A method that `read` gives nothing for with some seed has no entry there.
    """
    others = [name for name in points if name != reference]
    furthest = max(np.max(kl, initial=0.0, where=~np.isnan(kl)) for kl, _ in points.values())
    reached_at, means, gaps = [], [], []
    for wanted in (value for value in KL_VALUES if value <= furthest):
        values = {name: read(*path, wanted)[:, :, None] for name, path in points.items()}
        reached = {name for name, value in values.items() if not np.isnan(value).all(axis=1).any()}
        if reached:
            reached_at.append(f"{wanted:g}")
            means.append([mean_interval(values[name]) if name in reached else None for name in points])
            both = reached if reference in reached else set()
            gaps.append(
                [paired_difference(values[name], values[reference]) if name in both else None for name in others]
            )
    if not reached_at:
        few = f"{KL_VALUES[0]:g}, {KL_VALUES[1]:g}, ... {KL_VALUES[-1]:g} nats"
        return f"No V_{budget}: no method has measured points on both sides of any of {few}, or KL is unknown."
    rows = [["KL (nats)", *points, *(f"{name} - {reference}" for name in others)]]
    rows += [[kl, *left, *right] for kl, left, right in zip(reached_at, _cells(means), _cells(gaps, "+"), strict=True)]
    return aligned(rows)


def _cells(table: list[list[Interval | None]], sign: str = "") -> list[list[str]]:
    """Intervals as text, all with as many decimals as they need; empty for None."""
    known = [interval for row in table for interval in row if interval is not None]
    decimals = decimals_of(known) if known else 0
    return [["" if one is None else interval_cell(one, 0, decimals, sign) for one in row] for row in table]


def save_frontier(
    panels: Mapping[str, Mapping[str, Points]],
    stem: Path,
    *,
    budget: int,
    reference: str,
    unordered: Collection[str] = (),
) -> None:
    """Draw V_N against KL, one line per method through its points; the mean over seeds thick, each seed thin.

    Args:
        panels: Points of the methods by the title of the panel.
        stem: Path of the files without ending; the folder must exist.
        budget: N.
        reference: Name of the reference.
        unordered: Panels whose points follow no path: the line goes through those that are the best within their KL.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    names = list(dict.fromkeys(name for points in panels.values() for name in points))
    styles = styles_of([BASE, *names], reference)  # with the starting policy: the colours are those of the curves
    with drawing(stem, (1.6 + 5.4 * len(panels), 4.4)) as (figure, _):
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for panel, (title, points) in zip(axes, panels.items(), strict=True):
            for name, (kl, v_n) in points.items():
                at, reached = kl.mean(axis=0), v_n.mean(axis=(0, 1))
                on_line = _best_so_far(reached) if title in unordered else np.full(len(reached), True)
                panel.plot(at[on_line], reached[on_line], marker="o", markersize=4, label=name, **styles[name])
                panel.plot(at[~on_line], reached[~on_line], "o", markersize=3, alpha=0.4, color=styles[name]["color"])
                for seed in range(len(kl) if len(kl) > 1 else 0):
                    panel.plot(kl[seed], v_n[seed].mean(axis=0), linewidth=0.6, alpha=0.5, **styles[name])
            panel.set_xscale("function", functions=(lambda kl: np.sqrt(np.maximum(kl, 0.0)), np.square))
            panel.set_xlim(left=0.0)
            panel.locator_params(axis="x", nbins=6)
            panel.set_xlabel("KL to the starting policy (nats per response; square root axis)")
            panel.set_title(fill(title, 42))
        axes[0].set_ylabel(f"$V_{{{budget}}}$")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)

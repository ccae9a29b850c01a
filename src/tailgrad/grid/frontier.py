"""V_N against the KL divergence to the starting policy: methods move at different speeds, and equal steps mislead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tailgrad.evaluation.comparison import paired_difference
from tailgrad.evaluation.figures import drawing, styles_of
from tailgrad.evaluation.intervals import mean_interval
from tailgrad.evaluation.tables import aligned, interval_cell
from tailgrad.grid.gather import Method
from tailgrad.grid.trainings import BASE

KL_VALUES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""KL divergences, in nats a response, at which methods are compared."""


def value_at_kl(
    kl: Float[np.ndarray, "S T"], v_n: Float[np.ndarray, "S P T"], wanted: float
) -> Float[np.ndarray, "S P"]:
    """V_N where each seed first reaches a KL divergence, linear in sqrt(KL) between its measured steps.

    Near the start KL grows with the square of the distance that the policy has moved, and V_N with the distance
    itself, so that a line in KL would be far below the curve.

    Args:
        kl: Mean KL over prompts of each seed at each measured step, in nats; the start, 0, first.
        v_n: V_N of each seed and prompt at the same steps.
        wanted: The KL divergence, above 0.

    Returns:
        One value a seed and prompt; NaN for a seed that never gets there.

    Example:
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
        if path[after] >= wanted:
            left, at, right = np.sqrt(np.maximum([path[after - 1], wanted, path[after]], 0.0))
            share = (at - left) / (right - left)
            found[seed] = (1 - share) * v_n[seed, :, after - 1] + share * v_n[seed, :, after]
    return found


def trajectory(method: Method, budget: int) -> tuple[Float[np.ndarray, "S T"], Float[np.ndarray, "S P T"]]:
    """Mean KL and V_N of a method at its measured steps."""
    kl = np.stack([method.measure(step, "kl").mean(axis=1) for step in method.steps], axis=1)
    v_n = np.concatenate([method.v_n(step, [budget]) for step in method.steps], axis=2)
    return kl, v_n


def equal_kl_table(methods: Mapping[str, Method], *, budget: int, reference: str) -> str:
    """V_N at equal KL, and the paired difference to the reference, as a Markdown table.

    A method that does not reach a KL with every seed has no entry there.
    """
    paths = {name: trajectory(method, budget) for name, method in methods.items() if name != BASE}
    rows = [["KL (nats)", *(name for name in paths), *(f"{name} - {reference}" for name in paths if name != reference)]]
    for wanted in KL_VALUES:
        values = {name: value_at_kl(*path, wanted)[:, :, None] for name, path in paths.items()}
        reached = {name for name, value in values.items() if not np.isnan(value).all(axis=1).any()}
        if not reached:
            break
        cells = [interval_cell(mean_interval(values[name]), 0, 2) if name in reached else "" for name in paths]
        for name in paths:
            if name != reference:
                both = {name, reference} <= reached
                difference = paired_difference(values[name], values[reference]) if both else None
                cells.append("" if difference is None else interval_cell(difference, 0, 2, "+"))
        rows.append([f"{wanted:g}", *cells])
    if len(rows) == 1:
        return f"No comparison at equal KL: no method reached {KL_VALUES[0]:g} nats with every seed, or KL is unknown."
    title = f"V_{budget} at equal KL to the starting policy, between measured steps; differences paired"
    return f"{title}\n\n{aligned(rows)}"


def save_frontier(methods: Mapping[str, Method], stem: Path, *, budget: int, reference: str) -> None:
    """Draw V_N against KL: one line a method through its measured steps, means over seeds and prompts."""
    styles = styles_of(list(methods), reference)  # with the starting policy: the colours are those of the curves
    with drawing(stem, (7.6, 4.4)) as (figure, _):
        panel = figure.subplots()
        for name, style in styles.items():
            if name == BASE:
                continue
            kl, v_n = trajectory(methods[name], budget)
            panel.plot(kl.mean(axis=0), v_n.mean(axis=(0, 1)), marker="o", markersize=4, label=name, **style)
            for seed in range(len(kl)):
                panel.plot(kl[seed], v_n[seed].mean(axis=0), linewidth=0.6, alpha=0.5, **style)
        panel.set_xscale("function", functions=(lambda kl: np.sqrt(np.maximum(kl, 0.0)), np.square))
        panel.set_xlabel("KL to the starting policy (nats a response; the axis is its square root)")
        panel.set_ylabel(f"$V_{{{budget}}}$ on held-out prompts")
        panel.set_title("Best-of-N against distance; thin lines are seeds")
        figure.legend(loc="outside right upper", frameon=False)

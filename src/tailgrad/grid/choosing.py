"""Which learning rate, and which KL weight, each method is reported at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from tailgrad.grid.config import GridConfig
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import Training, candidates, cells, choosing, key_of


def chosen_trainings(config: GridConfig, rows: Sequence[Row]) -> list[Training]:
    """The trainings to report: every cell at its chosen trial, with all seeds; the first seed of all first.

    Trials are compared by V_N on the choosing prompts with the first seed, at the training's N or, where fewer
    responses were sampled or the estimator knows no N, at the largest N that they allow of those in the grid.

    Args:
        config: The grid.
        rows: Its results. A cell that lacks a choosing row is left out; with one trial it needs none.

    Returns:
        Seeds times cells.
    """
    found = {row["key"]: row for row in rows}
    chosen = []
    for cell in cells(config):
        wanted = cell.deploy_n or max(deploy_n for m, deploy_n in config.m_and_n if m == cell.m)
        tried = candidates(config, cell)
        choices = [found.get(key_of(config, training, choosing(config, training)[0])) for training in tried]
        values = [v_n(row, wanted) for row in choices if row is not None]
        if len(tried) == 1:
            chosen += tried
        elif len(values) == len(tried):
            chosen.append(tried[smallest_good(np.stack(values))])
    return [replace(training, seed=seed) for seed in config.seeds for training in chosen]


def smallest_good(values: Float[np.ndarray, "R P"]) -> int:
    """Return the place of the first trial that is no worse than the best by more than one paired standard error.

    This is the one-standard-error rule: of settings that cannot be told apart the simplest, here the one that moves
    the policy least. The best of many by its mean alone is often a large learning rate that was lucky with one seed.

    Args:
        values: What each trial reached on each prompt, what moves the policy least first; a prompt with NaN at any is
            left out. Without any prompt the first one is taken.

    Returns:
        Index of a row.

    Examples:
        >>> smallest_good(np.array([[1.0, 2.0, 3.0], [1.4, 1.9, 3.1], [0.0, 1.0, 2.0]]))
        0

    References:
        Breiman, Friedman, Olshen and Stone (1984), Classification and Regression Trees, section 3.4.3.
    """
    known = values[:, ~np.isnan(values).any(axis=0)]
    if known.shape[1] < 2:
        return int(known.mean(axis=1).argmax()) if known.size else 0
    gaps = known[known.mean(axis=1).argmax()] - known
    errors = gaps.std(axis=1, ddof=1) / known.shape[1] ** 0.5
    return int((gaps.mean(axis=1) <= errors).argmax())


def v_n(row: Row, budget: int) -> Float[np.ndarray, " P"]:
    """V_N of each prompt at the largest budget of the row that is not above `budget`."""
    column = max(place for place, known in enumerate(row["budgets"]) if known <= budget)
    return np.array(row["v_n"], dtype=float)[:, column]

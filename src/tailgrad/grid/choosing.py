"""Which learning rate, and which KL weight, each method is reported at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from tailgrad.grid.config import GridConfig
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import Training, candidates, cells, choosing, key_of

_NEARLY_ALL: Final = 0.9
"""The share of the choosing prompts that must know V_N, for learning rates to be compared by it."""
_MOST: Final = 0.5
"""The same of a single trial at N = 1, for it to count."""


class Choice(NamedTuple):
    """By what one of the trials of a cell was chosen."""

    training: Training
    budget: int | None
    """N of the V_N that they were compared by; None of a single trial."""
    prompts: int | None
    """Prompts that know it in every trial that counts; None likewise."""
    of_prompts: int | None
    """The choosing prompts; None likewise."""


def chosen_trainings(config: GridConfig, rows: Sequence[Row]) -> list[Training]:
    """The trainings to report: every cell at its chosen trial, with all seeds; the first seed of all first.

    Args:
        config: The grid.
        rows: Its results; see `choices_of`.

    Returns:
        Seeds times cells.

    Raises:
        ValueError: As `choices_of`.
    """
    chosen = [choice.training for choice in choices_of(config, rows)]
    return [replace(training, seed=seed) for seed in config.seeds for training in chosen]


def choices_of(config: GridConfig, rows: Sequence[Row]) -> list[Choice]:
    """The trial of each cell that is reported, with the first seed.

    Trials are compared by V_N on the choosing prompts with the first seed, at the training's N or, where fewer
    responses were sampled or the estimator knows no N, at the largest N that they allow of those in the grid. V_N of a
    prompt needs N scored responses: N is lower where fewer than nine prompts of ten have them in every trial.

    Args:
        config: The grid.
        rows: Its results. A cell that lacks a choosing row is left out; with one trial it needs none.

    Returns:
        One choice per cell.

    Raises:
        ValueError: The responses of most choosing prompts are unscored, in every trial of a cell.
    """
    found = {row["key"]: row for row in rows}
    choices = []
    for cell in cells(config):
        wanted = cell.deploy_n or max(deploy_n for m, deploy_n in config.m_and_n if m == cell.m)
        tried = candidates(config, cell)
        judged = [found.get(key_of(config, training, choosing(config, training)[0])) for training in tried]
        measured = [row for row in judged if row is not None]
        if len(tried) == 1:
            choices.append(Choice(tried[0], None, None, None))
        elif len(measured) == len(tried):
            choices.append(_choice(tried, measured, wanted))
    return choices


def _choice(tried: Sequence[Training], rows: Sequence[Row], wanted: int) -> Choice:
    """Of those trials that most prompts have scored responses of."""
    kept = [place for place, row in enumerate(rows) if _share_known(row) >= _MOST]
    if not kept:
        raise ValueError(
            f"{tried[0].estimator}: most responses to the choosing prompts are unscored at every learning rate, so "
            "that none can be chosen: make the reward score them, or give one rate."
        )
    budgets = sorted({budget for row in rows for budget in row["budgets"]}, reverse=True)
    for budget in [budget for budget in budgets if budget <= wanted] or budgets[-1:]:
        values = np.stack([v_n(rows[place], budget) for place in kept])
        known = ~np.isnan(values).any(axis=0)
        if known.mean() >= _NEARLY_ALL or budget == budgets[-1]:
            break
    return Choice(tried[kept[smallest_good(values)]], budget, int(known.sum()), len(known))


def _share_known(row: Row) -> float:
    """The share of the prompts that have as many scored responses as the smallest N takes."""
    values = v_n(row, row["budgets"][0])
    return float((~np.isnan(values)).mean()) if len(values) else 0.0


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

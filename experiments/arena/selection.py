"""One policy of a contender at equal steps, and one within each KL divergence: chosen on the choosing prompts alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailgrad.grid.frontier import value_at_kl

KL_BUDGETS = {"bandit": (0.5, 1.0, 2.0, 4.0), "sequence": (0.5, 1.0, 2.0, 4.0, 8.0)}
"""Nats per response."""


@dataclass(frozen=True)
class Trace:
    """What S seeds at C pairs of learning rate and KL weight did at T points of training."""

    kl_choose: np.ndarray
    """`[S, C, T]`, mean over prompts."""
    kl_report: np.ndarray
    v_choose: np.ndarray
    """V_N, `[S, C, T, P]`."""
    v_report: np.ndarray


@dataclass(frozen=True)
class Choice:
    """A pair of learning rate and KL weight, and what its policies reach on the report prompts."""

    pair: int
    kl: float
    on_choosing: float
    values: np.ndarray
    """V_N, `[S, P]`."""


def at_equal_steps(trace: Trace) -> Choice:
    """The pair with the best V_N after the last step."""
    means = trace.v_choose[:, :, -1].mean(axis=(0, 2))
    pair = int(means.argmax())
    return Choice(pair, float(trace.kl_report[:, pair, -1].mean()), float(means[pair]), trace.v_report[:, pair, -1])


def within_kl(trace: Trace, budget: float) -> Choice:
    """The best of the policies within a KL divergence: measured ones, and those where all seeds cross it.

    Where a path crosses, V_N is read linear in sqrt(KL) between two measured points. The KL is the mean over seeds and
    choosing prompts.
    """
    found: list[Choice] = []
    kl, points = trace.kl_choose, trace.kl_choose.shape[2]
    for pair in range(kl.shape[1]):
        for point in range(points):
            if kl[:, pair, point].mean() <= budget:
                value = float(trace.v_choose[:, pair, point].mean())
                kl_there = float(trace.kl_report[:, pair, point].mean())
                found.append(Choice(pair, kl_there, value, trace.v_report[:, pair, point]))
        crossing = value_at_kl(kl[:, pair], trace.v_choose[:, pair].transpose(0, 2, 1), budget)
        if not np.isnan(crossing).any():
            values = value_at_kl(kl[:, pair], trace.v_report[:, pair].transpose(0, 2, 1), budget)
            found.append(Choice(pair, budget, float(crossing.mean()), values))
    return max(found, key=lambda choice: choice.on_choosing)

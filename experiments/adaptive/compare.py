"""How many samples do rules that draw adaptively save, at equal reward, on pools of real rollouts?

    python experiments/adaptive/compare.py [--orders 16] [--seed 0] [--report_only]

Replays every rule on the pools of pools.npz. Writes results/compare.json, its tables into README.md, and the figure.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers import adabon_gains, beacon_index, pandora_index, slg_gains, universal_index
from pools import read_pools
from replay import (
    Outcome,
    allocated,
    at_samples,
    gain_index,
    halves,
    needed,
    orders_of,
    priors_of,
    stopping,
    two_stage,
    uniform,
)
from report import write_report

from tailgrad.serving.priors import SpreadPrior

HERE = Path(__file__).parent
FOUND = HERE / "results" / "compare.json"
BUDGETS = (8, 16, 32, 64)
PRICES = np.geomspace(1e-6, 2, 160)
FIRSTS = (1, 2, 3, 4, 6, 8, 10)
SHARES = (0.25, 0.5, 0.75)
RESAMPLES = 1000
TOPS = {"met": 1.0, "ifeval": 1.0}
"""Of the pools whose rewards have a known end."""


def main() -> None:
    """Replay, measure and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report_only", action="store_true")
    options = parser.parse_args()
    if not options.report_only:
        rows = [row for name, pool in read_pools().items() for row in measure(name, pool, options.orders, options.seed)]
        FOUND.write_text(json.dumps(rows, indent=1) + "\n")
    write_report(json.loads(FOUND.read_text()), HERE)


def measure(name: str, pool: np.ndarray, orders: int, seed: int) -> list[dict[str, Any]]:
    """One row per rule and mean number of samples per prompt."""
    most = min(pool.shape[1], 256)
    drawn = orders_of(pool, orders, seed)[..., :most]
    budgets = [budget for budget in BUDGETS if 4 * budget <= most]
    weights = resamplings(len(pool), seed)
    even = uniform(drawn, budgets)
    rows, rewards = [], {}
    for rule, tried in rules(name, pool, drawn, budgets, seed):
        for place, budget in enumerate(budgets):
            setting, outcome = best_setting(tried, budget)
            if outcome is None:
                continue
            reward, target = at_samples(outcome, weights, budget), weights @ even.reward[:, place]
            saved = 100 * (1 - needed(outcome, weights, target) / budget)
            rewards[rule, budget] = reward
            numbers = {"gain": interval(reward - target), "saved": interval(saved)}
            spread = float(pool.std(axis=1).mean())
            row = {"pool": name, "rule": rule, "samples": budget, "setting": setting, "spread": spread, **numbers}
            rows.append(row | ({"price": price_of(outcome, budget)} if outcome.samples.shape[1] == len(PRICES) else {}))
        print(name, rule, flush=True)
    for row in rows:
        against = [rewards[rule, row["samples"]] for rule in PEERS if (rule, row["samples"]) in rewards]
        best = max(against, key=lambda one: one[0])
        row["over_best_peer"] = interval(rewards[row["rule"], row["samples"]] - best)
    return rows


PEERS = ("Pandora's box", "BEACON", "AdaBoN", "SLG")


def rules(
    name: str, pool: np.ndarray, drawn: np.ndarray, budgets: list[int], seed: int
) -> Iterator[tuple[str, dict[Any, Outcome]]]:
    """Each rule with its outcome at every value of its second setting: the first batch, or the first stage's share."""
    most = drawn.shape[2]
    flat = drawn.reshape(-1, most)
    for rule, index in (
        ("Pandora's box", pandora_index(flat)),
        ("BEACON", beacon_index(flat, universal_index(most))),
    ):
        scale = pool.std(axis=1).mean() if rule == "BEACON" else 1.0
        yield rule, stopped(drawn, index.reshape(drawn.shape), PRICES * scale)
    totals = sorted({round(budget * factor) for budget in budgets for factor in (0.5, 0.75, 1, 1.5)})
    for rule, gains in (("AdaBoN", adabon_gains), ("SLG", slg_gains)):
        yield rule, {share: two_stage(drawn, totals, share, gains) for share in SHARES}
    none, priors, top = [None, None], priors_of(pool, seed), TOPS.get(name, math.inf)
    index = gain_index(drawn, batch=1, first=3, most=most, priors=none, top=top)
    yield "tail stopping", stopped(drawn, index, PRICES, firsts=FIRSTS[2:])
    index = gain_index(drawn, batch=1, first=1, most=most, priors=priors)
    yield "tail stopping, prior", stopped(drawn, index, PRICES)
    index = gain_index(drawn, batch=4, first=4, most=most, priors=priors)
    yield "tail stopping, prior, batches of 4", {4: stopping(drawn, index, PRICES, first=4, most=most)}
    index = gain_index(drawn, batch=4, first=4, most=most, priors=priors, growth=0.25)
    yield "the same, growing", {4: stopping(drawn, index, PRICES, first=4, most=most)}
    spread_priors = [prior for prior in priors if isinstance(prior, SpreadPrior)]
    if len(spread_priors) == 2:
        index = np.empty(drawn.shape)
        for half, prior in zip(halves(len(pool)), spread_priors, strict=True):
            rows = np.ascontiguousarray(drawn[:, half]).reshape(-1, most)
            found = beacon_index(rows, universal_index(most, prior), prior)
            index[:, half] = found.reshape(len(drawn), -1, most) / prior.spread
        yield "BEACON, our prior", stopped(drawn, index, PRICES)
    some = drawn[: max(2, len(drawn) // 2)]
    yield "allocation", {first: allocated(some, [t for t in totals if t >= first], first=first) for first in (2, 4)}


def stopped(
    drawn: np.ndarray, index: np.ndarray, prices: np.ndarray, firsts: tuple[int, ...] = FIRSTS
) -> dict[Any, Outcome]:
    """A rule of one sample at a time, for every first batch."""
    return {first: stopping(drawn, index, prices, first=first, most=drawn.shape[2]) for first in firsts}


def best_setting(tried: dict[Any, Outcome], budget: int) -> tuple[Any, Outcome | None]:
    """The value of the second setting with the largest reward at a budget; None where no value reaches it."""
    weights = np.full((1, len(next(iter(tried.values())).reward)), 1.0)
    weights /= weights.size
    found = {key: float(at_samples(outcome, weights, budget)[0]) for key, outcome in tried.items()}
    known = {key: value for key, value in found.items() if not math.isnan(value)}
    if not known:
        return None, None
    best = max(known, key=lambda key: known[key])
    return best, tried[best]


def price_of(outcome: Outcome, budget: int) -> float:
    """The price at which a stopping rule draws a mean number of samples."""
    mean = outcome.samples.mean(axis=0)
    return float(f"{np.exp(np.interp(-budget, -mean, np.log(PRICES))):.2g}")


def resamplings(prompts: int, seed: int) -> np.ndarray:
    """Weights of the prompts: even first, then of bootstrap resamples."""
    counts = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), RESAMPLES)
    return np.concatenate([np.ones((1, prompts)), counts]) / prompts


def interval(values: np.ndarray) -> list[float | None]:
    """The value of the pool itself, and the central 95% of the resamples; None where it is not reached."""
    value, resampled = values[0], values[1:]
    if np.isnan(value):
        return [None, None, None]
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return [float(f"{number:.4g}") for number in (value, low, high)]


if __name__ == "__main__":
    main()

"""How often does the interval of a forecast of V_N hold the truth, and how far off is each family of forecasts?

    python experiments/forecasts/run.py [--tables NAME=TABLE ...] [--report_only]

Synthetic rewards have a known V_N. Of a real table, m random responses per prompt forecast V_N, and the exact V_N of
all its responses is the truth. Writes results/coverage.csv and the tables of README.md. Seed 0.
"""

import argparse
import csv
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from distributions import DISTRIBUTIONS, THREE, draw
from report import write_tables
from scipy import stats

from tailgrad.curves import best_of_n
from tailgrad.files import replacing
from tailgrad.rollouts import read_rollouts
from tailgrad.tails import FORECASTS, calibrated_forecast
from tailgrad.tails.leave_one_out import leave_one_out_error

HERE = Path(__file__).parent
ROWS = HERE / "results" / "coverage.csv"
PROMPTS, SIZES, TIMES, REPEATS, GROUPS = (48, 16), (32, 128, 512), (8, 32), 100, 10
REAL_SIZES, REAL_TIMES = (16, 32, 64, 128), (4, 8)

Draw = Callable[[np.random.Generator], tuple[np.ndarray, float, float]]


def main() -> None:
    """Make the rows that are missing, then the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", nargs="*", default=[], metavar="NAME=TABLE")
    parser.add_argument("--report_only", action="store_true")
    options = parser.parse_args()
    rows = list(csv.DictReader(ROWS.open())) if ROWS.exists() else []
    if not options.report_only:
        done = {(row["rewards"], int(row["prompts"]), int(row["m"]), int(row["N"])) for row in rows}
        for setting, drawn in [*synthetic(), *real(options.tables)]:
            if setting not in done:
                rows += measure(setting, drawn)
                write(rows)
                print(*setting, flush=True)
    write_tables(rows, HERE / "README.md")


def synthetic() -> Iterator[tuple[tuple[str, int, int, int], Draw]]:
    """Settings with a known distribution."""
    for prompts in PROMPTS:
        for m in SIZES if prompts == PROMPTS[0] else SIZES[:2]:
            for name in (*DISTRIBUTIONS, THREE):
                for times in TIMES:
                    yield (name, prompts, m, times * m), _drawing(name, prompts, m, times * m)


def _drawing(name: str, prompts: int, m: int, deploy_n: int) -> Draw:
    def drawn(rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
        rewards, truth = draw(name, prompts, m, rng)
        return rewards, float(truth(deploy_n).mean()), float(truth(m).mean())

    return drawn


def real(tables: list[str]) -> Iterator[tuple[tuple[str, int, int, int], Draw]]:
    """Settings from tables of rewards."""
    for name, path in (table.split("=", 1) for table in tables):
        rewards = read_rollouts(path).rewards
        prompts, n = rewards.shape
        for m in REAL_SIZES:
            for times in REAL_TIMES:
                if times * m <= n:
                    yield (name, prompts, m, times * m), _splitting(rewards, m, times * m)


def _splitting(rewards: np.ndarray, m: int, deploy_n: int) -> Draw:
    truth, at_m = best_of_n(rewards, [deploy_n, m]).mean(axis=0).tolist()
    return lambda rng: (rewards[:, rng.permutation(rewards.shape[1])[:m]], truth, at_m)


def measure(setting: tuple[str, int, int, int], drawn: Draw) -> list[dict[str, object]]:
    """Coverage and error of every family, and of our interval, at one setting."""
    name, prompts, m, deploy_n = setting
    rng = np.random.default_rng(zlib.crc32(repr(setting).encode()))
    found: dict[str, list[tuple[float, float, float]]] = {}
    gains = []
    for _ in range(REPEATS):
        rewards, truth, at_m = drawn(rng)
        values = torch.from_numpy(np.ascontiguousarray(rewards))
        gains.append(truth - at_m)
        ours = calibrated_forecast(values, [deploy_n])
        found.setdefault("calibrated", []).append((ours.mean[0] - truth, ours.low[0] - truth, ours.high[0] - truth))
        for family, forecast in FORECASTS.items():
            value = float(forecast(values, deploy_n=deploy_n).nanmean())
            half = jackknife(forecast, values, deploy_n)
            found.setdefault(family, []).append((value - truth, value - half - truth, value + half - truth))
    return [
        {"rewards": name, "prompts": prompts, "m": m, "N": deploy_n, "family": family, **summary(np.array(of), gains)}
        for family, of in found.items()
    ]


def jackknife(forecast: Callable[..., torch.Tensor], values: torch.Tensor, deploy_n: int) -> float:
    """Half the width of the 95% interval that leaving out a tenth of the responses at a time gives."""
    kept = [
        np.delete(np.arange(values.shape[1]), group) for group in np.array_split(np.arange(values.shape[1]), GROUPS)
    ]
    without = torch.stack([forecast(values[:, places], deploy_n=deploy_n).nanmean() for places in kept])
    return float(stats.t.ppf(0.975, GROUPS - 1) * leave_one_out_error(without.unsqueeze(0)))


def summary(errors: np.ndarray, gains: list[float]) -> dict[str, object]:
    """Of the forecasts that were given: share of intervals that hold the truth, bias, spread, width."""
    error, low, high = errors.T
    given = ~np.isnan(low)
    numbers = {"given": int(given.sum()), "repeats": len(errors), "gain": np.mean(gains)}
    if given.any():
        held = ((low <= 0) & (high >= 0))[given]
        numbers |= {"coverage": held.mean(), "bias": error[given].mean(), "spread": error[given].std()}
        numbers |= {"half_width": np.median((high - low)[given] / 2)}
    return {key: value if isinstance(value, int) else f"{value:.4g}" for key, value in numbers.items()}


def write(rows: list[dict[str, object]]) -> None:
    """The rows so far."""
    names = ["rewards", "prompts", "m", "N", "family", "given", "repeats", "gain"]
    with replacing(ROWS) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*names, "coverage", "bias", "spread", "half_width"], restval="")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

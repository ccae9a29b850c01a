"""May the family of forecasts be chosen by its error on responses that are held out?

    python experiments/forecasts/held_out.py

Of 128 responses per prompt, each ninth forecasts V_N for N eight times as large, and the exact V_N of the other eight
is compared with it. The family that errs least (root mean square over the nine, of the mean over prompts) forecasts
V_1024 from all 128. Prints one line per kind of rewards, and writes results/held_out.csv. Seed 0.
"""

import csv
from collections import Counter

import numpy as np
import torch
from distributions import DISTRIBUTIONS, THREE, draw
from run import HERE, jackknife

from tailgrad.curves import best_of_n
from tailgrad.tails import FORECASTS

PROMPTS, N, FOLDS, REPEATS = 48, 128, 9, 40


def main() -> None:
    """All kinds of rewards."""
    rows = [measure(name) for name in (*DISTRIBUTIONS, THREE)]
    with (HERE / "results" / "held_out.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def measure(name: str) -> dict[str, object]:
    """How often which family is chosen, and what becomes of its forecast."""
    rng = np.random.default_rng(0)
    chosen, seen, errors, held, gains = Counter[str](), [], [], [], []
    for _ in range(REPEATS):
        rewards, truth = draw(name, PROMPTS, N, rng)
        family, relative = best_family(rewards)
        values, deploy_n = torch.from_numpy(rewards), (FOLDS - 1) * N
        error = float(FORECASTS[family](values, deploy_n=deploy_n).mean()) - truth(deploy_n).mean()
        chosen[family] += 1
        seen.append(relative)
        errors.append(error)
        held.append(abs(error) <= jackknife(FORECASTS[family], values, deploy_n))
        gains.append(truth(deploy_n).mean() - truth(N).mean())
    row = {
        "rewards": name,
        "chosen": ", ".join(f"{family} {count}" for family, count in chosen.most_common()),
        "held-out error / gain": f"{np.mean(seen):+.2f}",
        "error at 1024 / gain": f"{np.mean(errors) / np.mean(gains):+.2f}",
        "coverage": f"{np.mean(held):.2f}",
    }
    print(*row.values(), sep=" | ", flush=True)
    return row


def best_family(rewards: np.ndarray) -> tuple[str, float]:
    """The family that errs least on held-out responses, and its mean error over what V_N gains there."""
    size = rewards.shape[1] // FOLDS
    folds = [slice(fold * size, (fold + 1) * size) for fold in range(FOLDS)]
    errors: dict[str, list[float]] = {family: [] for family in FORECASTS}
    gains = []
    for fold in folds:
        rest = np.delete(rewards[:, : FOLDS * size], fold, axis=1)
        at_size, exact = best_of_n(rest, [size, rest.shape[1]]).mean(axis=0)
        gains.append(exact - at_size)
        for family, forecast in FORECASTS.items():
            value = forecast(torch.from_numpy(rewards[:, fold].copy()), deploy_n=rest.shape[1])
            errors[family].append(float(value.nanmean()) - exact)
    best = min(errors, key=lambda family: float(np.mean(np.square(errors[family]))))
    return best, float(np.mean(errors[best]) / np.mean(gains))


if __name__ == "__main__":
    main()

"""Direction and signal of the estimators of 0/1 rewards, against the exact gradient of mean pass@N.

    python experiments/zero-one/noise.py

Every prompt has one parameter of its own, the logit of its success rate p, so a gradient is a function of p and the
truth is N p (1 - p)^N. What an estimator gives to a group depends on its successes s alone, so its expectation is a sum
over s and an integral over p: exact, but for `pass_at_n`, whose prior comes from the other prompts of a batch and
is averaged over random batches. Prints Markdown.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betaincinv
from scipy.stats import binom
from torch import Tensor

from tailgrad.estimators import bind, pass_at_n

SIZES = (8, 16)
BUDGETS = (64, 128)
BATCHES = (8, 32, 256)
BLOCKS, BATCHES_PER_BLOCK = 8, 12  # random batches for pass_at_n, and their blocks for its standard error
POINTS = 1000  # of the integral over p
BETAS = ((0.3, 3.0), (1.0, 9.0), (0.5, 0.5), (2.0, 60.0))
MIXTURE = (0.9, 0.01), (0.1, 0.4)  # shares and rates of the prompts that no Beta distribution describes
PRINTED = (16, 128)  # m and N of the first table
SEED = 0


@dataclass(frozen=True)
class Prompts:
    """Success rates and how common they are."""

    name: str
    rates: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class Measures:
    """How an estimator's expected gradient compares with the truth."""

    direction: float
    """Cosine of the angle to the truth."""
    signal: float
    """Component along the truth, over the standard deviation along a direction that has nothing to do with it."""
    size: float
    """Mean over prompts, in units of the truth's: 1 where a common shift of all logits is estimated without bias."""


def populations() -> list[Prompts]:
    """Four Beta distributions, by their quantiles at the points of a quadrature, and the mixture."""
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    found = [
        Prompts(f"Beta({a:g}, {b:g})", betaincinv(a, b, (nodes + 1) / 2).clip(1e-12, 1 - 1e-12), weights / 2)
        for a, b in BETAS
    ]
    shares, rates = (np.array(column) for column in zip(*MIXTURE, strict=True))
    return [*found, Prompts("mixture", rates, shares)]


def groups_of(m: int) -> Tensor:
    """One group for each number of successes, 0 to m."""
    return (torch.arange(m) < torch.arange(m + 1)[:, None]).double()


def measure(prompts: Prompts, deploy_n: int, first: Tensor, second: Tensor) -> Measures:
    """Compare with the truth.

    Args:
        prompts: The success rates.
        deploy_n: N.
        first: Mean advantages `[m + 1, m]` of the groups with 0 to m successes, as `groups_of` lists them.
        second: Mean squared advantages.

    Returns:
        The measures.
    """
    m, p = first.shape[1], prompts.rates
    chance = binom.pmf(np.arange(m + 1), m, p[:, None])
    of_success, of_all = (first * groups_of(m)).mean(dim=1).numpy(), first.mean(dim=1).numpy()
    gradient = (chance * (of_success - p[:, None] * of_all)).sum(axis=1)
    truth = deploy_n * p * (1 - p) ** deploy_n
    noise = math.sqrt(prompts.shares @ (chance @ second.mean(dim=1).numpy()) / m)
    norm = math.sqrt(prompts.shares @ truth**2)
    along = prompts.shares @ (gradient * truth) / norm
    own = math.sqrt(prompts.shares @ gradient**2)
    return Measures(along / own, along / noise, float(prompts.shares @ gradient / (prompts.shares @ truth)))


def plain(prompts: Prompts, m: int, deploy_n: int) -> dict[str, Measures]:
    """Measures of the estimators that look at one group at a time; those with k at the k of the most signal."""

    def of(name: str, **options: object) -> Measures:
        advantages = bind(name, **options)(groups_of(m))
        return measure(prompts, deploy_n, advantages, advantages**2)

    names = ("dr_grpo", "grpo", "f_grpo", "max_rl")
    found = {name: of(name) for name in names} | {"bon_rl": of("bon_rl", deploy_n=deploy_n)}
    max_at = {k: of("max_at_k", k=k, baseline="loo") for k in range(2, m)} | {m: of("bon_max_second")}
    pass_at = [of("pass_at_k", k=k) for k in range(1, m)]
    found |= {"max_at_k, k = m/4": max_at[m // 4], "max_at_k, k = m/2": max_at[m // 2], "max_at_k, k = m": max_at[m]}
    found["max_at_k, best k"] = max(max_at.values(), key=lambda each: each.signal)
    found["pass_at_n, prior 1+16"] = of("pass_at_n", deploy_n=deploy_n, prior=(1.0, 16.0))
    found["pass_at_k, best k"] = max(pass_at, key=lambda each: each.signal)
    return found


def in_batches(prompts: Prompts, m: int, deploy_n: int, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Mean and mean square of the advantages of pass_at_n for each group, beside random others; in blocks."""
    generator = np.random.default_rng(seed)
    for _ in range(BLOCKS):
        drawn = []
        for _ in range(BATCHES_PER_BLOCK):
            p = generator.choice(prompts.rates, p=prompts.shares / prompts.shares.sum(), size=(batch - 1, 1))
            others = torch.from_numpy((generator.random((batch - 1, m)) < p).astype(float))
            groups = [pass_at_n(torch.cat([others, own[None]]), deploy_n=deploy_n)[-1] for own in groups_of(m)]
            drawn.append(torch.stack(groups))
        advantages = torch.stack(drawn)
        yield advantages.mean(dim=0), (advantages**2).mean(dim=0)


def pooled(prompts: Prompts, m: int, deploy_n: int, batch: int, seed: int) -> tuple[Measures, Measures]:
    """Measures of pass_at_n in batches of this many prompts, and their standard errors by the jackknife over blocks."""
    blocks = list(in_batches(prompts, m, deploy_n, batch, seed))

    def without(left_out: int | None) -> np.ndarray:
        kept = [block for i, block in enumerate(blocks) if i != left_out]
        means = (torch.stack(part).mean(dim=0) for part in zip(*kept, strict=True))
        each = measure(prompts, deploy_n, *means)
        return np.array([each.direction, each.signal, each.size])

    apart = np.stack([without(i) for i in range(BLOCKS)])
    errors = apart.std(axis=0) * math.sqrt(BLOCKS - 1)
    return Measures(*without(None)), Measures(*errors)


def main() -> None:
    """Print both tables."""
    settings: list[dict[str, Measures]] = []
    shown: dict[str, dict[str, Measures]] = {}
    errors: list[Measures] = []
    for prompts in populations():
        for m in SIZES:
            for deploy_n in BUDGETS:
                found = plain(prompts, m, deploy_n)
                for batch in BATCHES:
                    found[f"pass_at_n, {batch} prompts"], error = pooled(prompts, m, deploy_n, batch, SEED)
                    errors.append(error)
                settings.append(found)
                if (m, deploy_n) == PRINTED:
                    shown[prompts.name] = found
    print(f"m = {PRINTED[0]}, N = {PRINTED[1]}: direction, signal per prompt\n")
    print_table(shown, lambda each: f"{each.direction:.2f}, {each.signal:.3f}")
    print(f"\nAll {len(settings)} settings, as shares of the largest signal of the setting\n")
    print("| estimator | mean | least | size, from | to |\n|---|---|---|---|---|")
    for name in settings[0]:
        shares = [found[name].signal / max(each.signal for each in found.values()) for found in settings]
        sizes = [found[name].size for found in settings]
        print(f"| {name} | {np.mean(shares):.3f} | {min(shares):.3f} | {min(sizes):.2g} | {max(sizes):.2g} |")
    largest = (max(getattr(error, part) for error in errors) for part in ("direction", "signal", "size"))
    print("\nLargest standard errors, of pass_at_n: direction {:.1g}, signal {:.1g}, size {:.1g}".format(*largest))


def print_table(columns: dict[str, dict[str, Measures]], text: Callable[[Measures], str]) -> None:
    """Estimators in rows, populations in columns."""
    print("| estimator | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(text(found[name]) for found in columns.values()) + " |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

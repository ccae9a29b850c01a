"""The rows of the contract suite: every estimator with options, and what it declares."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tailgrad.estimators import bind

M = 24


@dataclass(frozen=True)
class Row:
    """One estimator with options, and what it declares."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    permutations: str = "all"  # equivariant under "all" permutations, or "cyclic" ones
    offsets: bool = True  # A(R + b) = A(R), bit for bit where R + b is exact
    scales: str = (
        "linear"  # A(a R) = a A(R) for a > 0; "invariant", without a scale: A(a R) = A(R) up to eps; or "none"
    )
    zero_when_equal: bool = True  # equal rewards give no signal
    independent: bool = True  # a prompt's advantages do not depend on the other prompts
    binary: bool = False  # takes rewards 0 and 1 only

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    @property
    def estimate(self) -> Callable[[Tensor], Tensor]:
        return bind(self.name, **self.options)

    def allowed(self, rewards: Tensor) -> Tensor:
        """The rewards themselves, or whether they are positive for a row that takes 0 and 1 only."""
        if not self.binary or not rewards.is_floating_point():
            return (rewards != 0).to(rewards.dtype) if self.binary else rewards
        return (rewards > 0).to(rewards.dtype).masked_fill(torch.isnan(rewards), math.nan)


WHOLE_GRAPHS = ("tea", "flat_tea", "cvar", "max_at_k")  # torch.compile takes them with fullgraph=True
HELD_OUT = {"deploy_n": 128, "tail_fraction": 0.5, "evaluation": "held_out"}
ROWS = [
    Row("tea", {"deploy_n": 128}),
    Row("tea", {"deploy_n": 64, "tail_fraction": 0.5, "center": True}),
    Row("tea", {"deploy_n": 128, "tail": "exponential"}),
    Row("tea", {"deploy_n": 64, "tail_fraction": 0.5, "tail": "exponential", "center": True}),
    Row("tea", {"deploy_n": 128, "tail_fraction": 1.0}),
    Row("flat_tea", {"deploy_n": 128}),
    Row("flat_tea", {"deploy_n": 128, "tail_fraction": 0.25, "extrapolate_n": 64}),
    Row("flat_tea", {"deploy_n": 128, "extrapolate_n": 1}),
    Row("prefix_tea", {"deploy_n": 128}, permutations="cyclic"),
    Row("prefix_tea", {"deploy_n": 128, "order": 3, "tail_fraction": 0.3}, permutations="cyclic"),
    Row("prefix_tea", {"deploy_n": 128, "tail": "exponential"}, permutations="cyclic"),
    Row("prefix_tea", HELD_OUT, permutations="cyclic"),
    Row("cvar"),
    Row("cvar", {"tail_fraction": 0.5}),
    Row("grpo", scales="invariant"),
    Row("dr_grpo"),
    Row("rloo"),
    Row("max_at_k", {"k": 8}),
    Row("max_at_k", {"k": 1}),
    Row("max_at_k", {"k": 5, "baseline": "subset"}),
    Row("max_at_k", {"k": 5, "baseline": "loo"}),
    Row("max_at_k", {"k": 5, "baseline": "none"}, offsets=False, zero_when_equal=False),
    Row("order_grad", {"k": 8, "top": 3}),
    Row("order_grad", {"k": 6, "quantile": 0.75}),
    Row("bon_max_mean"),
    Row("bon_max_second"),
    Row("bon_rl", {"deploy_n": 128}),
    Row("bon_rl", {"deploy_n": 16}),
    Row("cat_bon", {"deploy_n": 128}, scales="invariant", independent=False),
    Row("cat_bon", {"deploy_n": 4}, scales="invariant", independent=False),
    Row("pass_at_k", {"k": 4}, scales="invariant", binary=True),
    Row("pass_at_n", {"deploy_n": 128}, binary=True, independent=False),
    Row("pass_at_n", {"deploy_n": 64, "prior": (0.5, 4.0)}, binary=True),
    Row("pass_at_n", {"deploy_n": 64, "prior": (1.0, 9.0), "levels": (0.0, 0.5, 1.0)}, binary=True),
    Row("max_rl", binary=True),
    Row("f_grpo", scales="invariant", binary=True),
    Row("f_grpo", {"gamma": 2.5}, scales="invariant", binary=True),
    Row("rs_grpo", {"risk_beta": 2.0}, scales="none"),
    Row("rs_grpo", {"risk_beta": -0.5}, scales="none"),
    Row("rs_grpo", {"risk_beta": 1.0, "units": "spread"}),
    Row("entropic", scales="invariant"),
    Row("qae", scales="invariant"),
    Row("qae", {"quantile": 0.75}, scales="invariant"),
]


def eighths(prompts: int, rollouts: int = M, seed: int = 0) -> Tensor:
    """Rewards that are multiples of 2^-9, so that adding 1e4 is exact in float32; ties are common."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1024, 1024, (prompts, rollouts), generator=generator) / 512


def compile_rows(names: list[str]) -> None:
    """Compile the rows of some estimators (none given: all) and compare; without the shape checks of the tests."""
    for row in [row for row in ROWS if not names or row.name in names]:
        estimate = bind(row.name, **row.options, validate=False)
        rewards = row.allowed(eighths(3))
        rewards[1, 4] = math.nan
        torch._dynamo.reset()
        compiled = torch.compile(estimate, backend="aot_eager", fullgraph=row.name in WHOLE_GRAPHS)
        torch.testing.assert_close(compiled(rewards), estimate(rewards), msg=str(row))


if __name__ == "__main__":
    compile_rows(sys.argv[1:])

"""How noisy is each estimator's gradient? Mean over standard deviation of one group's gradient, Gaussian rewards.

    python experiments/quickstart/gradient_noise.py

Rewards are N(0, 1); the two parameters are the mean (score R) and the log standard deviation (score R^2 - 1). A ratio
of 1 means that one group tells the direction as often wrong as a coin weighted 84 to 16; noise falls with the square
root of the number of groups.
"""

import torch

from tailgrad.estimators import bind

GROUPS, SEED, DEPLOY_N = 10_000, 0, 128
ESTIMATORS = {
    "dr_grpo": {},
    "max_at_k, k = 4": {"k": 4, "baseline": "subset"},
    "max_at_k, k = 16": {"k": 16, "baseline": "subset"},
    "tea": {"deploy_n": DEPLOY_N},
    "prefix_tea": {"deploy_n": DEPLOY_N},
}


def main() -> None:
    print(f"{GROUPS} groups, seed {SEED}, N = {DEPLOY_N}")
    for m in (16, 32):
        rewards = torch.randn(GROUPS, m, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
        for name, options in ESTIMATORS.items():
            advantages = bind(name.split(",")[0], **options)(rewards)
            by_group = [(advantages * score).mean(dim=1) for score in (rewards, rewards**2 - 1)]
            mean, spread = ((gradient.mean() / gradient.std()).item() for gradient in by_group)
            print(f"m = {m}  {name:<17} mean {mean:5.2f}   log std {spread:5.2f}")


if __name__ == "__main__":
    main()

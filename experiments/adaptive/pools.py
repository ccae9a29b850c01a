"""The pools of rewards that are replayed: all responses of each prompt, sampled once.

    python experiments/adaptive/pools.py --smollm2 TABLE --smollm2_prompts FILE --by_reward_model TABLE \
        --ifeval TABLE --quickstart TABLE

makes pools.npz anew from rollout tables (README.md says with which commands these are sampled).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
FILE = HERE / "pools.npz"
sys.path.append(str(HERE.parents[0] / "small-instruct"))

NAMES = {
    "graded": "SmolLM2, graded constraints",
    "met": "SmolLM2, share of constraints met",
    "likelihood": "SmolLM2, log-likelihood per token",
    "reward model": "SmolLM2, reward model",
    "ifeval": "SmolLM2, IFEval",
    "quickstart": "quickstart, verifier",
}


def read_pools() -> dict[str, np.ndarray]:
    """Rewards `[P, M]` of each pool, in float64."""
    with np.load(FILE) as stored:
        return {name: stored[name].astype(np.float64) for name in NAMES}


def constraints_met(responses: list[list[str]], checks: list[str]) -> np.ndarray:
    """Share of a prompt's constraints that each response meets in full: a verifier of five values."""
    from constraints import grades

    return np.array(
        [
            [np.mean([grade > 0.999 for grade in grades(response, json.loads(asked)).values()]) for response in row]
            for row, asked in zip(responses, checks, strict=True)
        ]
    )


def main() -> None:
    """Write the pools."""
    from tailgrad.rollouts import read_rollouts

    parser = argparse.ArgumentParser()
    for name in ("smollm2", "smollm2_prompts", "by_reward_model", "ifeval", "quickstart"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    smollm2, quickstart = read_rollouts(options.smollm2), read_rollouts(options.quickstart)
    asked = [json.loads(line)["checks"] for line in Path(options.smollm2_prompts).read_text().splitlines()]
    tokens, likelihoods = (np.asarray(smollm2.known(name), dtype=float) for name in ("num_tokens", "logprobs"))
    made = {
        "graded": smollm2.rewards,
        "met": constraints_met(smollm2.known("responses"), asked[: len(smollm2.rewards)]),
        "likelihood": likelihoods / tokens,
        "reward model": read_rollouts(options.by_reward_model).rewards,
        "ifeval": read_rollouts(options.ifeval).rewards,
        "quickstart": quickstart.rewards,
    }
    np.savez_compressed(FILE, **{name: rewards.astype(np.float32) for name, rewards in made.items()})


if __name__ == "__main__":
    main()

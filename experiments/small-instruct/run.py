"""Make everything that the grids of this experiment need: prompts, policies, rewards, and the check of their tails.

    python experiments/small-instruct/run.py --data DIR|hub [--policies small large]

`--data hub` first makes the data folder from public data sets (`hub_data.py`).
Results go to `artifacts` beside this file, where nothing is made again, and the check of the tails to `results/tails`,
in the place of what stands there.
The grids come after it:

    tailgrad grid --config experiments/small-instruct/tier1.yaml
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tailgrad.runner import Job, flags, run_side_by_side

HERE = Path(__file__).resolve().parent
OUT = HERE / "artifacts"
TAILS = HERE / "results" / "tails"
FITS = {
    "small": {"plain_share": 0.4, "epochs": 2, "learning_rate": 3e-3},
    "large": {"plain_share": 0.3, "epochs": 4, "learning_rate": 2e-3},
}
BASE_N = 512
BASE_PROMPTS = 32
SETS = ("alpaca", "hh")
REWARDS = {
    "constraints": "constraints.score",
    "heavy": "tail_shapes.heavy",
    "light": "tail_shapes.light",
    "reward-model": OUT / "reward-model",
    "lm-score": "lm_score.score",
}


def once(job: Job, result: Path) -> Iterator[Job]:
    """The job, unless its result is there."""
    if not result.exists():
        yield job


def script(name: str, options: dict[str, object], folder: Path = HERE) -> Job:
    """A script of this folder, or of another, as a job."""
    log = OUT / "logs" / f"{'-'.join([name, str(options.get('name', ''))]).strip('-')}.log"
    return Job(log.stem, flags(options), log, 1, module=name, folder=folder)


def data_folder(given: str) -> Path:
    """The data folder; for "hub" it is made."""
    if given != "hub":
        return Path(given).resolve()
    folder = OUT / "data"
    run_side_by_side([once(script("hub_data", {"out": folder}), folder / "alpaca.jsonl.gz")], processes=1)
    return folder


def fitted(name: str, precision: str) -> Iterator[Job]:
    """Fit one policy."""
    options = {"name": name, "out": OUT, "precision": precision, **FITS[name]}
    yield from once(script("policy", options), OUT / "policies" / name / "fit.json")


def reward_model(data: Path) -> Iterator[Job]:
    """Train the reward model, from the small policy."""
    held_out = [OUT / f"{name}-{part}.jsonl" for name in SETS for part in ("choose", "test")]
    options = {"data": data, "out": OUT, "policy": OUT / "policies" / "small", "exclude": held_out}
    job = script("reward_model", options, HERE.parent / "first-real-run")
    yield from once(job, OUT / "reward-model" / "accuracy.json")


def rollouts(policy: str, prompts: str, tables: dict[str, Path], *, n: int, limit: int) -> Iterator[Job]:
    """Responses of a starting policy to held-out prompts, sampled once and scored by every reward in turn.

    `tables` has the rollout table of each reward.
    """
    sampled = next(iter(tables.values()))
    source = {"model_name_or_path": OUT / "policies" / policy, "dataset_name": OUT / f"{prompts}-test.jsonl"}
    sampling = {**source, "n": n, "limit": limit, "max_completion_length": 24}
    for label, table in tables.items():
        options = sampling if table == sampled else {"selection": "reward"}
        options = options | {"reward_funcs": REWARDS[label], "batch_size": 512, "out": table}
        argv = [*(["sample"] if table == sampled else ["score", str(sampled)]), *flags(options)]
        log = OUT / "logs" / f"{table.parent.name}-{table.stem}.log"
        job = Job(f"{table.parent.name} {table.stem}", argv, log, limit, folder=HERE)
        yield from once(job, table)


def is_fitted(policy: str) -> bool:
    """Whether the policy is there."""
    return (OUT / "policies" / policy / "fit.json").exists()


def rewards_at_hand() -> list[str]:
    """All rewards, but the large policy's where there is none."""
    return [label for label in REWARDS if label != "lm-score" or is_fitted("large")]


def base_rollouts(policies: list[str]) -> Iterator[Iterator[Job]]:
    """Rollouts of the starting policies, for the check of the rewards' tails."""
    for policy in policies:
        for prompts in SETS:
            tables = {label: OUT / "base" / f"{policy}-{prompts}-{label}.parquet" for label in rewards_at_hand()}
            yield rollouts(policy, prompts, tables, n=BASE_N, limit=BASE_PROMPTS)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help='folder with the gzipped JSON lines, or "hub"')
    parser.add_argument("--policies", nargs="+", choices=tuple(FITS), default=list(FITS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="in which policies are fitted"
    )
    args = parser.parse_args()
    if "small" not in args.policies and not is_fitted("small"):
        parser.error("The reward model starts from the small policy: name it too (--policies small large).")
    data = data_folder(args.data)
    run_side_by_side([once(script("prompts", {"data": data, "out": OUT}), OUT / "eval.jsonl")], processes=1)
    run_side_by_side([fitted(name, args.precision) for name in args.policies], processes=args.processes)
    run_side_by_side([reward_model(data)], processes=1)
    run_side_by_side(list(base_rollouts(args.policies)), processes=args.processes)
    run_side_by_side([script("tails", {"tables": OUT / "base", "out": TAILS})], processes=1)
    print((TAILS / "tails.md").read_text(encoding="utf-8"))
    print(json.dumps(json.loads((OUT / "reward-model" / "accuracy.json").read_text()), indent=1))


if __name__ == "__main__":
    main()

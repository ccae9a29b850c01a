"""Does `tailgrad fidelity` say the same of a fresh LoRA adapter as of all parameters? At the quickstart's policy.

    python experiments/quickstart/inputs.py
    python experiments/quickstart/lora_fidelity.py

Samples one pool, differentiates it with respect to each choice of parameters, and compares what the estimators are
said to be worth. Writes `results/lora_fidelity.{md,json}`; an interrupted run goes on.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.display.cells import aligned, interval_cell, interval_numbers
from tailgrad.fidelity import Fidelity, FidelityPoint, gradient_fidelity
from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
from tailgrad.fidelity.products import MEASURES
from tailgrad.quickstart.corpus import MAX_RESPONSE_TOKENS
from tailgrad.rollouts import SampleConfig, read_rollouts, sample
from tailgrad.statistics.intervals import Interval, mean_interval

HERE = Path(__file__).parent
ESTIMATORS = ("grpo", "max_at_k:k=4", "cvar", "max_at_k:k=8", "flat_tea", "tea", "prefix_tea")
M, DEPLOY_N, PROMPTS, N, SEED = 16, 128, 48, 1024, 0
CHOICES: dict[str, dict[str, Any]] = {
    "all": {"parameters": "all"},
    "lora": {"parameters": "lora"},
    "lora, another A": {"parameters": "lora", "seed": 1},
    "lora, all-linear": {"parameters": "lora", "lora_target_modules": ("all-linear",)},
    "last:1": {"parameters": "last:1"},
}


def against(point: FidelityPoint, reference: FidelityPoint, name: str) -> Interval:
    """Direction less that of the reference, or signal to noise over it; the jackknife over prompts, paired."""
    place, ratio = MEASURES.index(name), name == "signal_to_noise"
    values = [(one.measures[name].mean[0], one.left_out[:, place]) for one in (point, reference)]
    (own, own_left), (other, other_left) = [(np.log(a), np.log(b)) if ratio else (a, b) for a, b in values]
    prompts = len(own_left)
    pseudo = prompts * (own - other) - (prompts - 1) * (own_left - other_left)
    interval = mean_interval(pseudo[None, :, None], seed=SEED)
    ends = [own - other + (end - interval.mean) for end in (interval.mean, interval.low, interval.high)]
    return Interval(*(np.exp(end) if ratio else end for end in ends), interval.prompts)


def table(found: dict[str, Fidelity]) -> tuple[str, list[dict[str, Any]]]:
    """The comparison as Markdown, and its numbers."""
    heading = ["direction", "less all's", "signal to noise", "over all's", "over grpo's"]
    lines, rows = [["parameters", "estimator", *heading]], []
    for choice, fidelity in found.items():
        grpo = next(point for point in fidelity.points if point.estimator == "grpo")
        for point, same in zip(fidelity.points, found["all"].points, strict=True):
            own = [point.measures[name] for name in ("direction", "signal_to_noise")]
            gaps = [against(point, same, name) for name in ("direction", "signal_to_noise")]
            numbers = [own[0], gaps[0], own[1], gaps[1], against(point, grpo, "signal_to_noise")]
            shown = [interval_cell(one, 0, 3, "+" * (one is gaps[0])) for one in numbers]
            shown = ["" if i in (1, 3) and choice == "all" else cell for i, cell in enumerate(shown)]
            lines.append([choice, point.estimator, *shown[:4], "" if point is grpo else shown[4]])
            values = {name: interval_numbers(one, 0) for name, one in zip(heading, numbers, strict=True)}
            rows.append({"parameters": choice, "estimator": point.estimator, **values})
    return aligned(lines), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=HERE / "artifacts" / "base", help="the quickstart's policy")
    parser.add_argument("--prompts", type=Path, default=HERE / "artifacts" / "test.jsonl", help="its test prompts")
    parser.add_argument("--pool", type=Path, default=HERE / "artifacts" / "lora-fidelity", help="rollouts, gradients")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the table goes")
    args = parser.parse_args()
    pool = args.pool / "pool.parquet"
    if not pool.exists():
        given = {"model_name_or_path": str(args.base), "dataset_name": str(args.prompts), "seed": SEED}
        size = {"limit": PROMPTS, "n": N, "max_completion_length": MAX_RESPONSE_TOKENS}
        sample(SampleConfig(out=pool, reward_funcs="tailgrad.quickstart.task.verifier", **given, **size))
    rewards, found, seconds = read_rollouts(pool).rewards, {}, {}
    for choice, how in CHOICES.items():
        began = time.process_time()
        out = args.pool / choice.replace(":", "-").replace(", ", "-").replace(" ", "-")
        gradients = sketch_gradients(GradientConfig(pool, str(args.base), out, **{"seed": SEED} | how))
        seconds[choice] = time.process_time() - began
        asked = {"estimators": ESTIMATORS, "m": [M], "deploy_n": [DEPLOY_N], "seed": SEED}
        found[choice] = gradient_fidelity(rewards, gradients, **asked)
    text, rows = table(found)
    halves = {choice: fidelity.truth_agreement[DEPLOY_N] for choice, fidelity in found.items()}
    said = ", ".join(f"{choice} {cosine:.2f}" for choice, cosine in halves.items())
    head = f"{PROMPTS} prompts, {N} responses each, m = {M}, N = {DEPLOY_N}, seed {SEED} [95% interval]"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "lora_fidelity.md").write_text(f"{head}\n\n{text}\n\nCosine of the truths of the halves: {said}\n")
    document = {"prompts": PROMPTS, "n": N, "m": M, "deploy_n": DEPLOY_N, "seed": SEED, "halves": halves, "rows": rows}
    (args.out / "lora_fidelity.json").write_text(json.dumps(document, indent=1) + "\n")
    print((args.out / "lora_fidelity.md").read_text())
    print("CPU seconds of the gradients that were missing:", {choice: round(used) for choice, used in seconds.items()})


if __name__ == "__main__":
    main()

"""Check that the verifier does not saturate on the base policy, and that its upper tail is near Gaussian.

    python experiments/first-real-run/check_task.py --rollouts base.parquet --out DIR

Prints four measures with the worst prompts, scores some answers that should rank in a known order, and
draws the QQ figure of the standardised rewards pooled over prompts. `--out` holds the prompt files of
`make_prompts.py`.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from verifier import MAXIMUM, keywords_of, reward_of

from tailgrad.curves import Rollouts
from tailgrad.curves.best_of_n import best_of_n
from tailgrad.rollouts import read_rollouts
from tailgrad.tails import UpperTailQQ, upper_tail_qq

BUDGET = 256
TAIL_FRACTION = 0.25
WORST = 5


def distinct_shares(responses: list[list[str]]) -> np.ndarray:
    """Share of distinct responses of each prompt."""
    return np.array([len(set(given)) / len(given) for given in responses])


def tied_shares(rewards: np.ndarray) -> np.ndarray:
    """Share of each prompt's top quarter whose reward occurs there already."""
    top = np.sort(rewards, axis=1)[:, -int(TAIL_FRACTION * rewards.shape[1]) :]
    return np.array([1 - len(np.unique(row)) / len(row) for row in top])


def instruction_of(prompt: str) -> str:
    """The user turn of a chat prompt of the rollout table."""
    return str(json.loads(prompt)[-1]["content"])


def slope(qq: UpperTailQQ) -> float:
    """Slope of the QQ points: 1 where the tail is as wide as a normal one."""
    return float(np.polyfit(qq.quantiles, qq.residuals, 1)[0])


def print_measures(table: Rollouts, qq: UpperTailQQ) -> None:
    """The four measures, each with its worst prompts."""
    best = best_of_n(table.rewards, [BUDGET])[:, 0] / MAXIMUM
    measures = [
        (f"best-of-{BUDGET} / maximum", best, best.mean(), -best, "mean, below 0.80"),
        (
            "distinct responses",
            (d := distinct_shares(table.responses)),
            d.min(),
            d,
            "smallest, at least 0.80",
        ),
        ("ties in the top quarter", (t := tied_shares(table.rewards)), t.max(), -t, "largest, at most 0.10"),
        ("QQ linearity (R^2)", qq.prompt_linearity, qq.linearity, qq.prompt_linearity, "pooled, near 1"),
    ]
    for name, values, summary, order, asked in measures:
        print(f"{name}: {summary:.3f} ({asked}); worst prompts:")
        for row in np.argsort(order, kind="stable")[:WORST]:
            print(f"    {values[row]:.3f}  {instruction_of(table.prompts[row])}")
    print(f"QQ slope {slope(qq):.3f} (1 for a normal tail)")
    print(f"mean reward {np.nanmean(table.rewards):.2f}, mean std {np.nanstd(table.rewards, axis=1).mean():.2f}")


def print_yardsticks(rows: Path) -> None:
    """Mean rewards of the data's own answers and of cheap ways to game the verifier."""
    read = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    pairs = [(row["prompt"][-1]["content"], row["completion"][-1]["content"]) for row in read]
    yardsticks = {
        "the data's answer": [(asked, answer) for asked, answer in pairs],
        "the answer to another instruction": [
            (asked, answer) for (asked, _), (_, answer) in zip(pairs, pairs[1:] + pairs[:1], strict=True)
        ],
        "the instruction copied": [(asked, asked) for asked, _ in pairs],
        "the keywords three times": [
            (asked, " ".join(keywords_of(asked) * 3).capitalize() + ".") for asked, _ in pairs
        ],
        "empty": [(asked, "") for asked, _ in pairs],
    }
    for name, cases in yardsticks.items():
        rewards = [reward_of(answer, asked) for asked, answer in cases]
        print(f"{name}: mean reward {np.mean(rewards):.2f}, largest {np.max(rewards):.2f}")


def draw(qq: UpperTailQQ, path: Path) -> None:
    """QQ figure of the pooled upper tail with the normal's line."""
    figure, axes = plt.subplots(figsize=(5, 4.5), layout="constrained")
    axes.plot(qq.quantiles, qq.quantiles, color="0.6", label="normal tail")
    axes.plot(qq.quantiles, qq.residuals, ".", markersize=3, label=f"base policy, $R^2$ = {qq.linearity:.3f}")
    axes.set(
        xlabel="normal quantile",
        ylabel="standardised reward",
        title="Upper quarter, pooled over held-out prompts",
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=Path, required=True, help="rollout table of the base policy, n = 256")
    parser.add_argument("--out", type=Path, required=True, help="folder of the prompt files; the figure goes there")
    args = parser.parse_args()
    table = read_rollouts(args.rollouts)
    qq = upper_tail_qq(table.rewards, tail_fraction=TAIL_FRACTION)
    print_measures(table, qq)
    print_yardsticks(args.out / "eval.jsonl")
    draw(qq, args.out / "qq.png")


if __name__ == "__main__":
    main()

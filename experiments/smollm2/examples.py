"""Show the best response before and after a training, for a person to read.

    python experiments/smollm2/examples.py BEFORE.parquet AFTER.parquet [--prompts 10] [--n 128] [--out examples.md]

Both are tables of `tailgrad sample` with the same prompts. Of the first n responses to each of the first prompts the
one with the highest reward is shown, with that reward: no response is chosen by hand.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from tailgrad.curves import Rollouts
from tailgrad.rollouts import read_rollouts


def question(prompt: str) -> str:
    """The last turn of a chat that is kept as JSON, or the prompt itself."""
    try:
        return str(json.loads(prompt)[-1]["content"])
    except (ValueError, TypeError, KeyError):
        return prompt


def best(table: Rollouts, prompts: int, n: int) -> list[tuple[float, str]]:
    """Reward and text of the best of the first n responses to each of the first prompts."""
    places = np.nanargmax(table.rewards[:prompts, :n], axis=1)
    return [(float(table.rewards[i, at]), table.responses[i][at]) for i, at in enumerate(places)]


def page(before: Rollouts, after: Rollouts, prompts: int, n: int) -> str:
    """One section per prompt.

    Raises:
        SystemExit: The tables have other prompts, or fewer than asked for.
    """
    asked = before.prompts[:prompts]
    if len(asked) < prompts or asked != after.prompts[:prompts] or min(before.n, after.n) < n:
        raise SystemExit(f"give two tables with the same first {prompts} prompts and {n} or more responses to each.")
    lines = [f"# The best of {n} responses, before and after\n"]
    pairs = zip(asked, best(before, prompts, n), best(after, prompts, n), strict=True)
    for number, (prompt, old, new) in enumerate(pairs, start=1):
        lines.append(f"## {number}. {question(prompt)}\n")
        for label, (reward, text) in (("Before", old), ("After", new)):
            quoted = "\n".join(f"> {line}" for line in text.strip().splitlines() or [""])
            lines.append(f"{label}, {reward:.2f}:\n\n{quoted}\n")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--n", type=int, default=128, help="of the responses to each prompt, only so many")
    parser.add_argument("--out", type=Path, help="written here, else printed")
    args = parser.parse_args()
    text = page(read_rollouts(args.before), read_rollouts(args.after), args.prompts, args.n)
    if args.out is None:
        print(text)
    else:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

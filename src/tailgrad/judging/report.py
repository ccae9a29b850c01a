"""Write what a judge found for people and programs: the answer, figure, tables and JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from tailgrad.display.cells import aligned, interval_cell, interval_numbers, without_nan
from tailgrad.files import write_text
from tailgrad.judging.figures import save_figure
from tailgrad.judging.measures import LENGTHS, Outcome
from tailgrad.statistics import Interval
from tailgrad.statistics.intervals import CONFIDENCE, RESAMPLES

_SHARES: Final = {
    "win_rate": "win rate of {other}, a tie is one half",
    "won": "{other} better{both}",
    "tied": "a tie{both}",
    "split": "the orders disagree",
    "lost": "{reference} better{both}",
    "agreement": "both orders say the same",
    "score_first": "score of {other} standing first",
    "score_second": "score of {other} standing second",
    "first_minus_second": "position bias: first minus second",
    "longer_won": "the longer answer won",
}

_LENGTHS: Final = {
    "length_of_reference": "answers of {reference}",
    "length_of_other": "answers of {other}",
    "length_of_winner": "answers that won",
    "length_of_loser": "answers that lost",
    "winner_minus_loser": "won minus lost",
}

_FEW: Final = 30
"""Prompts below which it is said that they are few."""


def write_report(outcome: Outcome, out_dir: str | Path) -> None:
    """Write judge.png, judge.svg, judge.md and judge.json.

    Args:
        outcome: What was found.
        out_dir: Folder for the four files, made if missing; an earlier report in it is replaced.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(outcome, folder / "judge", title=answer_of(outcome))
    write_text(folder / "judge.md", markdown_text(outcome))
    write_text(folder / "judge.json", _json_text(outcome))


def answer_of(outcome: Outcome) -> str:
    """Give the answer in one sentence.

    Args:
        outcome: What was found.

    Returns:
        Whether the answers of the second table are better, worse, or not told apart from those of the reference.
    """
    reference, other = outcome.names
    rate = outcome.measures["win_rate"]
    best = f"the best of {outcome.deploy_n} of {other}"
    if math.isnan(rate.mean[0]):
        return f"Unknown: {outcome.judge} judged no pair of which both judgements can be read."
    more = _unseen(rate)
    if math.isnan(rate.low[0]):
        found = "is better or worse (one prompt does not tell)"
    elif rate.low[0] - more > 0.5:
        found = "is better"
    elif rate.high[0] + more < 0.5:
        found = "is worse"
    else:
        found = "is not told apart"
    return f"Against {reference}, {best} {found}: win rate {_percent(rate)}, judged by {outcome.judge}."


def _unseen(rate: Interval) -> float:
    """The share of prompts that may be otherwise than all that were seen, which are alike; 0 where they differ."""
    is_flat = rate.prompts[0] > 1 and rate.low[0] == rate.high[0]
    return min(1.0, 3 / int(rate.prompts[0])) if is_flat else 0.0


def markdown_text(outcome: Outcome) -> str:
    """Give what was found as Markdown.

    Args:
        outcome: What was found.

    Returns:
        Text with aligned tables, readable as it is in a terminal.
    """
    interval = f"[{CONFIDENCE:.0%} interval over prompts]"
    shares = [["share of the pairs", f"{interval}", "prompts"]]
    shares += [[text, _share(outcome, key), str(_prompts(outcome, key))] for key, text in _rows(outcome, _SHARES)]
    lengths = [["length in characters", f"{interval}", "prompts"]]
    lengths += [
        [text, interval_cell(outcome.measures[key], 0, 0), str(_prompts(outcome, key))]
        for key, text in _rows(outcome, _LENGTHS)
    ]
    parts = [answer_of(outcome), aligned(shares), aligned(lengths), *notes_of(outcome), _legend(outcome)]
    return "\n\n".join(parts) + "\n"


def _rows(outcome: Outcome, texts: dict[str, str]) -> list[tuple[str, str]]:
    """The measures that there are, and what each is called."""
    reference, other = outcome.names
    both = " in both orders" if outcome.orders == 2 else ""
    names = {"reference": reference, "other": other, "both": both}
    return [(key, text.format(**names)) for key, text in texts.items() if key in outcome.measures]


def _share(outcome: Outcome, key: str) -> str:
    return _percent(outcome.measures[key], "+" if key == "first_minus_second" else "")


def _percent(interval: Interval, sign: str = "") -> str:
    """A share and its interval in percent."""
    mean, low, high = (float(part[0]) * 100 for part in interval[:3])
    if math.isnan(mean):
        return "unknown"
    form = f"{sign}.1f"
    return f"{mean:{form}}%" if math.isnan(low) else f"{mean:{form}}% [{low:{form}}%, {high:{form}}%]"


def _prompts(outcome: Outcome, key: str) -> int:
    return int(outcome.measures[key].prompts[0])


def notes_of(outcome: Outcome) -> list[str]:
    """Say what has no part in the numbers, and what a reader must know to trust them.

    Args:
        outcome: What was found.

    Returns:
        Sentences.
    """
    counts, rate = outcome.counts, outcome.measures["win_rate"]
    said = [
        f"{counts['pairs']} pairs of answers: {outcome.draws} for each of {outcome.prompts} prompts. "
        f"{counts['alike']} were the same text twice, which counts as a tie and was not asked about."
    ]
    if counts["unanswered"]:
        said.append(
            f"{counts['unanswered']} pairs are left out: a table has no response with a reward among the "
            f"{outcome.deploy_n}."
        )
    if counts["unread"]:
        low, high = (f"{bound * 100:.1f}%" for bound in outcome.bounds)
        refused = f" ({counts['replies_refused']} of them refused by the server)" if counts["replies_refused"] else ""
        what = "replies had no verdict that can be read" if outcome.orders == 2 else "pairs got no reward"
        said.append(
            f"{counts['replies_unread']} {what}{refused}; {counts['unread']} pairs are left out with them. Had "
            f"{outcome.names[1]} lost all of these, its win rate would be {low}; had it won them, {high}."
        )
    if most := _unseen(rate):
        said.append(
            f"All prompts have the same win rate, so the interval has no width; a kind of prompt that is otherwise may "
            f"still be {most:.0%} of all (95% confidence)."
        )
    elif rate.prompts[0] < _FEW:
        said.append(f"{rate.prompts[0]} prompts are few: judge more of them before you rely on this.")
    return said + list(outcome.notes)


def _legend(outcome: Outcome) -> str:
    lines = ["win rate: every prompt counts alike; a pair's score is averaged over its judgements, a tie is one half."]
    if outcome.orders == 2:
        lines += [
            "both orders: each pair is shown twice, with the answers in either order.",
            "both orders say the same, standing first, standing second, position bias: of the pairs that were asked "
            "about. The bias is 0 for a judge that does not look at the order. It favours neither table, but draws the "
            "win rate towards one half.",
        ]
    lines.append(
        "the longer answer won: of the pairs with a winner and two lengths. Far above one half it may be the judge "
        "that likes length, or longer answers that are better: the number does not tell the two apart."
    )
    return "\n".join(f"- {line}" for line in lines)


def _json_text(outcome: Outcome) -> str:
    reference, other = outcome.names
    document: dict[str, Any] = {
        "reference": reference,
        "compared": other,
        "judge": outcome.judge,
        "answer": answer_of(outcome),
        "deploy_n": outcome.deploy_n,
        "draws": outcome.draws,
        "prompts": outcome.prompts,
        "orders": outcome.orders,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "counts": outcome.counts,
        "measures": {key: interval_numbers(interval, 0) for key, interval in outcome.measures.items()},
        "in_characters": [key for key in LENGTHS if key in outcome.measures],
        "win_rate_bounds": list(outcome.bounds),
        "win_rate_by_prompt": outcome.win_rates.tolist(),
        "notes": notes_of(outcome),
    }
    return json.dumps(without_nan(document), indent=1, allow_nan=False) + "\n"

"""Write diagnoses of upper tails for people and programs: the answer, figure, tables and JSON."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from tailgrad.display.cells import aligned, interval_cell, interval_numbers, without_nan
from tailgrad.files import write_text
from tailgrad.statistics.intervals import CONFIDENCE, RESAMPLES
from tailgrad.tails.diagnosis import TailDiagnosis
from tailgrad.tails.figures import save_figure
from tailgrad.tails.reach import ReachTest
from tailgrad.tails.verdict import LIMIT, TOLERANCE

_LINES: Final = {
    "linearity": ("R^2, pooled", 4),
    "gaussian": ("R^2 per prompt", 3),
    "exponential_minus_gaussian": ("exponential's, minus", 3),
    "uniform_minus_gaussian": ("uniform's, minus", 3),
    "shape": ("shape", 2),
}
_ATOMS: Final = {
    "tied": ("tied", 3),
    "at_best": ("at the best", 3),
    "saturated": ("saturated prompts", 2),
    "constant": ("constant prompts", 2),
    "spread": ("tail spread", 3),
    "spread_variation": ("varies by", 2),
}
_WORST: Final = 5
_WIDTH: Final = 60


def write_tails(
    diagnoses: Mapping[str, TailDiagnosis],
    out_dir: str | Path,
    *,
    prompts: Mapping[str, Any] | None = None,
) -> str:
    """Write tails.png, tails.svg, tails.md and tails.json.

    Args:
        diagnoses: What `diagnose_tails` gave for each table, by the table's name; one tail fraction for all.
        out_dir: Folder for the four files, made if missing; an earlier report in it is replaced.
        prompts: The prompt of each row or its id, a sequence by the table's name; None: the number of the row.

    Returns:
        The text of tails.md.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.

    Examples:
        >>> import tempfile
        >>> from tailgrad.tails import diagnose_tails
        >>> base = diagnose_tails(np.random.default_rng(0).normal(size=(8, 64)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = write_tails({"base": base}, folder)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['tails.json', 'tails.md', 'tails.png', 'tails.svg']
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    names = {name: (prompts or {}).get(name, range(len(found.scored))) for name, found in diagnoses.items()}
    save_figure(diagnoses, folder / "tails")
    text = tails_markdown(diagnoses, prompts=names)
    write_text(folder / "tails.md", text)
    write_text(folder / "tails.json", _json_text(diagnoses, names))
    return text


def tails_markdown(diagnoses: Mapping[str, TailDiagnosis], *, prompts: Mapping[str, Any]) -> str:
    """Give diagnoses as Markdown: the answer to each table, then tables with one row per table.

    Args:
        diagnoses: By the table's name.
        prompts: The prompt of each row or its id, a sequence by the table's name.

    Returns:
        Text with aligned tables, readable as it is in a terminal.

    Examples:
        >>> from tailgrad.tails import diagnose_tails
        >>> found = {"base": diagnose_tails(np.random.default_rng(0).normal(size=(8, 64)))}
        >>> tails_markdown(found, prompts={"base": range(8)})[:9]
        'May V_N b'
    """
    fraction = next(iter(diagnoses.values())).tail_fraction
    wide = min(1.0, 2 * fraction)
    parts = [
        "May V_N be extrapolated from fewer responses, how far, and with which tail?",
        "\n".join(f"- {name}: {found.verdict.sentence}" for name, found in diagnoses.items()),
        f"How straight the upper {wide:g} of the rewards is against a Gaussian tail, and the shape of the upper "
        f"{fraction:g} [{CONFIDENCE:.0%} interval over prompts]",
        _table(diagnoses, _LINES),
        "Forecast of V_N from m responses minus the pool's V_N, as a share of the gain V_N - V_1",
        _reach_table(diagnoses),
        "Ties, saturation and the spread of the tail (means over prompts)",
        _table(diagnoses, _ATOMS),
        f"Prompts with the least Gaussian tails (R^2 of the prompt's upper {wide:g})",
        _worst_table(diagnoses, prompts),
        _legend(fraction),
    ]
    if any((found.scored >= 2).sum() < 2 for found in diagnoses.values()):
        parts.append("With one prompt only its shape has an interval, over its responses.")
    return "\n\n".join(parts) + "\n"


def _legend(fraction: float) -> str:
    lines = [
        "R^2, pooled: of the QQ points of all prompts' standardised rewards against the normal; 1 is a straight line.",
        "R^2 per prompt: the mean over prompts. exponential's, uniform's: how much straighter (+) or less straight (-) "
        "a prompt's points lie against such a tail.",
        "shape: of the generalised Pareto distribution. -1 is uniform, a Gaussian's upper quarter -0.26, 0 is "
        "exponential; above 0 is heavier.",
        f"a forecast is right if it errs by at most {TOLERANCE:.0%} of the gain, and its interval reaches at most "
        f"{LIMIT:.0%}.",
        "tied: share of the responses whose reward another response to the prompt has too. values: how many different "
        "rewards there are, which is a count and has no interval.",
        "at the best: share of the responses with the prompt's best reward. saturated: where it is above "
        f"{fraction:g}; constant: where it is 1.",
        f"tail spread: standard deviation of a prompt's upper {fraction:g}. varies by: the standard deviation of that "
        "over prompts, relative to its mean.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _table(diagnoses: Mapping[str, TailDiagnosis], columns: Mapping[str, tuple[str, int]]) -> str:
    atoms = columns is _ATOMS
    rows = [["table", *(["values"] if atoms else ["prompts", "n"]), *(heading for heading, _ in columns.values())]]
    for name, found in diagnoses.items():
        least, most = int(found.scored.min()), int(found.scored.max())
        size = [str(len(found.scored)), str(most) if least == most else f"{least} to {most}"]
        cells = [
            interval_cell(found.measures[key], 0, decimals, "+" if "minus" in key else "")
            for key, (_, decimals) in columns.items()
        ]
        rows.append([name, *([str(found.values)] if atoms else size), *cells])
    return aligned(rows)


def _reach_table(diagnoses: Mapping[str, TailDiagnosis]) -> str:
    rows = [["table", "N", "m", "gaussian tail", "exponential tail"]]
    for name, found in diagnoses.items():
        by_m: dict[int, dict[str, ReachTest]] = {}
        for test in found.tests:
            by_m.setdefault(test.m, {})[test.tail] = test
        for m, tests in by_m.items():
            rows.append([name, str(tests["gaussian"].deploy_n), str(m), *(tests[key].cell for key in tests)])
        if not by_m:
            rows.append([name, "none", "none", "unknown", "unknown"])
    return aligned(rows)


def _worst_table(diagnoses: Mapping[str, TailDiagnosis], prompts: Mapping[str, Any]) -> str:
    rows = [["table", "prompt", "R^2", "shape", "at the best"]]
    for name, found in diagnoses.items():
        lines = found.by_prompt["gaussian"]
        known = int((~np.isnan(lines)).sum())
        for row in np.argsort(lines, kind="stable")[: min(_WORST, known)].tolist():
            shape, error = found.by_prompt["shape"][row], found.by_prompt["shape_error"][row]
            cell = "unknown" if np.isnan(shape) else f"{shape:.2f} (standard error {error:.2f})"
            best = f"{found.by_prompt['at_best'][row]:.3f}"
            rows.append([name, _short(prompts[name][row]), f"{lines[row]:.3f}", cell, best])
    return aligned(rows)


def _short(prompt: Any) -> str:
    """A prompt in a few words; of a chat, which is JSON, the last message."""
    with suppress(TypeError, ValueError, LookupError):
        prompt = json.loads(prompt)[-1]["content"]
    text = " ".join(str(prompt).split())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _json_text(diagnoses: Mapping[str, TailDiagnosis], prompts: Mapping[str, Any]) -> str:
    tables = [
        {
            "name": name,
            "verdict": found.verdict._asdict(),
            "prompts": len(found.scored),
            "n": int(found.scored.max()),
            "values": found.values,
            "measures": {key: interval_numbers(interval, 0) for key, interval in found.measures.items()},
            "reach": [test._asdict() for test in found.tests],
            "by_prompt": {
                "prompt": [prompt.item() if isinstance(prompt, np.generic) else prompt for prompt in prompts[name]],
                "scored": found.scored.tolist(),
                **{key: values.tolist() for key, values in found.by_prompt.items()},
            },
        }
        for name, found in diagnoses.items()
    ]
    head = {
        "tail_fraction": next(iter(diagnoses.values())).tail_fraction,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "tolerance": TOLERANCE,
        "limit": LIMIT,
    }
    return json.dumps(without_nan(head | {"tables": tables}), indent=1, allow_nan=False) + "\n"

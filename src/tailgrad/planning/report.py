"""Write a plan for people and programs: figure, table and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.display.cells import aligned, interval_cell, interval_numbers, without_nan
from tailgrad.fidelity.break_even import break_even_cell
from tailgrad.files import write_text
from tailgrad.planning.command import train_command
from tailgrad.planning.figures import save_figure
from tailgrad.planning.plan import Plan, PlanRow
from tailgrad.planning.words import answer, dependence, direction_of_the_mean, level_with
from tailgrad.statistics.intervals import CONFIDENCE, RESAMPLES

_INTERVALS = ("direction", "signal_to_noise", "value", "difference", "ahead_from")


def write_plan(plan: Plan, out_dir: str | Path, *, table: Mapping[str, Any] | None = None) -> str:
    """Write plan.png, plan.svg, plan.md and plan.json.

    Args:
        plan: The plan.
        out_dir: Folder for the four files, made if missing; an earlier plan in it is replaced.
        table: Metadata of the rollout table, for the command and the JSON; JSON types only.

    Returns:
        The text, as in plan.md.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from tailgrad.planning import make_plan
        >>> plan = make_plan(np.random.default_rng(0).normal(size=(4, 64)), deploy_n=16, estimators=["tea"], m=[8])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = write_plan(plan, folder)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['plan.json', 'plan.md', 'plan.png', 'plan.svg']
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(plan, folder / "plan")
    text = plan_markdown(plan, table=table)
    write_text(folder / "plan.md", text)
    write_text(folder / "plan.json", _json_text(plan, table or {}))
    return text


def plan_markdown(plan: Plan, *, table: Mapping[str, Any] | None = None) -> str:
    """Give a plan as Markdown: the answer, the command, what it depends on, and the numbers.

    Args:
        plan: The plan.
        table: Metadata of the rollout table, for the command.

    Returns:
        Text with aligned tables, readable as it is in a terminal.

    Examples:
        >>> import numpy as np
        >>> from tailgrad.planning import make_plan
        >>> plan = make_plan(np.random.default_rng(0).normal(size=(4, 64)), deploy_n=16, estimators=["tea"], m=[8])
        >>> plan_markdown(plan).startswith("Take `")
        True
    """
    parts = [answer(plan), f"```bash\n{_command(plan, table)}\n```"]
    parts += _trained_on((table or {}).get("dataset") or {})
    parts += [direction_of_the_mean(plan), dependence(plan)]
    if plan.elsewhere:
        parts.append(_elsewhere(plan))
    parts += [
        f"Each estimator at its best m, {plan.rollouts_per_step} rollouts per step, N = {plan.deploy_n}: "
        f"{plan.prompts} prompts, {plan.n:,} responses per prompt [{CONFIDENCE:.0%} interval]",
        _numbers(plan),
        "The expected cosine of a step, by m:",
        _by_m(plan),
        "Per prompt: lower quartile, median and upper quartile over the prompts where it is known",
        _per_prompt(plan),
        level_with(plan),
        *plan.notes,
        _legend(plan),
    ]
    return "\n\n".join(parts) + "\n"


def _legend(plan: Plan) -> str:
    traits = plan.traits
    return (
        "direction: cosine of the expected gradient with that of V_N. signal to noise: squared norm of the expected "
        "gradient over that of a step's noise. cosine: expected cosine of a step with the gradient of V_N; it decides. "
        "difference: to the cosine of what is chosen. ahead of grpo from: rollouts per step from which on its cosine "
        f"is above that of grpo with m = {plan.reference.m}, its best. D: in how many directions a step is noisy; w: "
        "how much a step moves the spread of a prompt's rewards, compared with their mean. "
        f"D = {traits.noise_directions:,.0f} and w = {traits.spread_weight:.2g} come from {traits.source}. Intervals "
        "are over prompts, and take D and w as known; so a single prompt's numbers, which plan.json has, have none. "
        "Noise may put a cosine above 1."
    )


def _trained_on(data: Mapping[str, Any]) -> list[str]:
    """On which prompts the command trains, where the table says its own."""
    if not data.get("name"):
        return []
    split = data.get("split") or "train"
    if split != "train":
        return [f"It trains on the split 'train' of that data set; these rollouts are of its split {split!r}."]
    return ["It trains on the prompts of these rollouts. If you keep them for measuring, name others to train on."]


def _command(plan: Plan, table: Mapping[str, Any] | None) -> str:
    asked: dict[str, Any] = {"deploy_n": plan.deploy_n, "rollouts_per_step": plan.rollouts_per_step, "table": table}
    return train_command(plan.chosen.estimator, plan.chosen.m, **asked)


def _elsewhere(plan: Plan) -> str:
    """A row for each D, a column for each w."""
    weights = sorted({w for _, w in plan.elsewhere})
    ease = {0.0: "w = 0, the spread stays", 1.0: "w = 1, as much as the mean"}
    rows = [["a step moves the spread ...", *(ease.get(w, f"w = {w:g}, assumed above") for w in weights)]]
    for directions in sorted({d for d, _ in plan.elsewhere}):
        named = f"D = {directions:,.0f}" + (", assumed above" if directions == plan.traits.noise_directions else "")
        cells = [plan.elsewhere[directions, w] for w in weights]
        rows.append([named, *(f"{name}, m = {m}" for name, m in cells)])
    return aligned(rows)


def _best(rows: Sequence[PlanRow]) -> list[PlanRow]:
    """Each estimator at its best m, the chosen rows' order kept; where nothing is known its largest m."""
    names = dict.fromkeys(row.estimator for row in rows)
    own = ([row for row in rows if row.estimator == name] for name in names)
    return [max(one, key=lambda row: (row.value.mean[0] == row.value.mean[0], row.value.mean[0])) for one in own]


def _numbers(plan: Plan) -> str:
    rows = [["estimator", "m", "prompts per step", "direction", "signal to noise", "cosine", "difference"]]
    rows[0].append("ahead of grpo from")
    has_measured = any(row.measured_direction is not None for row in plan.rows)
    if has_measured:
        rows[0].append("measured direction")
    for row in sorted(_best(plan.rows), key=lambda row: -row.value.mean[0]):
        cells = [row.estimator, str(row.m), str(row.prompts_per_step), interval_cell(row.direction, 0, 2)]
        cells += [interval_cell(row.signal_to_noise, 0, 3), interval_cell(row.value, 0, 3)]
        cells += [interval_cell(row.difference, 0, 3, sign="+"), _ahead(row)]
        if has_measured:
            cells.append(_measured(plan, row))
        rows.append(cells)
    return aligned(rows)


def _measured(plan: Plan, row: PlanRow) -> str:
    """The measured direction of the estimator, at this m or the nearest one that was measured."""
    own = [one for one in plan.rows if one.estimator == row.estimator and one.measured_direction is not None]
    if not own:
        return ""
    nearest = min(own, key=lambda one: abs(one.m - row.m))
    return f"{nearest.measured_direction:.2f}" + ("" if nearest.m == row.m else f" (m = {nearest.m})")


def _ahead(row: PlanRow) -> str:
    if row.estimator == "grpo":
        return ""
    cell = break_even_cell(row.ahead_from)
    return "every step" if float(row.ahead_from.mean[0]) <= row.m and cell not in ("unclear", "unknown") else cell


def _by_m(plan: Plan) -> str:
    sizes = sorted({row.m for row in plan.rows})
    values = {(row.estimator, row.m): interval_cell(row.value, 0, 3) for row in plan.rows}
    rows = [["estimator", *(f"m = {size}" for size in sizes)]]
    for name in dict.fromkeys(row.estimator for row in plan.rows):
        rows.append([name, *(values.get((name, size), "") for size in sizes)])
    return aligned(rows)


def _per_prompt(plan: Plan) -> str:
    """How the numbers differ from prompt to prompt, each estimator at its best m."""
    rows = [["estimator", "m", "direction", "signal to noise", "prompts"]]
    for row in sorted(_best(plan.rows), key=lambda row: -row.value.mean[0]):
        known = [np.array(own)[np.isfinite(own)] for own in (row.directions, row.signals_to_noise)]
        cells = [
            " / ".join(f"{part:.{digits}f}" for part in _quartiles(own))
            for own, digits in zip(known, (2, 3), strict=True)
        ]
        rows.append([row.estimator, str(row.m), *(cell or "unknown" for cell in cells), str(len(known[0]))])
    return aligned(rows)


def _quartiles(values: np.ndarray) -> np.ndarray:
    return np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else values


def _json_text(plan: Plan, table: Mapping[str, Any]) -> str:
    document = {
        "deploy_n": plan.deploy_n,
        "rollouts_per_step": plan.rollouts_per_step,
        "prompts": plan.prompts,
        "used_prompts": plan.used_prompts,
        "n": plan.n,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "pool": dict(table),
        "chosen": {"estimator": plan.chosen.estimator, "m": plan.chosen.m},
        "command": _command(plan, table),
        "robust": plan.robust if plan.elsewhere else None,
        "noise_directions": plan.traits.noise_directions,
        "spread_weight": plan.traits.spread_weight,
        "source": plan.traits.source,
        "mean_direction": [{"spread_weight": w, **interval_numbers(i, 0)} for w, i in plan.mean_direction.items()],
        "elsewhere": [
            {"noise_directions": d, "spread_weight": w, "estimator": name, "m": m}
            for (d, w), (name, m) in plan.elsewhere.items()
        ],
        "steps": plan.steps,
        "rows": [
            {
                "estimator": row.estimator,
                "m": row.m,
                "prompts_per_step": row.prompts_per_step,
                **{name: interval_numbers(getattr(row, name), 0) for name in _INTERVALS},
                "level": row.level,
                "measured_direction": row.measured_direction,
                "values": row.values,
                "per_prompt": {"direction": row.directions, "signal_to_noise": row.signals_to_noise},
            }
            for row in plan.rows
        ],
        "notes": plan.notes,
    }
    return json.dumps(without_nan(document), indent=2, allow_nan=False) + "\n"

"""The rows that are committed: what was chosen for each contender, its paths of V_N against KL, and the settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from contenders import contenders_of
from selection import KL_BUDGETS, Choice, Trace, at_equal_steps, within_kl
from settings import Setting

from training import schedule_of, trace_path, world_of

BASE = "base"
STEPS = "steps"


def criteria_of(world: str) -> tuple[str, ...]:
    """How contenders are compared in a world: after equally many steps, and within each KL divergence."""
    return (STEPS, *(f"KL {budget:g}" for budget in KL_BUDGETS[world]))


def read_trace(path: Path) -> tuple[Trace, np.ndarray]:
    """What was trained, and V_1 on the report prompts, `[S, C, T, P]`; half of the prompts are for choosing."""
    with np.load(path) as file:
        kl, values = file["kl"].astype(float), file["values"].astype(float)
    half = kl.shape[3] // 2
    choose, report = np.s_[..., :half], np.s_[..., half:]
    v_n = values[..., -1]
    return Trace(kl[choose].mean(3), kl[report].mean(3), v_n[choose], v_n[report]), values[..., 0][report]


def make_rows(settings: list[Setting], traces: Path, out: Path) -> None:
    """Write `chosen.parquet`, `paths.parquet` and `settings.json` from everything that was trained."""
    chosen: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    described: list[dict[str, Any]] = []
    for setting in settings:
        schedule = schedule_of(setting)
        pairs = [(rate, weight) for rate in schedule.learning_rates for weight in schedule.kl_weights]
        for name, (text, scaling) in contenders_of(setting).items():
            path = trace_path(traces, setting, text, scaling)
            if not path.exists():
                continue
            trace, v_1 = read_trace(path)
            if not described or described[-1]["name"] != setting.name:
                described.append(asdict(setting) | world_of(setting).description())
                chosen += _rows(setting, BASE, dict.fromkeys(criteria_of(setting.world), _start(trace)), pairs)
            choices = [at_equal_steps(trace), *(within_kl(trace, budget) for budget in KL_BUDGETS[setting.world])]
            chosen += _rows(setting, name, dict(zip(criteria_of(setting.world), choices, strict=True)), pairs)
            paths += _paths(setting, name, trace, v_1, pairs)
    out.mkdir(parents=True, exist_ok=True)
    for name, rows, schema in (("chosen", chosen, _CHOSEN), ("paths", paths, _PATHS)):
        pq.write_table(pa.Table.from_pylist(rows, schema), out / f"{name}.parquet", **_SMALL)
    (out / "settings.json").write_text(json.dumps(described, indent=1) + "\n")


_SMALL: dict[str, Any] = {"compression": "zstd", "compression_level": 19, "use_dictionary": ["setting", "contender"]}
_SMALL |= {"use_byte_stream_split": ["values.list.element"]}
_VALUES = pa.list_(pa.float32())
_KEYS = [("setting", pa.string()), ("contender", pa.string())]
_PAIR = [("learning_rate", pa.float32()), ("kl_weight", pa.float32())]
_MEASURES = [("kl", pa.float32()), ("on_choosing", pa.float32()), ("seeds", pa.int32()), ("values", _VALUES)]
_CHOSEN = pa.schema([*_KEYS, ("criterion", pa.string()), *_PAIR, *_MEASURES])
_PATHS = pa.schema([*_KEYS, *_PAIR, ("kl", _VALUES), ("v_1", _VALUES), ("v_n", _VALUES)])


def _start(trace: Trace) -> Choice:
    return Choice(0, 0.0, float(trace.v_choose[:, 0, 0].mean()), trace.v_report[:, 0, 0])


def _rows(
    setting: Setting, name: str, choices: dict[str, Choice], pairs: list[tuple[float, float]]
) -> list[dict[str, Any]]:
    return [
        {"setting": setting.name, "contender": name, "criterion": criterion}
        | dict(zip(("learning_rate", "kl_weight"), pairs[choice.pair], strict=True))
        | {"kl": choice.kl, "on_choosing": choice.on_choosing, "seeds": len(choice.values)}
        | {"values": _short(choice.values).ravel()}
        for criterion, choice in choices.items()
    ]


def _paths(
    setting: Setting, name: str, trace: Trace, v_1: np.ndarray, pairs: list[tuple[float, float]]
) -> list[dict[str, Any]]:
    kl, first, best = trace.kl_report.mean(0), v_1.mean((0, 3)), trace.v_report.mean((0, 3))
    return [
        {"setting": setting.name, "contender": name, "learning_rate": rate, "kl_weight": weight}
        | {"kl": _short(kl[pair]), "v_1": _short(first[pair]), "v_n": _short(best[pair])}
        for pair, (rate, weight) in enumerate(pairs)
    ]


def _short(values: np.ndarray) -> np.ndarray:
    """Rounded to the 4,096th part of the power of two above the largest: small files."""
    unit = np.exp2(np.ceil(np.log2(max(np.abs(values).max(), 1e-6))) - 12)
    found: np.ndarray = np.round(values / unit) * unit
    return found

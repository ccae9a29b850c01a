"""`tailgrad quickstart`: fit a tiny policy, post-train it with several estimators, and draw what that bought."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from tailgrad._version import __version__
from tailgrad.curves import Comparison, Rollouts, write_report
from tailgrad.files import expanded, locked, write_json, write_text
from tailgrad.grid.frontier import Points, equal_kl_table, save_frontier, without_start
from tailgrad.identity import model_sha256
from tailgrad.quickstart.config import QuickstartConfig
from tailgrad.quickstart.corpus import MAX_RESPONSE_TOKENS
from tailgrad.quickstart.policy import FIT_STEPS, check_place, is_fitted
from tailgrad.quickstart.task import SPLITS, build_prompts
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.rollouts.read import read_rollouts
from tailgrad.runner import Job, flags, run_side_by_side

VERIFIER: Final = "tailgrad.quickstart.task.verifier"
SAVE_STEPS: Final = 25
SCALING: Final = "group"
"""Of the advantages of all estimators, so that one KL weight and one learning rate mean the same to each."""


def quickstart(config: QuickstartConfig) -> Comparison:
    """Run the quickstart; a second call goes on where an interrupted one stopped.

    Args:
        config: The settings.

    Returns:
        The curves, which are also in `<out>/report`.

    Raises:
        ValueError: `<out>` holds a quickstart with other settings or from another base policy, another one is running
            there, or the folder of the base policy holds something else.
        RuntimeError: A training or sampling command failed; the message shows the end of its log.
    """
    with locked(expanded(config.out) / "quickstart.lock", f"the quickstart in {config.out!r}"):
        return _quickstart(config)


def _quickstart(config: QuickstartConfig) -> Comparison:
    out = expanded(config.out)
    _claim(out, _settings(config))
    print("1/4  The task: prompts, verifier, and a base policy fitted to its reference corpus", flush=True)
    prompts = {split: _write_prompts(out, split) for split in ("train", config.dataset_split)}
    base = expanded(config.base) if config.base else out / "base"
    run_side_by_side(_fitting_jobs(out, base), processes=1)
    _claim(out, _settings(config) | {"base_sha256": model_sha256(base)})
    trained = [(estimator, seed) for seed in config.seeds for estimator in config.estimators]
    print(
        f"2/4  Training, m = {config.num_generations} rollouts per prompt, for best-of-{config.deploy_n}",
        flush=True,
    )
    run_side_by_side(_training_jobs(out, base, prompts["train"], trained, config), processes=config.processes)
    print(f"3/4  Sampling {config.n} responses to each of {SPLITS[config.dataset_split]} held-out prompts", flush=True)
    models = {"base": base} | {_label(*run): out / "models" / _label(*run) for run in trained}
    on_the_way = {
        _label(*run, step): out / "models" / _label(*run) / f"checkpoint-{step}"
        for run in trained
        for step in _measured_steps(config)
    }
    jobs = partial(_sampling_jobs, out, prompts=prompts[config.dataset_split], base=base, config=config)
    sampling = [*jobs(models, n=config.n), *jobs(on_the_way, n=min(config.n, config.deploy_n))]
    run_side_by_side(sampling, processes=config.processes)
    print("4/4  Curves", flush=True)
    named = [*models, *on_the_way]
    runs = {label: read_rollouts(_table_path(out, label), name=label.split("-seed")[0]) for label in named}
    comparison = write_report(
        [runs[label] for label in models],
        out / "report",
        m=config.num_generations,
        deploy_n=config.deploy_n,
    )
    print((out / "report" / "curve.md").read_text())
    if on_the_way:
        print(_at_equal_kl(runs, config, out / "report" / "frontier"))
    last = runs[_label(config.estimators[-1], config.seeds[0])]
    print(show_examples(runs["base"], last, config.estimators[-1], config.deploy_n))
    print(f"Figures, table and JSON: {out / 'report'}{os.sep}{{curve,frontier}}.{{png,svg}}, curve.{{md,json}}")
    return comparison


def _at_equal_kl(runs: dict[str, Rollouts], config: QuickstartConfig, stem: Path) -> str:
    """Draw V_N against KL along training, and give its table at equal KL: methods move at different speeds."""
    budget = min(config.deploy_n, config.n)

    def path(estimator: str, seed: int) -> list[tuple[float, np.ndarray]]:
        steps = [_label(estimator, seed, step) for step in _measured_steps(config)]
        members = (runs[label] for label in ("base", *steps, _label(estimator, seed)))
        return [(float(np.mean(np.asarray(run.kl))), run.best_of_n([budget])[:, 0]) for run in members]

    points: dict[str, Points] = {}
    for estimator in config.estimators:
        paths = [path(estimator, seed) for seed in config.seeds]
        kl = np.array([[moved for moved, _ in steps] for steps in paths])
        points[estimator] = kl, np.stack([np.stack([v_n for _, v_n in steps], axis=1) for steps in paths])
    save_frontier({"Held-out prompts, along training": points}, stem, budget=budget, reference=config.estimators[0])
    table = equal_kl_table(without_start(points), budget=budget, reference=config.estimators[0])
    first = _measured_steps(config)[0]
    text = f"V_{budget} at equal KL (nats per response), from step {first} of {config.max_steps} on\n\n{table}\n"
    write_text(stem.with_suffix(".md"), text)
    return text


def show_examples(base: Rollouts, trained: Rollouts, name: str, deploy_n: int) -> str:
    """Return three prompts of different kinds, each with its best of N before and after training."""
    lines, kinds = [f"Best of the first {deploy_n} responses, before and after:"], set[str]()
    for i, prompt in enumerate(base.known("prompts")):
        kind = prompt.split()[0]
        if kind in kinds or len(kinds) == 3:
            continue
        kinds.add(kind)
        lines.append(f"\n  {prompt}")
        for label, table in (("base", base), (name, trained)):
            best = int(table.rewards[i, :deploy_n].argmax())
            lines.append(f"    {label:<5} {table.rewards[i, best]:5.2f}  {table.known('responses')[i][best]}")
    return "\n".join(lines) + "\n"


def _label(estimator: str, seed: int, step: int | None = None) -> str:
    return f"{estimator}-seed{seed}" + ("" if step is None else f"-step{step}")


def _measured_steps(config: QuickstartConfig) -> list[int]:
    """The steps before the last after which policies are measured: a quarter and a half of all.

    GRPO is beyond the KL that TEA ends with before half of its steps are taken.
    """
    return sorted({config.max_steps // 4, config.max_steps // 2} - {0})


def _table_path(out: Path, label: str) -> Path:
    return out / "rollouts" / f"{label}.parquet"


def _settings(config: QuickstartConfig) -> dict[str, Any]:
    """What all trainings in one folder share."""
    settings = {
        "tailgrad_version": __version__,
        "advantage_scaling": SCALING,
        "measured_steps": _measured_steps(config),
        **asdict(config),
    }
    for free in ("out", "base", "estimators", "seeds", "processes"):
        del settings[free]
    return settings


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix two settings or base policies in one folder; more seeds or estimators may be added."""
    record = out / "quickstart.json"
    there = json.loads(record.read_text()) if record.is_file() else settings
    known = [name for name in settings if name in there or name != "base_sha256"]  # which is added after the fit
    if other := [name for name in known if there.get(name) != settings[name]]:
        what = "from another base policy" if other == ["base_sha256"] else f"with other settings ({', '.join(other)})"
        raise ValueError(
            f"{out} holds a quickstart {what} (see {record}). Give another --out, go on as it was begun, or delete the "
            "folder."
        )
    write_json(record, there | settings)


def _write_prompts(out: Path, split: str) -> Path:
    path = out / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in build_prompts(split)))
    return path


def _fitting_jobs(out: Path, base: Path) -> list[Job]:
    if is_fitted(base):
        return []
    check_place(base)
    log = out / "logs" / "fit-base.log"
    return [Job("base policy", [str(base)], log, FIT_STEPS, "tailgrad.quickstart.policy")]


def _training_jobs(
    out: Path, base: Path, prompts: Path, runs: list[tuple[str, int]], config: QuickstartConfig
) -> list[Job]:
    jobs = []
    for estimator, seed in runs:
        folder = out / "models" / _label(estimator, seed)
        if (folder / TRAINING_RECORD).is_file():  # the last file that is written of a policy
            continue
        options = {
            "model_name_or_path": base,
            "dataset_name": prompts,
            "reward_funcs": VERIFIER,
            "output_dir": folder,
            "estimator": estimator,
            "deploy_n": config.deploy_n,
            "num_generations": config.num_generations,
            "advantage_scaling": SCALING,
            "beta": config.beta,
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 5,
            "max_steps": config.max_steps,
            "per_device_train_batch_size": config.prompts_per_step * config.num_generations,
            "max_completion_length": MAX_RESPONSE_TOKENS,
            "seed": seed,
            "logging_steps": 1,
            "save_steps": SAVE_STEPS,
            "save_at_steps": _measured_steps(config) or None,
            "resume_from_checkpoint": "last",
            "report_to": "none",
            "use_cpu": "true",
            "bf16": "false",
            "gradient_checkpointing": "false",
            "disable_tqdm": "true",
        }
        argv = ["train", *flags(options)]
        log = out / "logs" / f"train-{folder.name}.log"
        jobs.append(Job(folder.name, argv, log, config.max_steps))
    return jobs


def _sampling_jobs(
    out: Path, models: dict[str, Path], *, prompts: Path, base: Path, config: QuickstartConfig, n: int
) -> list[Job]:
    jobs = []
    for label, model in models.items():
        table = _table_path(out, label)
        if table.is_file():
            continue
        options = {
            "model_name_or_path": model,
            "dataset_name": prompts,
            "reward_funcs": VERIFIER,
            "reference_model": base,
            "n": n,
            "max_completion_length": MAX_RESPONSE_TOKENS,
            "batch_size": 512,
            "out": table,
        }
        argv = ["sample", *flags(options)]
        log = out / "logs" / f"sample-{label}.log"
        jobs.append(Job(label, argv, log, SPLITS[config.dataset_split]))
    return jobs

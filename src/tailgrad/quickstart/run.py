"""`tailgrad quickstart`: fit a tiny policy, post-train it with GRPO and TEA side by side, and draw what it bought."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tailgrad._version import __version__
from tailgrad.evaluation import Comparison, Run, write_report
from tailgrad.jobs import Job, flags, run_side_by_side
from tailgrad.quickstart.corpus import MAX_RESPONSE_TOKENS
from tailgrad.quickstart.policy import FIT_STEPS, is_fitted
from tailgrad.quickstart.task import SPLITS, build_prompts
from tailgrad.rollouts.table import RolloutTable, read_table

VERIFIER: Final = "tailgrad.quickstart.task.verifier"
SAVE_STEPS: Final = 25


@dataclass(frozen=True)
class QuickstartConfig:
    """Settings of the quickstart; all estimators train with the same ones.

    Attributes:
        out: Folder of models, rollout tables and report.
        base: Folder of the base policy, which is fitted there if it is not there; None is `<out>/base`.
        estimators: Names of the estimators to train with.
        seeds: Training seeds; each estimator is trained once with each.
        steps: Optimisation steps.
        prompts_a_step: Prompts in one step, each with `num_generations` rollouts.
        num_generations: m.
        deploy_n: N.
        learning_rate: Adam's learning rate, constant after a short warm-up.
        beta: KL weight.
        n: Responses a held-out prompt for the curves.
        split: Held-out prompts: `test`, or `validation` for choosing settings.
        processes: How many trainings run side by side.
    """

    out: str = "tailgrad-quickstart"
    base: str | None = None
    estimators: tuple[str, ...] = ("grpo", "tea")
    seeds: tuple[int, ...] = (0,)
    steps: int = 100
    prompts_a_step: int = 8
    num_generations: int = 16
    deploy_n: int = 128
    learning_rate: float = 3e-4
    beta: float = 0.02
    n: int = 256
    split: str = "test"
    processes: int = 2


def quickstart(config: QuickstartConfig) -> Comparison:
    """Run the quickstart; a second call goes on where an interrupted one stopped.

    Args:
        config: The settings.

    Returns:
        The curves, which are also in `<out>/report`.

    Raises:
        ValueError: `<out>` holds a quickstart with other settings.
        RuntimeError: A training or sampling command failed; the message shows the end of its log.
    """
    out = Path(config.out)
    _claim(out, config)
    print("1/4  The task: prompts, verifier, and a base policy fitted to its reference corpus", flush=True)
    prompts = {split: _write_prompts(out, split) for split in ("train", config.split)}
    base = Path(config.base) if config.base else out / "base"
    run_side_by_side(_fitting_jobs(out, base), processes=1)
    runs = [(estimator, seed) for seed in config.seeds for estimator in config.estimators]
    print(
        f"2/4  Training, m = {config.num_generations} rollouts a prompt, for best-of-{config.deploy_n}",
        flush=True,
    )
    run_side_by_side(_training_jobs(out, base, prompts["train"], runs, config), processes=config.processes)
    print(f"3/4  Sampling {config.n} responses to each of {SPLITS[config.split]} held-out prompts", flush=True)
    models = {"base": base} | {_label(*run): out / "models" / _label(*run) for run in runs}
    run_side_by_side(_sampling_jobs(out, models, prompts[config.split], base, config), processes=config.processes)
    print("4/4  Curves", flush=True)
    tables = {label: read_table(_table_path(out, label)) for label in models}
    comparison = write_report(
        [Run.from_table(label.split("-seed")[0], table) for label, table in tables.items()],
        out / "report",
        m=config.num_generations,
        deploy_n=config.deploy_n,
    )
    print((out / "report" / "curve.md").read_text())
    trained = tables[_label(config.estimators[-1], config.seeds[0])]
    print(show_examples(tables["base"], trained, config.estimators[-1], config.deploy_n))
    print(f"Figure, table and JSON: {out / 'report' / 'curve'}.{{png,svg,md,json}}")
    return comparison


def show_examples(base: RolloutTable, trained: RolloutTable, name: str, deploy_n: int) -> str:
    """Return three prompts of different kinds, each with its best of N before and after training."""
    lines, kinds = [f"Best of the first {deploy_n} responses, before and after:"], set[str]()
    for i, prompt in enumerate(base.prompts):
        kind = prompt.split()[0]
        if kind in kinds or len(kinds) == 3:
            continue
        kinds.add(kind)
        lines.append(f"\n  {prompt}")
        for label, table in (("base", base), (name, trained)):
            best = int(table.rewards[i, :deploy_n].argmax())
            lines.append(f"    {label:<5} {table.rewards[i, best]:5.2f}  {table.responses[i][best]}")
    return "\n".join(lines) + "\n"


def _label(estimator: str, seed: int) -> str:
    return f"{estimator}-seed{seed}"


def _table_path(out: Path, label: str) -> Path:
    return out / "rollouts" / f"{label}.parquet"


def _claim(out: Path, config: QuickstartConfig) -> None:
    """Refuse to mix two settings in one folder; more seeds or estimators may be added."""
    record = out / "quickstart.json"
    settings = {"tailgrad_version": __version__, **asdict(config)}
    for free in ("out", "base", "estimators", "seeds", "processes"):
        del settings[free]
    if record.is_file() and json.loads(record.read_text()) != settings:
        raise ValueError(
            f"{out} holds a quickstart with other settings (see {record}). Give another --out, or delete the folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(settings, indent=2) + "\n")


def _write_prompts(out: Path, split: str) -> Path:
    path = out / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in build_prompts(split)))
    return path


def _fitting_jobs(out: Path, base: Path) -> list[Job]:
    if is_fitted(base):
        return []
    log = out / "logs" / "fit-base.log"
    return [Job("base policy", [str(base)], log, FIT_STEPS, "tailgrad.quickstart.policy")]


def _training_jobs(
    out: Path, base: Path, prompts: Path, runs: list[tuple[str, int]], config: QuickstartConfig
) -> list[Job]:
    jobs = []
    for estimator, seed in runs:
        folder = out / "models" / _label(estimator, seed)
        if (folder / "model.safetensors").is_file():
            continue
        options = {
            "model_name_or_path": base,
            "dataset_name": prompts,
            "reward_funcs": VERIFIER,
            "output_dir": folder,
            "estimator": estimator,
            "deploy_n": config.deploy_n,
            "num_generations": config.num_generations,
            "advantage_scaling": "batch",
            "beta": config.beta,
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 5,
            "max_steps": config.steps,
            "per_device_train_batch_size": config.prompts_a_step * config.num_generations,
            "max_completion_length": MAX_RESPONSE_TOKENS,
            "seed": seed,
            "logging_steps": 1,
            "save_steps": SAVE_STEPS,
            "save_total_limit": 2,
            "resume_from_checkpoint": "last",
            "report_to": "none",
            "use_cpu": "true",
            "bf16": "false",
            "gradient_checkpointing": "false",
            "disable_tqdm": "true",
        }
        argv = ["train", *flags(options)]
        log = out / "logs" / f"train-{folder.name}.log"
        jobs.append(Job(folder.name, argv, log, config.steps))
    return jobs


def _sampling_jobs(
    out: Path, models: dict[str, Path], prompts: Path, base: Path, config: QuickstartConfig
) -> list[Job]:
    jobs = []
    for label, model in models.items():
        table = _table_path(out, label)
        if table.is_file():
            continue
        options = {
            "model": model,
            "dataset": prompts,
            "reward": VERIFIER,
            "reference_model": base,
            "n": config.n,
            "max_new_tokens": MAX_RESPONSE_TOKENS,
            "batch_size": 512,
            "out": table,
        }
        argv = ["sample", *flags(options)]
        log = out / "logs" / f"sample-{label}.log"
        jobs.append(Job(label, argv, log, SPLITS[config.split]))
    return jobs

"""`tailgrad fidelity`: estimators' gradients from m rollouts against the gradient of V_N from a large pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailgrad.cli.tables import open_of_one_reward
from tailgrad.files import expanded
from tailgrad.options import OptionParser, check_least, option

HELP: Final = "measure, before training, how well each estimator's gradient points along that of V_N"
EXTRA: Final = "sample"


@dataclass(frozen=True)
class FidelityOptions:
    """The options of `tailgrad fidelity`."""

    table: str = option(
        text="rollout table with the pool of responses, such as 32 prompts with 4096 responses each",
        positional=True,
        metavar="TABLE",
    )
    model_name_or_path: str = option(text="the policy that sampled the table: hub name or local folder")
    out: str = option(text="folder for the report, and for the gradients where --gradients names none")
    gradients: str | None = option(
        None,
        "folder of the gradients; tables with the same responses and other rewards may share it (default: "
        "OUT/gradients)",
        metavar="DIR",
    )
    estimators: tuple[str, ...] = option(
        ("flat_tea", "tea", "prefix_tea", "cvar", "dr_grpo", "grpo"),
        "estimators, with their options after a colon: max_at_k:k=4",
        metavar="NAME[:OPTION=VALUE,...]",
    )
    num_generations: tuple[int, ...] = option((16,), "m: rollouts per prompt in training")
    deploy_n: tuple[int, ...] = option(
        (128,), "N: responses per prompt at deployment, at most half of those in the pool"
    )
    parameters: str | None = option(
        None,
        "what the gradients are taken with respect to: lora (matrix B of a fresh adapter, as LoRA training begins), "
        "last:N (the last N blocks) or all (default: all up to 20 million parameters, else lora)",
        metavar="lora|last:N|all",
    )
    lora_r: int | None = option(None, "rank of the adapter of --parameters lora (default 16)")
    lora_target_modules: tuple[str, ...] | None = option(
        None, "its layers: q_proj v_proj ..., or all-linear (default: PEFT's for the type of model, as in training)"
    )
    dtype: str = option(
        "float32", "precision of the policy; gradients are summed up in float32", choices=("float32", "bfloat16")
    )
    dim: int = option(4096, "length of the sketch that stands for each gradient")
    batch_size: int = option(32, "responses differentiated at once; fewer where memory demands it")
    model_revision: str | None = option(None, "revision of the policy on the hub")
    device: str | None = option(None, "cpu, cuda, cuda:1, ... (default: the GPU, if there is one)")
    seed: int = option(0, "seed of the sketch, the adapter and the bootstrap (default 0)")


def make_parser() -> OptionParser[FidelityOptions]:
    """The command's parser."""
    description = (
        "Compare each estimator's gradient from m rollouts per prompt with the gradient of V_N, the expected reward of "
        "the best of N. Both come from one large pool of responses of the same policy. Reports direction, norm and "
        "signal to noise. Writes fidelity.png, fidelity.svg, fidelity.md and fidelity.json, and keeps the gradients. "
        "If it is interrupted, the same command goes on."
    )
    return OptionParser("fidelity", description, FidelityOptions)


def run(words: Sequence[str]) -> None:
    """Compute what is missing of the gradients, write the report and print its table."""
    options = make_parser().read(words)
    check_least(0, seed=options.seed)
    from tailgrad.fidelity import check_fidelity, gradient_fidelity, write_fidelity
    from tailgrad.fidelity.gradient_config import GradientConfig, complete, described
    from tailgrad.fidelity.gradient_store import sketch_gradients

    table, out = open_of_one_reward("fidelity", options.table), expanded(options.out)
    estimators, m, deploy_n = options.estimators, options.num_generations, options.deploy_n
    check_fidelity(table.rewards, estimators=estimators, m=m, deploy_n=deploy_n)
    given = {name: value for name, value in vars(options).items() if name in GradientConfig.__dataclass_fields__}
    asked = GradientConfig(**given | {"out": options.gradients or out / "gradients"})
    config = complete(asked)
    note = described(config, asked)
    print(note, end="\n\n", flush=True)
    gradients = sketch_gradients(config)
    fidelity = gradient_fidelity(
        table.rewards, gradients, estimators=estimators, m=m, deploy_n=deploy_n, seed=options.seed
    )
    pool = {**table.metadata, "sketch_dim": options.dim, "gradients": config.settings}
    print(write_fidelity(fidelity, out, pool=pool, note=note), end="")
    print(f"\nFigure, table and JSON: {out / 'fidelity'}.{{png,svg,md,json}}")

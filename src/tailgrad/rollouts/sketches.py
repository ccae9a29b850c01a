"""Sketched gradients of all responses of a rollout table, computed in shards that are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tailgrad._version import __version__
from tailgrad.evaluation.sampling import beyond_temperature
from tailgrad.events import progress_bar
from tailgrad.files import replacing
from tailgrad.identity import file_sha256, model_sha256
from tailgrad.rollouts.generate import load_policy
from tailgrad.rollouts.gradients import CountSketch, gradient_sketches
from tailgrad.rollouts.prompts import prompts_of_texts, tokenize_prompts
from tailgrad.rollouts.shards import check_same_run
from tailgrad.rollouts.table import RolloutTable, read_table

_SHARD = 256
"""Responses of a shard: what an interruption loses at most."""

_SETTINGS = "gradients.json"
_TOLERANCE, _LOW_PRECISION_TOLERANCE = 1e-3, 0.05
"""How far log-probabilities may be from those of the table, in nats a token: sampled in float32, or in less."""


@dataclass(frozen=True)
class GradientConfig:
    """What `sketch_gradients` needs to know.

    Attributes:
        table: A rollout table with token ids, sampled with top_p 1 and top_k 0.
        model: The policy that sampled it: hub name or local folder.
        out: Folder of the sketches; those that are there are kept.
        dim: Length of a sketch.
        batch_size: Responses differentiated at once; fewer where the policy is large.
        seed: Seed of the sketch.
        revision: Revision of the policy on the hub.
        device: A torch device name; None is the GPU where there is one, else the CPU.
    """

    table: str | Path
    model: str
    out: str | Path
    dim: int = 4096
    batch_size: int = 32
    seed: int = 0
    revision: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")


@dataclass(frozen=True)
class SketchedGradients:
    """The sketched gradients of P prompts with n responses each, on disk; `gradients[p]` is `[n, D]`.

    Attributes:
        folder: Where the shards are.
        prompts: P.
        n: Responses a prompt.
    """

    folder: Path
    prompts: int
    n: int

    def __len__(self) -> int:
        return self.prompts

    def __getitem__(self, prompt: int) -> Float[np.ndarray, "n D"]:
        if not 0 <= prompt < self.prompts:
            raise IndexError(f"prompt {prompt} of {self.prompts}")
        return np.concatenate([np.load(self.shard(prompt, start)) for start in self.starts])

    @property
    def starts(self) -> range:
        """First response of each shard of a prompt."""
        return range(0, self.n, _SHARD)

    def shard(self, prompt: int, start: int) -> Path:
        """The file of the shard of a prompt's responses from `start` on."""
        return self.folder / f"prompt-{prompt:05d}-{start:06d}.npy"


def sketch_gradients(config: GradientConfig) -> SketchedGradients:
    """Differentiate the log-probability of every response of a table, and keep sketches of the gradients.

    Shards appear complete or not at all; an interrupted run goes on from them, and a finished one is not repeated.
    Every response's log-probability is compared with that in the table, so that the gradients are those of
    the policy that sampled it.

    Args:
        config: What to differentiate.

    Returns:
        The sketches, prompts and responses in the order of `read_table`.

    Raises:
        FileNotFoundError: The table or the policy does not exist.
        ValueError: The table has no token ids or was sampled with top_p or top_k, it was sampled by another
            policy, or the folder holds gradients made with other settings.
    """
    table = read_table(config.table)
    _check_table(table, config)
    sketches = SketchedGradients(Path(config.out), *table.rewards.shape)
    _check_settings(sketches.folder, config)
    parts = [(prompt, start) for prompt in range(sketches.prompts) for start in sketches.starts]
    missing = [part for part in parts if not sketches.shard(*part).exists()]
    differentiator = _Differentiator(config, table)
    with progress_bar(len(parts), done=len(parts) - len(missing), name="gradients", unit="shard") as move:
        for part in missing:
            gradients = differentiator.shard(*part)
            with replacing(sketches.shard(*part)) as unfinished, unfinished.open("wb") as file:
                np.save(file, gradients)
            move(1)
    return sketches


@dataclass(frozen=True)
class _Differentiator:
    """Makes shards; the policy is loaded for the first one."""

    config: GradientConfig
    table: RolloutTable

    @cached_property
    def policy(self) -> tuple[Any, CountSketch, list[list[int]]]:
        """The policy, the sketch, and the tokens of the prompts."""
        config = self.config
        model, tokenizer = load_policy(config.model, revision=config.revision, device=config.device)
        model.set_attn_implementation("eager")
        sketch = CountSketch(dict(model.named_parameters()), dim=config.dim, seed=config.seed)
        prompts = prompts_of_texts(self.table.prompts)
        return model, sketch, tokenize_prompts(tokenizer, prompts, self.table.metadata.get("chat_template_kwargs"))

    def shard(self, prompt: int, start: int) -> Float[np.ndarray, "b D"]:
        """The sketches of some responses to one prompt."""
        model, sketch, prompt_token_ids = self.policy
        assert self.table.token_ids is not None  # _check_table has seen to it
        responses = [ids.tolist() for ids in self.table.token_ids[prompt, start : start + _SHARD]]
        gradients, logprobs = gradient_sketches(
            model,
            sketch,
            [prompt_token_ids[prompt]] * len(responses),
            responses,
            temperature=self.table.metadata["sampling"]["temperature"],
            batch_size=self.config.batch_size,
        )
        recorded = self.table.logprobs[prompt, start : start + _SHARD]
        self._check_policy(prompt, start, (logprobs - recorded) / [len(ids) for ids in responses])
        return gradients

    def _check_policy(self, prompt: int, start: int, difference: Float[np.ndarray, " b"]) -> None:
        sampled_in = self.table.metadata.get("dtype", "float32")
        allowed = _TOLERANCE if sampled_in == "float32" else _LOW_PRECISION_TOLERANCE
        worst = int(np.abs(difference).argmax())
        if not np.abs(difference[worst]) <= allowed:
            raise ValueError(
                f"model {self.config.model!r} is not the policy that sampled {str(self.config.table)!r}: response "
                f"{start + worst} of prompt {self.table.prompt_ids[prompt]} has another log-probability there, by "
                f"{difference[worst]:+.3g} nats a token. Give the policy that the table was sampled from "
                f"({self.table.metadata.get('model')!r})."
            )


def _check_table(table: RolloutTable, config: GradientConfig) -> None:
    name = f"rollout table {str(config.table)!r}"
    if table.token_ids is None:
        raise ValueError(f"{name} has no token_ids: sample it again with this version of `tailgrad sample`.")
    sampling = table.metadata.get("sampling", {})
    if "temperature" not in sampling:
        raise ValueError(f"{name} does not say at which temperature it was sampled; `tailgrad sample` records it.")
    if others := beyond_temperature(sampling):
        shown = ", ".join(f"{key} {value}" for key, value in others.items())
        raise ValueError(
            f"{name} was sampled with {shown}: its responses are not those of the policy that is differentiated. "
            "Sample with that off; `tailgrad sample --help` says how."
        )


def _check_settings(folder: Path, config: GradientConfig) -> None:
    """Write down what the gradients are made from, or compare with what is written there."""
    local_files = model_sha256(config.model)
    settings = {
        "table": file_sha256(config.table),
        "model": config.model if local_files is None else None,
        "model_files": local_files,
        "revision": config.revision,
        "dim": config.dim,
        "seed": config.seed,
        "tailgrad_version": __version__,
    }
    path = folder / _SETTINGS
    if path.exists():
        check_same_run(folder, json.loads(path.read_text()), settings)
        return
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(settings, indent=2) + "\n")

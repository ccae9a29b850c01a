"""Sketched gradients of all responses of a rollout table, computed in shards that are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tailgrad._version import __version__
from tailgrad.curves.rollouts import Rollouts
from tailgrad.curves.sampling import beyond_temperature
from tailgrad.events import progress_bar
from tailgrad.fidelity.count_sketch import CountSketch, gradient_sketches
from tailgrad.files import locked, remove_unfinished, replacing
from tailgrad.identity import file_sha256, model_sha256
from tailgrad.models.loading import load_policy
from tailgrad.models.token_ids import check_fit
from tailgrad.rollouts.chats import prompts_of_texts
from tailgrad.rollouts.parts import check_same_settings
from tailgrad.rollouts.prompts import tokenize_prompts
from tailgrad.rollouts.read import read_rollouts
from tailgrad.rollouts.same_policy import PolicyCheck, check_policy

_SHARD = 256
"""Responses of a shard: what an interruption loses at most."""

_SETTINGS, _LOCK = "gradients.json", "lock"


@dataclass(frozen=True)
class GradientConfig:
    """What `sketch_gradients` needs to know.

    Attributes:
        table: A rollout table with token ids, sampled with top_p 1 and top_k 0.
        model_name_or_path: The policy that sampled it: hub name or local folder.
        out: Folder of the sketches; those that are there are kept.
        dim: Length of a sketch.
        batch_size: Responses differentiated at once; fewer where the policy is large.
        seed: Seed of the sketch.
        model_revision: Revision of the policy on the hub.
        device: A torch device name; None is the GPU where there is one, else the CPU.
    """

    table: str | Path
    model_name_or_path: str
    out: str | Path
    dim: int = 4096
    batch_size: int = 32
    seed: int = 0
    model_revision: str | None = None
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
        n: Responses per prompt.
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

    def has(self, prompt: int, start: int, dim: int) -> bool:
        """Whether that file is there and whole."""
        try:
            array = np.lib.format.open_memmap(self.shard(prompt, start), mode="r")
        except (OSError, ValueError):
            return False
        return array.shape == (min(_SHARD, self.n - start), dim) and array.dtype == np.float32


def sketch_gradients(config: GradientConfig) -> SketchedGradients:
    """Differentiate the log-probability of every response of a table, and keep sketches of the gradients.

    Shards appear complete or not at all; an interrupted run goes on from them, and a finished one is not repeated. A
    shard that is damaged is made anew. Log-probabilities are compared with those in the table, of a few responses to
    all prompts at first and then of every one, so that the gradients are those of the policy that sampled it.

    Args:
        config: What to differentiate.

    Returns:
        The sketches, prompts and responses in the order of `read_rollouts`.

    Raises:
        FileNotFoundError: The table or the policy does not exist.
        ValueError: The table has no token ids or was sampled with top_p or top_k, it was sampled by another
            policy, or the folder holds gradients made with other settings or is being written.
    """
    table = read_rollouts(config.table)
    _check_table(table, config)
    sketches = SketchedGradients(Path(config.out).expanduser(), *table.rewards.shape)
    with locked(sketches.folder / _LOCK, repr(str(sketches.folder))):
        remove_unfinished(sketches.folder)
        settings = _settings(config)
        record = sketches.folder / _SETTINGS
        if record.exists():
            check_same_settings(sketches.folder, _written(record), settings)
        _make_missing(sketches, config, table, settings)
    return sketches


def _make_missing(
    sketches: SketchedGradients, config: GradientConfig, table: Rollouts, settings: dict[str, Any]
) -> None:
    parts = [(prompt, start) for prompt in range(sketches.prompts) for start in sketches.starts]
    missing = [part for part in parts if not sketches.has(*part, config.dim)]
    if not missing:
        return
    differentiator = _differentiator(config, table)
    with replacing(sketches.folder / _SETTINGS) as unfinished:
        unfinished.write_text(json.dumps(settings, indent=2) + "\n")
    with progress_bar(len(parts), done=len(parts) - len(missing), name="gradients", unit="shard") as move:
        for part in missing:
            gradients = differentiator.shard(*part)
            with replacing(sketches.shard(*part)) as unfinished, unfinished.open("wb") as file:
                np.save(file, gradients)
            move(1)


@dataclass(frozen=True)
class _Differentiator:
    """Makes shards."""

    config: GradientConfig
    table: Rollouts
    model: Any
    sketch: CountSketch
    prompt_token_ids: Sequence[list[int]]
    policy: PolicyCheck

    def shard(self, prompt: int, start: int) -> Float[np.ndarray, "b D"]:
        """The sketches of some responses to one prompt."""
        responses = [ids.tolist() for ids in self.table.known("token_ids")[prompt, start : start + _SHARD]]
        gradients, logprobs = gradient_sketches(
            self.model,
            self.sketch,
            [self.prompt_token_ids[prompt]] * len(responses),
            responses,
            temperature=self.table.metadata["sampling"]["temperature"],
            batch_size=self.config.batch_size,
        )
        recorded = self.table.known("logprobs")[prompt, start : start + _SHARD]
        self.policy.check(logprobs - recorded, np.array([len(ids) for ids in responses]), one_prompt=True)
        return gradients


def _differentiator(config: GradientConfig, table: Rollouts) -> _Differentiator:
    """Load the policy and see that it is the one that sampled the table."""
    options: dict[str, Any] = {"revision": config.model_revision, "device": config.device}
    model, tokenizer = load_policy(config.model_name_or_path, **options)
    model.set_attn_implementation("eager")
    prompts, template_kwargs = prompts_of_texts(table.known("prompts")), table.metadata.get("chat_template_kwargs")
    source = f"rollout table {str(config.table)!r}"
    prompt_token_ids = tokenize_prompts(tokenizer, prompts, template_kwargs, source=source)
    check_fit(prompt_token_ids, tokenizer, model.config, model=config.model_name_or_path, source=source)
    names = (config.model_name_or_path, str(config.table))
    policy = check_policy(model, prompt_token_ids, table, names=names, options=options, batch_size=config.batch_size)
    sketch = CountSketch(dict(model.named_parameters()), dim=config.dim, seed=config.seed)
    return _Differentiator(config, table, model, sketch, prompt_token_ids, policy)


def _check_table(table: Rollouts, config: GradientConfig) -> None:
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


def _settings(config: GradientConfig) -> dict[str, Any]:
    """What the gradients are made from."""
    return {
        "table": file_sha256(config.table),
        "model": config.model_name_or_path,
        "model_files": model_sha256(config.model_name_or_path),
        "revision": config.model_revision,
        "dim": config.dim,
        "seed": config.seed,
        "tailgrad_version": __version__,
    }


def _written(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}). Delete its folder, or choose another --out.") from error

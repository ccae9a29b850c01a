"""Sketched gradients of all responses of a rollout table, computed in shards that are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tailgrad._version import __version__
from tailgrad.curves.rollouts import Rollouts
from tailgrad.curves.sampling import beyond_temperature
from tailgrad.events import progress_bar
from tailgrad.fidelity.count_sketch import CountSketch, gradient_sketches
from tailgrad.fidelity.gradient_config import GradientConfig, complete
from tailgrad.fidelity.lora import fresh_adapter, lora_sketches
from tailgrad.fidelity.parameters import ALL, LORA, parameter_names
from tailgrad.files import expanded, locked, remove_unfinished, replacing, write_json
from tailgrad.identity import model_sha256
from tailgrad.models.loading import load_policy
from tailgrad.models.token_ids import check_fit
from tailgrad.rollouts.chats import prompts_of_texts
from tailgrad.rollouts.prompts import tokenize_prompts
from tailgrad.rollouts.read import read_rollouts
from tailgrad.rollouts.same_policy import PolicyCheck, check_policy
from tailgrad.rollouts.same_settings import check_same_settings

__all__ = ["GradientConfig", "SketchedGradients", "sketch_gradients"]

_SHARD = 256
"""Responses of a shard: what an interruption loses at most."""

_SETTINGS, _LOCK = "gradients.json", "lock"

_MARK = hashlib.sha256().digest_size  # bytes
_NAMES = ("model", "revision")
"""Settings that are but names where a hash stands beside them."""

_VERSION = "tailgrad_version"
"""Recorded for a reader; no version changed what a gradient is."""

_BEFORE = {"parameters": ALL, "dtype": "float32"}
"""What gradients were before these could be chosen."""


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
        return np.concatenate([np.load(self.shard(prompt, start), allow_pickle=False) for start in self.starts])

    @property
    def starts(self) -> range:
        """First response of each shard of a prompt."""
        return range(0, self.n, _SHARD)

    def shard(self, prompt: int, start: int) -> Path:
        """The file of the shard of a prompt's responses from `start` on."""
        return self.folder / f"prompt-{prompt:05d}-{start:06d}.npy"

    def has(self, prompt: int, start: int, dim: int, made_from: bytes) -> bool:
        """Whether that file is there and whole, and was made from these settings."""
        path = self.shard(prompt, start)
        try:
            array = np.load(path, allow_pickle=False)
            mark = path.read_bytes()[-_MARK:]
        except (OSError, ValueError, EOFError):
            return False
        shape = (self.size(start), dim)
        return array.shape == shape and array.dtype == np.float32 and mark == _mark(array, path, made_from)

    def write(self, prompt: int, start: int, gradients: Float[np.ndarray, "b D"], made_from: bytes) -> None:
        """Write that file; it ends in a mark of what it holds and was made from."""
        path = self.shard(prompt, start)
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.save(file, gradients)
            file.write(_mark(gradients, path, made_from))

    def size(self, start: int) -> int:
        """Responses of the shard that begins with this one."""
        return min(_SHARD, self.n - start)


def _mark(gradients: Float[np.ndarray, "b D"], path: Path, made_from: bytes) -> bytes:
    """A hash of a shard, its place and what it was made from: neither damage nor the shard of another run passes."""
    return hashlib.sha256(made_from + path.name.encode() + np.ascontiguousarray(gradients).tobytes()).digest()


def sketch_gradients(config: GradientConfig) -> SketchedGradients:
    """Differentiate the log-probability of every response of a table, and keep sketches of the gradients.

    Shards appear complete or not at all; an interrupted run goes on from them, and a finished one is not repeated. A
    shard that is damaged is made anew. Tables that differ in their rewards alone may share a folder. Log-probabilities
    are compared with those in the table, of a few responses to all prompts at first and then of every one, so that the
    gradients are those of the policy that sampled it.

    Args:
        config: What to differentiate.

    Returns:
        The sketches, prompts and responses in the order of `read_rollouts`.

    Raises:
        FileNotFoundError: The table or the policy does not exist.
        ValueError: The table has no token ids or its sampling was shaped by more than a temperature, another policy
            sampled it, the policy has no such layers or blocks, or the folder holds gradients of other responses or
            made with other settings, or is being written.
    """
    table = read_rollouts(config.table)
    _check_table(table, config)
    config = complete(config)
    sketches = SketchedGradients(expanded(config.out), *table.rewards.shape)
    with locked(sketches.folder / _LOCK, repr(str(sketches.folder))):
        remove_unfinished(sketches.folder)
        settings = _settings(config, table)
        record = sketches.folder / _SETTINGS
        if record.exists():
            check_same_settings(sketches.folder, *(_decisive(made) for made in (_written(record), settings)))
        _make_missing(sketches, config, table, settings)
    return sketches


def _make_missing(
    sketches: SketchedGradients, config: GradientConfig, table: Rollouts, settings: dict[str, Any]
) -> None:
    parts = [(prompt, start) for prompt in range(sketches.prompts) for start in sketches.starts]
    made_from = json.dumps({name: value for name, value in _decisive(settings).items() if name not in _NAMES}).encode()
    missing = [part for part in parts if not sketches.has(*part, config.dim, made_from)]
    if not missing:
        return
    differentiator = _differentiator(config, table)
    write_json(sketches.folder / _SETTINGS, settings)
    left = sum(sketches.size(start) for _, start in missing)
    total = sketches.prompts * sketches.n
    with progress_bar(total, done=total - left, name="gradients", unit="response") as move:
        for part in missing:
            sketches.write(*part, differentiator.shard(*part, moved=move), made_from)


@dataclass(frozen=True)
class _Differentiator:
    """Makes shards."""

    config: GradientConfig
    table: Rollouts
    differentiate: Callable[..., Any]
    prompt_token_ids: Sequence[list[int]]
    policy: PolicyCheck

    def shard(self, prompt: int, start: int, *, moved: Callable[[int], None]) -> Float[np.ndarray, "b D"]:
        """The sketches of some responses to one prompt."""
        responses = [ids.tolist() for ids in self.table.known("token_ids")[prompt, start : start + _SHARD]]
        gradients, logprobs = self.differentiate(
            [self.prompt_token_ids[prompt]] * len(responses),
            responses,
            temperature=self.table.metadata["sampling"]["temperature"],
            batch_size=self.config.batch_size,
            moved=moved,
        )
        recorded = self.table.known("logprobs")[prompt, start : start + _SHARD]
        self.policy.check(logprobs - recorded, np.array([len(ids) for ids in responses]), one_prompt=True)
        sketches: Float[np.ndarray, "b D"] = gradients
        return sketches


def _differentiator(config: GradientConfig, table: Rollouts) -> _Differentiator:
    """Load the policy and see that it is the one that sampled the table."""
    options: dict[str, Any] = {"revision": config.model_revision, "device": config.device}
    model, tokenizer = load_policy(config.model_name_or_path, **options)
    prompts, template_kwargs = prompts_of_texts(table.known("prompts")), table.metadata.get("chat_template_kwargs")
    source = f"rollout table {str(config.table)!r}"
    prompt_token_ids = tokenize_prompts(tokenizer, prompts, template_kwargs, source=source)
    check_fit(prompt_token_ids, tokenizer, model.config, model=config.model_name_or_path, source=source)
    how: dict[str, Any] = {"options": options, "dtype": config.dtype, "batch_size": config.batch_size}
    names = (config.model_name_or_path, str(config.table))
    policy = check_policy(model, prompt_token_ids, table, names=names, **how)
    if config.dtype != "float32":
        model, _ = load_policy(config.model_name_or_path, dtype=config.dtype, **options)
    return _Differentiator(config, table, engine(model, config), prompt_token_ids, policy)


def engine(model: Any, config: GradientConfig) -> Callable[..., Any]:
    """What differentiates responses: the policy with a sketch of what is asked for.

    Args:
        model: The policy; with a LoRA adapter its parameters are frozen.
        config: From `complete`.

    Returns:
        `gradient_sketches` or `lora_sketches`; it takes prompts, responses, temperature, batch_size and moved.
    """
    if config.parameters == LORA:
        adapter = fresh_adapter(
            model.requires_grad_(False), config.lora_target_modules or (), r=config.lora_r or 0, seed=config.seed
        )
        sketch = adapter.sketch(dim=config.dim, seed=config.seed)
        return partial(lora_sketches, model, sketch, adapter=adapter)
    model.set_attn_implementation("eager")
    own = dict(model.named_parameters())
    names = parameter_names(model, config.parameters or ALL)
    sketch = CountSketch({name: own[name] for name in names}, dim=config.dim, seed=config.seed)
    return partial(gradient_sketches, model, sketch, names=names)


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


def _settings(config: GradientConfig, table: Rollouts) -> dict[str, Any]:
    """What the gradients are made from; rewards have no part in it."""
    return {
        "responses": _responses_sha256(table),
        "model": config.model_name_or_path,
        "model_files": model_sha256(config.model_name_or_path),
        "revision": config.model_revision,
        "dim": config.dim,
        "seed": config.seed,
        **config.settings,
        _VERSION: __version__,
    }


def _decisive(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that gradients depend on; layers are taken in the model's order, however they were named."""
    found = {name: value for name, value in (_BEFORE | settings).items() if name != _VERSION}
    if layers := found.get("lora_target_modules"):
        found["lora_target_modules"] = sorted(layers)
    return found


def _responses_sha256(table: Rollouts) -> str:
    """A hash of the responses of a table and of what they answer: the same for tables that differ in rewards alone."""
    token_ids = table.known("token_ids")
    asked = [
        table.known("prompts"),
        table.metadata.get("chat_template_kwargs"),
        table.metadata["sampling"]["temperature"],
        token_ids.shape,
    ]
    content = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    content.update(np.array([len(ids) for ids in token_ids.flat], dtype=np.int64).tobytes())
    content.update(np.concatenate([*token_ids.flat]).astype(np.int64).tobytes())
    content.update(np.asarray(table.known("logprobs"), dtype=np.float64).tobytes())
    return content.hexdigest()


def _written(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}). Delete its folder, or choose another --out.") from error

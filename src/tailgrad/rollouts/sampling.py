"""Sample n responses to each prompt of a data set, score them, and write the rollout table, resumably."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from tailgrad._version import __version__
from tailgrad.identity import model_sha256
from tailgrad.models.batching import check_batches
from tailgrad.models.chosen import ChosenLogprobs
from tailgrad.models.engine import Engine
from tailgrad.models.loading import load_policy, load_tokenizer_of, revision_of
from tailgrad.models.token_ids import check_fit
from tailgrad.processes import num_processes
from tailgrad.rewards import CheckedReward
from tailgrad.rewards.configured import load_rewards
from tailgrad.rollouts.chats import is_chat
from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.engines import EngineSampler, openai_engine, own_settings, vllm_engine
from tailgrad.rollouts.generation import as_trained
from tailgrad.rollouts.parts import make_table
from tailgrad.rollouts.prompts import Prompts, load_prompts, tokenize_prompts
from tailgrad.rollouts.shards import Sampler


def sample(config: SampleConfig) -> Path:
    """Sample, score and write a rollout table.

    Rows are written to `<out>.parts/`, in parts of a few prompts. An interrupted run resumes from the finished parts
    and gives the identical table, because responses are seeded by the seed and the part. At the end the parts are
    checked, merged into `out` and removed.

    Args:
        config: What to sample.

    Returns:
        The path of the table.

    Raises:
        FileNotFoundError: The model or data set does not exist.
        ValueError: `out` exists or is being written, the parts of an interrupted run were sampled differently or are
            damaged, or bad input.
        RuntimeError: A reward raised; the finished parts stay.
    """
    load = _sampler if config.engine == "transformers" else _engine_sampler
    return make_table(Path(config.out), lambda: load(config), verb="sample")


def _engine_sampler(config: SampleConfig) -> EngineSampler:
    """Reach the server or load vLLM, load the rewards, and describe them in the table's metadata."""
    if num_processes() > 1:
        raise ValueError(
            f"{num_processes()} processes with engine {config.engine}: one keeps it busy, by --concurrency or by "
            "tensor_parallel_size among --engine_kwargs. Start one."
        )
    prompts = read_prompts(config)
    shaping, chat_template_kwargs, trained_with = as_trained(config, own_settings(config))
    tokenizer, token_ids = None, None
    unknown = ["device", "logprobs_while_sampling"]
    if config.engine == "openai":
        engine: Engine = openai_engine(config, prompts, shaping, chat_template_kwargs)
        unknown += ["model_files", "seed", "dtype"]
        reward, described = load_scoring(config, prompts)
    else:
        reward, described = load_scoring(config, prompts)
        tokenizer = load_tokenizer_of(config.model_name_or_path, config.model_revision, config.trust_remote_code)
        source = f"data set {config.dataset_name!r}"
        token_ids = tokenize_prompts(tokenizer, prompts.prompts, chat_template_kwargs, source=source)
        engine = vllm_engine(config, tokenizer, token_ids, shaping)
    metadata = {
        **_metadata(config, None, None, described, prompts),
        "dtype": config.dtype,
        **dict.fromkeys(unknown),
        **_of_sampling(config, prompts, shaping, chat_template_kwargs, trained_with),
        "engine": config.engine,
        "engine_kwargs": config.engine_kwargs or None,
        "logprobs": None if config.logprobs else False,
    }
    part_size = max(1, config.batch_size // config.n)
    return EngineSampler(engine, config.n, part_size, reward, prompts, metadata, tokenizer, token_ids)


def _sampler(config: SampleConfig) -> Sampler:
    """Load policy, reference policy and rewards, and describe them in the table's metadata."""
    prompts = read_prompts(config)
    options: dict[str, Any] = {name: getattr(config, name) for name in ("dtype", "device", "trust_remote_code")}
    reward, described = load_scoring(config, prompts)
    model, tokenizer = load_policy(config.model_name_or_path, revision=config.model_revision, **options)
    reference = None
    if config.reference_model == config.model_name_or_path and config.model_revision is None:
        reference = model
    elif config.reference_model is not None:
        reference, _ = load_policy(config.reference_model, what="reference model", **options)
        _check_vocabulary(model, reference, config)
    shaping, chat_template_kwargs, trained_with = as_trained(config, model.generation_config.to_dict())
    source, room = f"data set {config.dataset_name!r}", shaping["max_new_tokens"]
    token_ids = tokenize_prompts(tokenizer, prompts.prompts, chat_template_kwargs, source=source)
    check_fit(token_ids, tokenizer, model.config, model=config.model_name_or_path, new_tokens=room, source=source)
    if config.batch_size > 1:
        check_batches(model, tokenizer, token_ids, name=config.model_name_or_path)
    gathers = _gathers(model, reference, shaping)
    metadata = _metadata(config, model, reference, described, prompts) | {
        "logprobs_while_sampling": gathers or None,
        **_of_sampling(config, prompts, shaping, chat_template_kwargs, trained_with),
    }
    return Sampler(config, model, tokenizer, reference, reward, prompts, token_ids, metadata, shaping, gathers)


def _of_sampling(
    config: SampleConfig, prompts: Prompts, shaping: dict[str, Any], chat_template_kwargs: dict[str, Any], trained: Any
) -> dict[str, Any]:
    return {
        "sampling": {"n": config.n, **shaping},
        "chat_template_kwargs": chat_template_kwargs if is_chat(prompts.prompts[0]) else {},
        "trained_with": trained,
    }


def read_prompts(config: SampleConfig) -> Prompts:
    """The prompts that a config names; see `load_prompts`. Warns of arguments that no chat template reads."""
    prompts = load_prompts(
        config.dataset_name,
        split=config.dataset_split,
        config=config.dataset_config,
        prompt_column=config.prompt_column,
        limit=config.limit,
    )
    if config.chat_template_kwargs and not is_chat(prompts.prompts[0]):
        warnings.warn(
            f"chat_template_kwargs is {config.chat_template_kwargs!r}, and the prompts are strings, to which no chat "
            "template is applied.",
            stacklevel=2,
        )
    return prompts


def load_scoring(config: SampleConfig, prompts: Prompts) -> tuple[CheckedReward, dict[str, Any]]:
    """Load the reward of a config, or the weighted sum of its rewards.

    Args:
        config: Names rewards, weights and options.
        prompts: The data, whose columns the rewards are passed.

    Returns:
        As `load_rewards`.

    Raises:
        FileNotFoundError: As `load_rewards`.
        ValueError: As `load_rewards`.
    """
    columns = [name for name in prompts.rows.column_names if name != "prompt"]
    return load_rewards(config, columns, f"data set {config.dataset_name!r}")


def _metadata(
    config: SampleConfig, model: Any, reference: Any, described: dict[str, Any], prompts: Prompts
) -> dict[str, Any]:
    return {
        "model": config.model_name_or_path,
        "revision": config.model_revision if model is None else revision_of(model, config.model_revision),
        "model_files": model_sha256(config.model_name_or_path),
        "seed": config.seed,
        **described,
        "dataset": {
            "name": config.dataset_name,
            "config": config.dataset_config,
            "split": prompts.split,
            "prompt_column": config.prompt_column,
            "num_prompts": len(prompts),
            "sha256": prompts.sha256,
        },
        "reference": config.reference_model,
        "reference_revision": None if reference is None else revision_of(reference, None),
        "reference_files": config.reference_model and model_sha256(config.reference_model),
        "dtype": None if model is None else str(model.dtype).removeprefix("torch."),
        "device": None if model is None else model.device.type,
        "batch_size": config.batch_size,
        "tailgrad_version": __version__,
    }


def _gathers(model: Any, reference: Any, shaping: dict[str, Any]) -> bool:
    """Whether log-probabilities are kept while sampling.

    In lower precision a token's log-probability depends on how it is computed. A KL is a mean of differences, so there
    both policies' are computed in the same way, afterwards: rounding then does not raise it.
    """
    alone = reference is None or reference is model or model.dtype == torch.float32
    return alone and ChosenLogprobs.sees_logits(shaping)


def _check_vocabulary(model: Any, reference: Any, config: SampleConfig) -> None:
    sizes = [m.get_input_embeddings().weight.shape[0] for m in (model, reference)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"reference model {config.reference_model!r} has {sizes[1]} tokens and model "
            f"{config.model_name_or_path!r} has {sizes[0]}; the reference policy must have the same vocabulary."
        )

"""What is written down beside a trained policy: how it was trained, and all that shaped its responses."""

from __future__ import annotations

import logging
import tempfile
from typing import TYPE_CHECKING, Any, Final

from tailgrad._version import __version__
from tailgrad.estimators import find_estimator
from tailgrad.rollouts.generation import BEAMS, KNOWN, shaping
from tailgrad.training.dropout import dropout_of

if TYPE_CHECKING:
    from trl import GRPOTrainer

    from tailgrad.training.config import TailGRPOConfig

logger = logging.getLogger(__name__)

_VLLM_NAMES: Final = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens"}
"""vLLM's names of what transformers calls otherwise."""

_VLLM_WITHOUT_EFFECT: Final = ("n", "seed", "logprobs", "prompt_logprobs")
"""Settings of vLLM that leave the distribution of responses as it is."""

_CITATION: Final = """\
@software{{tailgrad,
    title   = {{{{tailgrad: post-train language models for best-of-N with few rollouts per prompt}}}},
    author  = {{The tailgrad developers}},
    version = {{{version}}},
    note    = {{Source of the advantages: {source}}},
}}"""
"""This library, in BibTeX."""


def training_record(args: TailGRPOConfig, generation: dict[str, Any]) -> dict[str, Any]:
    """Return what later commands need to know of a training.

    Args:
        args: The training's configuration.
        generation: All that shaped the responses; see `generation_of`.

    Returns:
        Estimator, m, N, and how the responses were sampled.
    """
    return {
        "tailgrad_version": __version__,
        "estimator": args.estimator_name,
        "options": args.estimator_options(),
        "advantage_scaling": args.scaling,
        "num_generations": args.num_generations,
        "prompts_per_step": rollouts_per_step(args) / args.num_generations,
        "beta": args.beta,
        "seed": args.seed,
        "generation": generation,
        "chat_template_kwargs": args.chat_template_kwargs or {},
    }


def rollouts_per_step(args: TailGRPOConfig) -> int:
    """Rollouts of an optimisation step on all devices, several GPUs of one process included."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def generation_of(trainer: GRPOTrainer) -> dict[str, Any]:
    """Return all that shapes the responses of a training.

    TRL's own generation takes the model's own settings wherever the options set none; vLLM and the continuous
    batching of transformers do not look at them. It also leaves dropout on, which sampling does not have: said in a
    warning.

    Args:
        trainer: The trainer, made.

    Returns:
        As `tailgrad.rollouts.generation.shaping`; with vLLM also its own settings, by its names.

    Raises:
        ValueError: As in `shaping`.
    """
    args = trainer.args
    if args.use_vllm:
        return _generation_of_vllm(args)
    _say_dropout(trainer.model)
    explicit = {
        **trainer.generation_config.to_dict(),
        "eos_token_id": (args.generation_kwargs or {}).get("eos_token_id"),
    }
    own = {} if args.use_transformers_continuous_batching else trainer.model.generation_config.to_dict()
    return shaping(own, explicit)


def make_savable(config: Any) -> None:
    """Make a policy's own generation config one that transformers saves, and not after hours of training refuses to.

    Transformers saves none that was changed, as trainers do with its special tokens, and has settings that do nothing:
    those of sampling without `do_sample`, those of beams without beams. A trained policy samples, so `do_sample` is
    set; the others are taken out.

    Args:
        config: The policy's generation config; changed in place where it could not be saved.

    Raises:
        ValueError: It cannot be saved all the same.
    """
    if _refusal(config) is None:
        return
    config.do_sample = True
    for name in BEAMS if config.num_beams in (None, 1) else ():
        setattr(config, name, None)
    reason = _refusal(config)
    if reason is not None:
        raise ValueError(f"the policy's generation_config.json could not be saved after the training: {reason}")
    logger.warning(
        "The generation_config.json of the policy has settings that do nothing as it stands, which transformers does "
        "not save after a training. That of the trained policy says do_sample, and leaves out settings of beams."
    )


def _refusal(config: Any) -> str | None:
    """Why transformers would not save a generation config, in one line; None if it would."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            config.save_pretrained(folder)
        except ValueError as error:
            return " ".join(str(error).split())
    return None


def _say_dropout(model: Any) -> None:
    rate = dropout_of(model)
    if rate > 0:
        logger.warning(
            "The responses of this training are generated with dropout (%g), as TRL does, and `tailgrad sample` "
            "samples without it. --disable_dropout true turns it off (and --lora_dropout 0 that of an adapter).",
            rate,
        )


def _generation_of_vllm(args: Any) -> dict[str, Any]:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    given = {name: getattr(args, name) for name in names} | {"max_new_tokens": args.max_completion_length}
    theirs = {_VLLM_NAMES.get(name, name): value for name, value in (args.generation_kwargs or {}).items()}
    if args.vllm_structured_outputs_regex is not None:
        theirs["structured_outputs_regex"] = args.vllm_structured_outputs_regex
    given |= {name: value for name, value in theirs.items() if name in KNOWN}
    given["top_k"] = max(0, given["top_k"] or 0)  # vLLM writes "off" as -1 too
    others = {name: value for name, value in theirs.items() if value and name not in {*KNOWN, *_VLLM_WITHOUT_EFFECT}}
    return shaping({}, given) | others


def card_of(args: TailGRPOConfig) -> tuple[str, str]:
    """What a model card says of the method: its name, and whom to cite, as BibTeX."""
    row = find_estimator(args.estimator_name)
    name = "GRPO" if args.estimator == "grpo" else f"GRPO with the advantages of {args.estimator}"
    name += f" for the best of {args.deploy_n}" if row.takes_deploy_n else ""
    return name, _CITATION.format(version=__version__, source=row.reference)

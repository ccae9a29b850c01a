"""`tailgrad sample`: responses to the prompts of a data set, scored, as a rollout table."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser.

    Args:
        subparsers: What `ArgumentParser.add_subparsers` returned.
    """
    parser = subparsers.add_parser(
        "sample", help="sample n responses per prompt, score them, write a rollout table", description=__doc__
    )
    parser.set_defaults(run=run, extra="sample")
    add = parser.add_argument
    add("--model", required=True, help="policy: hub name or local folder")
    add("--dataset", required=True, help="hub name, folder, or .jsonl, .json, .parquet, .csv file")
    add("--out", required=True, help="rollout table to write (Parquet)")
    add("--n", type=int, default=256, help="responses per prompt (default 256)")
    add("--temperature", type=float, help="sampling temperature (default: that of the training, else 1.0)")
    add("--top_p", type=float, help="nucleus; 1 is off (default: as in the training, else off)")
    add("--top_k", type=int, help="only the k most likely tokens; 0 is off (default: as in the training, else off)")
    add("--max_new_tokens", type=int, help="most tokens of a response (default: as in the training, else 512)")
    add(
        "--generation_kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="other settings of transformers' GenerationConfig that shape a response, as in training: "
        "'{\"min_p\": 0.1}' (default: as in the training, else what the policy's generation_config.json says)",
    )
    add(
        "--chat_template_kwargs",
        type=json_object,
        metavar="JSON",
        help="arguments of the chat template, as in training: '{\"enable_thinking\": false}' (default: those of the "
        "training, else none)",
    )
    add("--batch_size", type=int, default=256, help="responses sampled at once (default 256)")
    add("--seed", type=int, default=0, help="seed of the responses (default 0)")
    add("--limit", type=int, help="only the first so many prompts")
    add("--prompt_column", default="prompt", help="column with the prompts (default prompt)")
    add("--dataset_split", default="test", help="split, where the data set has splits (default test)")
    add("--dataset_config", help="configuration of a hub data set")
    add("--revision", help="revision of the policy on the hub")
    add("--dtype", default="float32", help="float32 (default), bfloat16, float16, or auto (as saved)")
    add("--reference_model", help="reference policy, for the KL of the responses")
    add_reward_options(parser)


def json_object(text: str) -> dict[str, Any]:
    """Read an option that is a JSON object.

    Args:
        text: The option's value.

    Returns:
        The object.

    Raises:
        ArgumentTypeError: It is anything else.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error}); write '{{\"name\": value}}'") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object; write '{{\"name\": value}}'")
    return value


def add_reward_options(parser: argparse.ArgumentParser) -> None:
    """Add what `sample` and `score` share: the rewards and the options of reward models."""
    add = parser.add_argument
    add(
        "--reward",
        required=True,
        nargs="+",
        help="package.module.function, or hub name or folder of a reward model",
    )
    add("--reward_weights", type=float, nargs="+", help="one weight per reward (default 1 each)")
    add("--reward_timeout", type=float, metavar="SECONDS", help="most seconds of a reward's call (default: no limit)")
    add("--device", help="cpu, cuda, cuda:1, ... (default: the GPU where there is one)")
    add("--trust_remote_code", action="store_true", help="run the code that comes with the models")
    group = parser.add_argument_group("options of reward models")
    group.add_argument("--reward_revision", help="revision on the hub")
    group.add_argument("--reward_batch_size", type=int, help="rollouts in one forward pass (default 16)")
    group.add_argument(
        "--reward_max_length", type=int, help="most tokens of prompt and response (default: the model's)"
    )
    group.add_argument("--reward_dtype", help="float32 (default), bfloat16, float16, or auto (as saved)")
    group.add_argument("--reward_device", help="cpu, cuda, ... (default: the policy's)")
    group.add_argument(
        "--reward_input_format",
        choices=("auto", "chat", "text"),
        help="chat template or plain text (default auto)",
    )


def reward_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of reward models by the names that `RewardModel` gives them; None is the default."""
    names = ("revision", "batch_size", "max_length", "dtype", "device", "input_format")
    return {name: getattr(args, f"reward_{name}") for name in names}


def run(args: argparse.Namespace) -> int:
    """Sample, and say where the table is.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tailgrad.rollouts import SampleConfig, sample

    options = {name: value for name, value in vars(args).items() if name in SampleConfig.__dataclass_fields__}
    print(sample(SampleConfig(**options, reward_options=reward_options(args))))
    return 0

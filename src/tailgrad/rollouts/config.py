"""What to sample, and what to score anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tailgrad.options import option
from tailgrad.rewards.options import RewardOptions

SELECTIONS: Final = ("table", "reward")
ENGINES: Final = ("transformers", "openai", "vllm")

_ENGINE: Final = "where the policy runs"
_SHAPE: Final = "what shapes a response (what is not given is as in the policy's training)"


@dataclass(frozen=True)
class SampleConfig(RewardOptions):
    """What `sample` needs to know; the fields are the options of `tailgrad sample`, which says what each is."""

    model_name_or_path: str = option(text="the policy to sample: hub name or local folder")
    dataset_name: str = option(
        text="data set with the prompts: hub name, folder, or .jsonl, .json, .parquet or .csv file (also with .gz)"
    )
    out: str | Path = option(text="rollout table to write (Parquet); it must not exist")
    n: int = option(256, "responses per prompt")
    temperature: float | None = option(
        None, "sampling temperature, above 0 (default: as in the training, else 1.0)", group=_SHAPE
    )
    top_p: float | None = option(
        None,
        "sample from the most likely tokens with this probability together; 1 is off (default: as in the training, "
        "else off)",
        group=_SHAPE,
    )
    top_k: int | None = option(
        None, "sample from this many most likely tokens; 0 is off (default: as in the training, else off)", group=_SHAPE
    )
    max_completion_length: int | None = option(
        None, "most tokens of a response, end token included (default: as in the training, else 512)", group=_SHAPE
    )
    generation_kwargs: dict[str, Any] = option(
        {},
        "other settings of transformers' GenerationConfig that shape a response, as in training: "
        "'{\"min_p\": 0.1}' (default: as in the training, else what the policy's generation_config.json says)",
        group=_SHAPE,
        metavar="JSON",
    )
    chat_template_kwargs: dict[str, Any] | None = option(
        None,
        "arguments of the chat template, as in training: '{\"enable_thinking\": false}' (default: as in the "
        "training, else none)",
        group=_SHAPE,
        metavar="JSON",
    )
    batch_size: int = option(256, "responses sampled at once")
    seed: int = option(0, "seed of the responses (default 0)")
    limit: int | None = option(None, "take only this many prompts, the first ones (default: all)")
    prompt_column: str = option("prompt", "column with the prompts: strings, or lists of messages")
    dataset_split: str = option("test", "split to take, if the data set has splits")
    dataset_config: str | None = option(None, "configuration of a hub data set")
    model_revision: str | None = option(None, "revision of the policy on the hub")
    dtype: str = option(
        "float32", "precision of the policy and the reference policy: float32, bfloat16, float16, or auto (as saved)"
    )
    reference_model: str | None = option(None, "reference policy, from which the KL of the responses is measured")
    device: str | None = option(None, "cpu, cuda, cuda:1, ... (default: the GPU, if there is one)")
    trust_remote_code: bool = option(False, "run the code that comes with the models")
    engine: str = option(
        "transformers",
        "what samples: transformers (default) or vllm (both in this process), or openai (a server with an "
        "OpenAI-compatible API)",
        group=_ENGINE,
        choices=ENGINES,
    )
    base_url: str | None = option(
        None,
        "address of the server, such as http://localhost:8000/v1; its key is read from OPENAI_API_KEY",
        group=_ENGINE,
        metavar="URL",
    )
    engine_kwargs: dict[str, Any] = option(
        {}, "arguments of vllm.LLM for engine vllm: '{\"tensor_parallel_size\": 2}'", group=_ENGINE, metavar="JSON"
    )
    logprobs: bool = option(
        True,
        "keep the log-probabilities of responses at temperature 1, which cost engines openai and vllm some of their "
        "throughput (default true)",
        group=_ENGINE,
    )
    concurrency: int = option(64, "requests that the server is sent at once", group=_ENGINE)
    request_timeout: float = option(
        600.0, "seconds until a request to the server has failed and is tried again", group=_ENGINE, metavar="SECONDS"
    )

    @property
    def shaping(self) -> dict[str, Any]:
        """The settings asked for that shape a response, by transformers' names; None where not given."""
        own = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k")}
        return own | {"max_new_tokens": self.max_completion_length} | self.generation_kwargs

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n", "batch_size", "limit", "concurrency"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more.")
        if not 0 < self.request_timeout < math.inf:
            raise ValueError(f"request_timeout is {self.request_timeout}; it must be a number of seconds above 0.")
        _check_engine(self)
        for name, (allowed, words) in _IN_RANGE.items():
            value = self.shaping[name]  # also where generation_kwargs has it
            if value is not None and not (isinstance(value, int | float) and allowed(value)):
                given_as = name if name in self.generation_kwargs else OPTION_OF.get(name, name)
                raise ValueError(f"{given_as} is {value!r}; it must be {words}.")


_OWN_OF_VLLM: Final = {
    "model": "model_name_or_path",
    "revision": "model_revision",
    **{name: name for name in ("dtype", "seed", "trust_remote_code")},
}
"""Arguments of `vllm.LLM` that are options here, and their names here."""


def _check_engine(config: SampleConfig) -> None:
    """Refuse an engine without what it needs, or with what it cannot do."""
    if config.engine not in ENGINES:
        raise ValueError(f"engine is {config.engine!r}; it must be one of {', '.join(ENGINES)}.")
    if (config.engine == "openai") != (config.base_url is not None):
        what = "no" if config.base_url is None else "a"
        raise ValueError(
            f"engine {config.engine} and {what} base_url: a server is named by both, --engine openai --base_url "
            "http://localhost:8000/v1."
        )
    if config.engine_kwargs and config.engine != "vllm":
        raise ValueError(f"engine_kwargs with engine {config.engine}: they are arguments of vllm.LLM. Leave them out.")
    if ours := sorted({*_OWN_OF_VLLM} & {*config.engine_kwargs}):
        raise ValueError(f"engine_kwargs has {ours[0]}, which is an option here: give --{_OWN_OF_VLLM[ours[0]]}.")
    if config.engine == "transformers":
        if not config.logprobs:
            raise ValueError("logprobs is False with engine transformers, which it costs nothing: leave it out.")
        return
    if config.reference_model is not None:
        raise ValueError(
            f"reference_model with engine {config.engine}: a KL needs the log-probabilities of both policies computed "
            "alike. Leave it out, or use --engine transformers."
        )
    if config.engine != "openai":
        return
    if config.seed != 0:
        raise ValueError(f"seed is {config.seed}, and a server draws its own random numbers: leave it out.")
    for name in ("model_revision", "dtype"):
        if getattr(config, name) != getattr(SampleConfig, name):
            raise ValueError(f"{name} is {getattr(config, name)!r}, and the server has loaded its model: leave it out.")


_IN_RANGE: Final[dict[str, tuple[Callable[[float], bool], str]]] = {
    "max_new_tokens": (lambda value: value >= 1, "at least 1"),
    "top_k": (lambda value: value >= 0, "0 or more (0 is off)"),
    "temperature": (lambda value: 0 < value < math.inf, "above 0 and finite"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1 (1 is off)"),
}
"""Which values of what shapes a response can be sampled with."""

OPTION_OF: Final = {"max_new_tokens": "max_completion_length"}
"""Options whose name is TRL's and not that of transformers' setting."""


@dataclass(frozen=True)
class ScoreConfig(RewardOptions):
    """What `rescore` needs to know; the fields are the options of `tailgrad score`, which says what each is."""

    table: str | Path = option(
        text="rollout table to score anew, written by `tailgrad sample`", positional=True, metavar="TABLE"
    )
    out: str | Path = option(text="rollout table to write (Parquet); it must not exist")
    selection: str = option(
        "table", "the reward that picks the best response: that of the table (default), or this one", choices=SELECTIONS
    )
    dataset_name: str | None = option(
        None, "the data set that the table was sampled on, if it has moved (default: as the table says)"
    )
    model_name_or_path: str | None = option(
        None, "the policy, for its tokenizer, if it has moved (default: as the table says)"
    )
    batch_size: int = option(256, "responses scored at once")
    device: str | None = option(None, "cpu, cuda, cuda:1, ... (default: the GPU, if there is one)")
    trust_remote_code: bool = option(False, "run the code that comes with the models")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection is {self.selection!r}; it must be one of {', '.join(SELECTIONS)}.")

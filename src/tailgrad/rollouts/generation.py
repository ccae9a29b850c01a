"""What shapes a response, in training and in sampling: all settings that act, as one flat dict of JSON types."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tailgrad.files import expanded
from tailgrad.rollouts.config import OPTION_OF, SampleConfig

TRAINING_RECORD: Final = "tailgrad_training.json"
"""Written by tailgrad's trainer beside a model: how it was trained and what shaped its responses."""

TRAINING_DEFAULTS: Final[dict[str, Any]] = {
    "do_sample": True,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "max_new_tokens": 512,
}
"""What TRL's trainers set where the user does not, whatever the model's own generation config says."""

_ALWAYS: Final = ("temperature", "top_p", "top_k", "max_new_tokens")
_UNSET: Final = {"temperature": 1.0, "top_p": 1.0, "top_k": 50}
"""What transformers takes where neither side sets one of these."""

OFF: Final[dict[str, Any]] = {
    "do_sample": True,
    "min_p": 0,
    "top_h": None,
    "typical_p": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "repetition_penalty": 1,
    "encoder_repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "max_time": None,
    "bad_words_ids": None,
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "sequence_bias": None,
    "exponential_decay_length_penalty": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1,
    "remove_invalid_values": False,
    "watermarking_config": None,
    "eos_token_id": None,
    "num_beams": 1,
}
"""The other settings of transformers' `GenerationConfig` that act on which tokens are sampled, and the value beside
None at which each does nothing. `eos_token_id` is here for end tokens given in `generation_kwargs`."""

BEAMS: Final = {"num_beam_groups": 1, "diversity_penalty": 0, "length_penalty": 1, "early_stopping": False}
"""The same of those that act with several beams alone."""

REFUSED: Final = {
    "num_return_sequences": 1,
    "return_dict_in_generate": False,
    "stop_strings": None,
    "token_healing": False,
    "constraints": None,
    "force_words_ids": None,
    "dola_layers": None,
}
"""Settings that TRL's trainers cannot generate with, and where they do nothing."""


KNOWN: Final = {*_ALWAYS, *OFF, *BEAMS, *REFUSED}
"""All settings of transformers' `GenerationConfig` that shape a response."""


def shaping(own: Mapping[str, Any], explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that shapes a response that transformers generates.

    `generate` takes a model's own setting wherever the caller sets none; TRL's trainers generate so too.

    Args:
        own: The model's own generation config.
        explicit: What the caller sets; None is not set.

    Returns:
        `temperature`, `top_p`, `top_k`, `max_new_tokens`, and of the others those that act, as JSON types. End tokens
        are those of tokenizer and model, and not in it unless `explicit` sets others.

    Raises:
        ValueError: A setting with which a rollout is not one response of sampled tokens.

    Examples:
        >>> shaping({"min_p": 0.1, "temperature": 0.6, "typical_p": 1.0}, {"temperature": 1.0, "top_k": 0})
        {'temperature': 1.0, 'top_p': 1.0, 'top_k': 0, 'max_new_tokens': None, 'min_p': 0.1}
    """
    given = {name: value for name, value in explicit.items() if value is not None}
    end = given.get("eos_token_id")
    given = {**own, **given, "eos_token_id": [end] if isinstance(end, int) else end}
    for name, off in REFUSED.items():
        if given.get(name) not in (None, off):
            raise ValueError(
                f"the generation setting {name} is {given[name]!r}, with which training and sampling cannot generate: "
                "remove it from the model's generation_config.json."
            )
    others = OFF | (BEAMS if given.get("num_beams") not in (None, 1) else {})
    acting = {name: given[name] for name, off in others.items() if given.get(name) not in (None, off)}
    always = {name: given[name] if given.get(name) is not None else _UNSET.get(name) for name in _ALWAYS}
    return {name: _plain(value) for name, value in (always | acting).items()}


def as_trained(config: SampleConfig, own: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Return how to sample a policy: as asked, else as it was trained, else with the defaults of training.

    Warns where a trained policy is sampled otherwise than it was trained.

    Args:
        config: Names the policy and what was asked for.
        own: The policy's own generation config.

    Returns:
        What shapes the responses, as `shaping`; the arguments of the chat template; and what shaped the responses
        that the policy was trained on, None if that is not known.

    Raises:
        ValueError: An unknown setting was asked for, the training's record cannot be read, or as in `shaping`.
    """
    given = {name: value for name, value in config.shaping.items() if value is not None}
    all_given = given.keys() >= set(_ALWAYS)
    record = {}
    if config.engine != "openai" or is_known_here(config.model_name_or_path):
        record = read_record(config.model_name_or_path, config.model_revision, warn=not all_given)
    trained = _trained_shaping(record, own)
    unknown = sorted(given.keys() - KNOWN)
    if unknown:
        known = ", ".join(sorted(KNOWN - REFUSED.keys()))
        raise ValueError(f"the generation setting {unknown[0]!r} is unknown or shapes no response; known are {known}.")
    if trained is None:
        now = shaping(own, TRAINING_DEFAULTS | given)
    else:
        now = shaping({}, TRAINING_DEFAULTS | {name: trained[name] for name in trained if name in KNOWN} | given)
    trained_template = dict(record.get("chat_template_kwargs") or {})
    template = trained_template if config.chat_template_kwargs is None else config.chat_template_kwargs
    if trained is not None:
        before = {**trained, **({"chat_template_kwargs": trained_template} if trained_template else {})}
        after = {**now, **({"chat_template_kwargs": template} if template else {})}
        _say_what_differs(config.model_name_or_path, before, after)
    return now, template, trained


def is_known_here(model: str) -> bool:
    """Whether a server's name of a policy is also a local folder or can be a name on the hub.

    Args:
        model: The name.

    Examples:
        >>> [is_known_here(name) for name in ("org/model", "gpt-5", "llama:8b", "/not/here")]
        [True, False, False, False]
    """
    return expanded(model).is_dir() or re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None


def read_record(model: str, revision: str | None = None, *, warn: bool = True) -> dict[str, Any]:
    """Return the record that tailgrad's trainer wrote beside a model; {} where there is none.

    Args:
        model: Hub name or local folder.
        revision: Branch, tag or commit of the hub.
        warn: Warn where the hub is out of reach and never said whether there is one.

    Returns:
        The record.

    Raises:
        ValueError: The record cannot be read.
    """
    folder = expanded(model)
    path = folder / TRAINING_RECORD if folder.is_dir() else _record_of_hub(model, revision, warn)
    if path is None or not path.is_file():
        return {}
    try:
        record: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is no record of a training ({error}); delete it to sample without.") from error
    return record


def _record_of_hub(model: str, revision: str | None, warn: bool) -> Path | None:
    """The record's file, fetched from the hub; None where the model has none, or where that cannot be told."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.hf_hub_download(model, TRAINING_RECORD, revision=revision))
    except LocalEntryNotFoundError:  # the hub is out of reach; what it once said to have not, the cache knows
        if warn and huggingface_hub.try_to_load_from_cache(model, TRAINING_RECORD, revision=revision) is None:
            warnings.warn(
                f"whether {model!r} was trained by tailgrad, and on responses of which settings, is not known: the hub "
                f"is out of reach and {TRAINING_RECORD} was never asked for. What is not given is that of training's "
                "defaults; give temperature, top_p, top_k and max_completion_length to be sure.",
                stacklevel=4,
            )
        return None
    except HfHubHTTPError:  # it has none, or there is no such model, which loading it says
        return None


def _trained_shaping(record: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any] | None:
    """What shaped the responses of a training; older records hold the options alone, and the model's own acted too."""
    if not record:
        return None
    if "generation" in record:
        return dict(record["generation"])
    names = {name: OPTION_OF.get(name, name) for name in _ALWAYS}
    return shaping(own, TRAINING_DEFAULTS | {name: record[old] for name, old in names.items() if old in record})


def _say_what_differs(model: str, trained: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = [name for name in dict.fromkeys([*trained, *now]) if trained.get(name) != now.get(name)]
    if names:
        clauses = [f"{name} {trained.get(name, 'off')} (now {now.get(name, 'off')})" for name in names]
        warnings.warn(
            f"{model!r} was trained on responses sampled with {', '.join(clauses)}: its rewards need not be those it "
            "was trained for.",
            stacklevel=5,
        )


def _plain(value: Any) -> Any:
    """JSON types: objects as their dicts, tuples as lists, a dict with tuples as keys as a list of pairs."""
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if isinstance(value, Mapping) and any(isinstance(key, tuple) for key in value):
        return [[_plain(key), _plain(one)] for key, one in value.items()]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value

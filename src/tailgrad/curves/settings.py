"""What of a rollout table's metadata must agree before two tables are compared, and why."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COMPARED = {
    "sampling": "what shapes a response: n, temperature, top_p, top_k, max_new_tokens and all else that acts",
    "chat_template_kwargs": "what the chat template makes of a prompt",
    "reward": "what V_N is a mean of; the same under another name where reward_files and reward_weights are",
    "reward_options": "what a reward model reads, and how exactly; see REWARD_OPTIONS",
    "reward_files": "alone they are said and not refused: an edit of a reward's file need not change a score",
    "reward_weights": "stand in the name of the reward",
    "selection_reward": "what picks the best of N",
    "dataset": "the prompts and the columns that the reward is passed; its sha256 alone where both have one",
}
"""Fields that must agree, each with the reason: with another value V_N is that of another question."""

NOT_COMPARED = {
    "model": "the policies are what is compared",
    "revision": "likewise",
    "model_files": "likewise",
    "trained_with": "likewise",
    "training_temperature": "likewise",
    "reference": "acts on the KL alone, which is compared by it",
    "reference_revision": "likewise",
    "reference_files": "likewise",
    "engine": "where a policy is run",
    "engine_kwargs": "how it is run there belongs to the policy",
    "seed": "other random numbers are another sample of the same responses",
    "batch_size": "speed",
    "device": "speed",
    "logprobs_while_sampling": "rounding of the KL",
    "logprobs": "whether a KL is known",
    "dtype": "the precision that a policy is sampled in belongs to the policy",
    "rescored": "which table was scored anew; a policy's own",
    "tailgrad_version": "no version changed what V_N is",
}
"""Fields that may differ, each with the reason."""

SAMPLE_OPTIONS = {
    "n": "n",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_new_tokens": "max_completion_length",
}
"""Settings that are options of `tailgrad sample`, and the option's name."""

_FILES = ("reward_files", "reward_weights")

REWARD_OPTIONS: dict[str, Any] = {"dtype": "float32", "input_format": "auto", "max_length": None, "revision": None}
"""Options of a reward model that decide its scores, with their defaults. The others are where and how fast it runs."""


def settings_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Give what must agree between rollout tables that are compared, from the metadata of one.

    Args:
        metadata: A rollout table's metadata.

    Returns:
        The fields of `COMPARED` that are recorded, those of `sampling` by their own names, and of the reward options
        those that decide a score and are not at their default.

    Examples:
        >>> settings_of({"sampling": {"n": 4}, "reward": "rm", "reward_options": {"batch_size": 8}, "device": "cpu"})
        {'n': 4, 'reward': 'rm'}
    """
    found: dict[str, Any] = {**metadata.get("sampling", {})}
    found |= {name: metadata[name] for name in COMPARED if name in metadata and name != "sampling"}
    options = found.pop("reward_options", {})
    deciding = {name: options[name] for name in REWARD_OPTIONS if options.get(name) not in (None, REWARD_OPTIONS[name])}
    return found | ({"reward_options": deciding} if deciding else {})


def differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Give the settings that differ, as (name, first value, other value); what one lacks is "not recorded".

    Args:
        first: Settings of a run, as `settings_of` gives them.
        other: Those of another.

    Examples:
        >>> differences({"dataset": {"name": "a", "sha256": "1f"}}, {"dataset": {"name": "b", "sha256": "1f"}, "n": 4})
        [('n', 'not recorded', 4)]
    """
    ours, theirs = dict(_flat(first)), dict(_flat(other))
    same: tuple[str, ...] = _FILES
    if None is not ours.get("dataset.sha256") == theirs.get("dataset.sha256"):
        same += ("dataset.",)
    if _is_one_reward(first, other):
        same += ("reward", "reward_options.")
    names = sorted(name for name in ours.keys() | theirs.keys() if not _stands_for(name, same))
    found = [name for name in names if ours.get(name) != theirs.get(name)]
    return [(name, ours.get(name, "not recorded"), theirs.get(name, "not recorded")) for name in found]


def names_of(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all settings but n that any of these records; where none does, those of `COMPARED`.

    Args:
        settings: Settings of runs, as `settings_of` gives them.

    Examples:
        >>> names_of([{}, {"temperature": 1.0, "reward": "rm"}])
        ['temperature', 'reward']
    """
    aside = ("n", *_FILES)  # n is that of the rewards
    names = dict.fromkeys(name for of_run in settings for name in of_run)
    return [name for name in names or COMPARED if name not in aside]


def edited_reward(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether rewards of one name had other contents: `differences` does not say so, since a score need not differ.

    Args:
        first: Settings of a run, as `settings_of` gives them.
        other: Those of another.

    Examples:
        >>> edited_reward({"reward": "rm", "reward_files": ["1f"]}, {"reward": "rm", "reward_files": ["2e"]})
        True
    """
    pairs = zip(first.get("reward_files", []), other.get("reward_files", []), strict=False)
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _is_one_reward(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    known = [dict.fromkeys(_FILES) | {name: of[name] for name in _FILES if name in of} for of in (first, other)]
    return known[0] == known[1] and None not in (known[0]["reward_files"] or [None])


def _stands_for(name: str, fields: Sequence[str]) -> bool:
    return any(name == field or (field.endswith(".") and name.startswith(field)) for field in fields)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

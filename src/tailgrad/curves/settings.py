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
    "selection_reward": "what picks the best of N; the same under another name where selection_reward_files are",
    "selection_reward_files": "as reward_files",
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

_OF_REWARD, _OF_SELECTION = ("reward_files", "reward_weights"), ("selection_reward_files",)

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
    same: tuple[str, ...] = (*_OF_REWARD, *_OF_SELECTION)
    if None is not ours.get("dataset.sha256") == theirs.get("dataset.sha256"):
        same += ("dataset.",)
    if _is_one(first, other, _OF_REWARD):
        same += ("reward", "reward_options.")
    if _is_one(first, other, _OF_SELECTION):
        same += ("selection_reward",)
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
    aside = ("n", *_OF_REWARD, *_OF_SELECTION)  # n is that of the rewards
    names = dict.fromkeys(name for of_run in settings for name in of_run)
    return [name for name in names or COMPARED if name not in aside]


def edited_rewards(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of rewards that had other contents: `differences` does not say so, since a score need not differ.

    Args:
        first: Settings of a run, as `settings_of` gives them.
        other: Those of another.

    Examples:
        >>> edited_rewards({"reward": "rm", "reward_files": ["1f"]}, {"reward": "rm", "reward_files": ["2e"]})
        ['rm']
    """
    found = []
    for name in ("reward", "selection_reward"):
        pairs = zip(*(of.get(f"{name}_files") or [] for of in (first, other)), strict=False)
        if any(None not in pair and pair[0] != pair[1] for pair in pairs):
            found.append(str(first.get(name)))
    return found


def _is_one(first: Mapping[str, Any], other: Mapping[str, Any], contents: Sequence[str]) -> bool:
    """Whether a reward is the same by its contents, the first of which are its files; unknown ones are not."""
    known = [[of.get(name) for name in contents] for of in (first, other)]
    return known[0] == known[1] and None not in (known[0][0] or [None])


def _stands_for(name: str, fields: Sequence[str]) -> bool:
    return any(name == field or (field.endswith(".") and name.startswith(field)) for field in fields)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

"""Compare runs on the same prompts: refuse what was sampled differently, pair the differences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from tailgrad.evaluation.intervals import Interval, mean_interval
from tailgrad.evaluation.runs import Run


def comparable_runs(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Bring runs into one order of prompts, after checking that they may be compared.

    Args:
        runs: At least one run.

    Returns:
        The runs with their prompts in the order of the first run.

    Raises:
        ValueError: If there is no run, or two runs differ in the number of responses a prompt, a field of
            `sampling` or their prompts; the message names the field and both values.

    Example:
        >>> rewards = np.array([[0.0], [1.0]])
        >>> first = Run("base", prompt_ids=np.array([0, 1]), prompts=["a", "b"], rewards=rewards)
        >>> second = Run("tea", prompt_ids=np.array([1, 0]), prompts=["b", "a"], rewards=rewards)
        >>> comparable_runs([first, second])[1].prompts
        ['a', 'b']
    """
    if not runs:
        raise ValueError("there is no run to evaluate: give at least one.")
    first = runs[0]
    for other in runs[1:]:
        _check_sampling(first, other)
        _check_prompts(first, other)
    return (first, *(_reordered(run, first.prompt_ids) for run in runs[1:]))


def paired_difference(
    values: Float[np.ndarray, "S P K"], reference: Float[np.ndarray, "R P K"], *, seed: int = 0
) -> Interval:
    """Give the mean difference of K quantities between two methods on the same prompts, with 95% intervals.

    Differences are taken prompt by prompt, so what makes a prompt easy or hard for both cancels. Seed s is
    paired with seed s where both methods have the same number of seeds; a method with one run is paired with
    each seed of the other. The intervals are those of `mean_interval` on the differences.

    Args:
        values: One number a seed, prompt and quantity.
        reference: The same of the method to compare with; the prompts in the same order.
        seed: Seed of the bootstrap.

    Returns:
        Mean and interval of `values` - `reference`. A prompt with NaN on either side is left out.

    Raises:
        ValueError: If prompts or quantities differ in number, or both methods have several seeds but not
            equally many.

    Example:
        >>> prompts = np.arange(8.0).reshape(1, 8, 1)
        >>> difference = paired_difference(prompts + 0.5, prompts)
        >>> difference.low, difference.high
        (array([0.5]), array([0.5]))
    """
    if values.shape[1:] != reference.shape[1:]:
        raise ValueError(
            "paired differences need the same prompts and quantities, "
            f"got {values.shape[1:]} and {reference.shape[1:]}."
        )
    seeds = (len(values), len(reference))
    if 1 not in seeds and seeds[0] != seeds[1]:
        raise ValueError(
            f"cannot pair {seeds[0]} training seeds with {seeds[1]}: give both methods the same number of "
            "runs, or one of them a single run."
        )
    return mean_interval(values - reference, seed=seed)


def _check_sampling(first: Run, other: Run) -> None:
    ours = {**dict(_flat(first.sampling)), "n": first.n}
    theirs = {**dict(_flat(other.sampling)), "n": other.n}
    same_data = None is not ours.get("dataset.sha256") == theirs.get("dataset.sha256")
    for key in sorted(ours.keys() | theirs.keys()):
        if same_data and key.startswith("dataset."):
            continue  # the same data under another name or path
        values = [fields.get(key, "not recorded") for fields in (ours, theirs)]
        if values[0] != values[1]:
            raise ValueError(
                f"runs {first.name!r} and {other.name!r} were sampled differently: {key} is {values[0]!r} "
                f"and {values[1]!r}. Their best-of-N values cannot be compared; sample both "
                "with the same settings."
            )


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_prompts(first: Run, other: Run) -> None:
    ours = dict(zip(first.prompt_ids.tolist(), first.prompts, strict=True))
    theirs = dict(zip(other.prompt_ids.tolist(), other.prompts, strict=True))
    names = f"runs {first.name!r} and {other.name!r}"
    if ours.keys() != theirs.keys():
        shared = len(ours.keys() & theirs.keys())
        raise ValueError(
            f"{names} are not on the same prompts: {len(ours)} and {len(theirs)} prompts, of which "
            f"{shared} have the same prompt_id. Sample both on the same prompts of the same data set."
        )
    for number, prompt in ours.items():
        if prompt != theirs[number]:
            raise ValueError(
                f"{names} are not on the same prompts: prompt_id {number} is {prompt[:80]!r} and "
                f"{theirs[number][:80]!r}. Sample both on the same prompts of the same data set."
            )


def _reordered(run: Run, prompt_ids: np.ndarray) -> Run:
    place = {number: row for row, number in enumerate(run.prompt_ids.tolist())}
    rows = np.array([place[number] for number in prompt_ids.tolist()])

    def take(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows]

    return replace(
        run,
        prompt_ids=prompt_ids,
        prompts=[run.prompts[row] for row in rows],
        rewards=run.rewards[rows],
        responses=None if run.responses is None else [run.responses[row] for row in rows],
        num_tokens=take(run.num_tokens),
        finished=take(run.finished),
        kl=take(run.kl),
        selection=take(run.selection),
    )

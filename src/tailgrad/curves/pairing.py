"""Rollouts on the same prompts: refuse what was sampled differently, bring the prompts into one order."""

import json
from collections.abc import Sequence
from itertools import repeat

import numpy as np

from tailgrad.curves.rollouts import Rollouts
from tailgrad.curves.settings import SAMPLE_OPTIONS, differences, edited_rewards, names_of


def seeds_by_name(runs: Sequence[Rollouts]) -> dict[str, tuple[Rollouts, ...]]:
    """Group rollouts that share a name, in order of first appearance: the training seeds of one method.

    Args:
        runs: Rollouts in any order.

    Returns:
        The seeds of every method.

    Examples:
        >>> run = Rollouts(np.zeros((1, 2)), name="tea")
        >>> {name: len(seeds) for name, seeds in seeds_by_name([run, run]).items()}
        {'tea': 2}
    """
    groups: dict[str, tuple[Rollouts, ...]] = {}
    for run in runs:
        groups[run.name] = (*groups.get(run.name, ()), run)
    return groups


def comparable_rollouts(runs: Sequence[Rollouts]) -> tuple[Rollouts, ...]:
    """Bring rollouts into one order of prompts, after checking that they may be compared.

    These must agree: the number of responses per prompt, what picks the best, the prompts where they are known, and
    every field of `Rollouts.sampling` (those of `tailgrad.curves.settings.COMPARED`). Rollouts that record no field at
    all cannot be checked by these; `unchecked` says so.

    Args:
        runs: The rollouts of one policy or more.

    Returns:
        The rollouts with their prompts in the order of the first.

    Raises:
        ValueError: If there are none, or two of them differ in the number of responses per prompt, a field of
            `sampling` or their prompts; the message names the field and both values.

    Examples:
        >>> rewards = np.array([[0.0], [1.0]])
        >>> first = Rollouts(rewards, name="base", prompt_ids=np.array([0, 1]), prompts=["a", "b"])
        >>> second = Rollouts(rewards, name="tea", prompt_ids=np.array([1, 0]), prompts=["b", "a"])
        >>> comparable_rollouts([first, second])[1].prompts
        ['a', 'b']
    """
    if not runs:
        raise ValueError("there are no rollouts to evaluate: give those of one policy at least.")
    first = runs[0]
    recorded = [run for run in runs if run.sampling]
    for other in recorded[1:]:
        _check_sampling(recorded[0], other)
    for other in runs[1:]:
        _check_choice(first, other)
    return (first, *(on_same_prompts(first, run) for run in runs[1:]))


def on_same_prompts(first: Rollouts, other: Rollouts) -> Rollouts:
    """Bring rollouts into the order of others' prompts, after checking that these are the same.

    Args:
        first: The rollouts whose order is taken.
        other: Rollouts on the same prompts, in any order and sampled in any way.

    Returns:
        The second, its prompts in the order of the first.

    Raises:
        ValueError: Their prompt ids differ, or an id has two prompts; the message names them.

    Examples:
        >>> base, tea = (Rollouts(np.eye(2), name=str(ids), prompt_ids=np.array(ids)) for ids in ([4, 7], [7, 4]))
        >>> on_same_prompts(base, tea).rewards
        array([[0., 1.],
               [1., 0.]])
    """
    _check_prompts(first, other)
    return _reordered(other, first.prompt_ids)


def unchecked(runs: Sequence[Rollouts]) -> list[str]:
    """Say which rollouts record nothing of how they were sampled and scored, and which a reward that was edited.

    Args:
        runs: Rollouts that are compared.

    Returns:
        Sentences, each of what was not checked.

    Examples:
        >>> rewards = np.zeros((1, 2))
        >>> base = Rollouts(rewards, name="base", metadata={"reward": "length"})
        >>> unchecked([base, Rollouts(rewards, name="tea")])
        ['Not checked for tea, which does not record it: reward.']
    """
    recorded = [run for run in runs if run.sampling]
    silent = dict.fromkeys(run.name for run in runs if not run.sampling)
    notes = []
    if len(runs) > 1 and not recorded:
        notes.append("Not checked, since no table records it: that all were sampled and scored in the same way.")
    elif len(runs) > 1 and silent:
        who = f"{', '.join(silent)}, which {'does' if len(silent) == 1 else 'do'} not record it"
        notes.append(f"Not checked for {who}: {', '.join(names_of([run.sampling for run in runs]))}.")
    edited = [
        (reward, run.name) for run in recorded[1:] for reward in edited_rewards(recorded[0].sampling, run.sampling)
    ]
    for reward in dict.fromkeys(reward for reward, _ in edited):
        names = dict.fromkeys(name for other, name in edited if other == reward)
        notes.append(
            f"The reward {reward!r} is not the same in {recorded[0].name} and {', '.join(names)}: its files or its "
            "model changed in between. If that moved a score, score one of the tables anew with `tailgrad score "
            "--selection reward`."
        )
    return notes


def kl_left_out(runs: Sequence[Rollouts]) -> list[str]:
    """Say where the KL are to different reference policies: such numbers cannot stand side by side.

    Args:
        runs: Rollouts that are compared.

    Returns:
        One sentence that says why the KL is left out, or none.

    Examples:
        >>> kl = {"rewards": np.zeros((1, 2)), "kl": np.ones(1)}
        >>> base, tea = (Rollouts(**kl, name=name, metadata={"reference": f"{name}-sft"}) for name in ("base", "tea"))
        >>> kl_left_out([base, tea])[0][:53]
        "KL is left out: it is to 'base-sft' for base and 'tea"
    """
    known = [run for run in runs if run.kl is not None]
    if all(run.reference is known[0].reference is None or _same_reference(known[0], run) for run in known):
        return []
    other = next(run for run in known if not _same_reference(known[0], run))
    both = " and ".join(f"{_reference_text(run)} for {run.name}" for run in (known[0], other))
    return [f"KL is left out: it is to {both}. Sample all with one --reference_model to compare it."]


def _same_reference(first: Rollouts, other: Rollouts) -> bool:
    return first.reference is not None and first.reference.same_as(other.reference)


def _reference_text(run: Rollouts) -> str:
    if run.reference is None:
        return "an unknown reference policy"
    content = run.reference.content
    return repr(run.reference.name) + (f" ({content[:12]})" if content else "")


def _check_choice(first: Rollouts, other: Rollouts) -> None:
    if first.n != other.n:
        raise ValueError(_refusal(first, other, "n", first.n, other.n))
    if (first.selection_rewards is None) != (other.selection_rewards is None):
        picked_by = [
            "the reward itself" if run.selection_rewards is None else "another reward" for run in (first, other)
        ]
        raise ValueError(_refusal(first, other, "what picks the best response", *picked_by))


def _check_sampling(first: Rollouts, other: Rollouts) -> None:
    found = differences({**first.sampling, "n": first.n}, {**other.sampling, "n": other.n})
    if found:
        raise ValueError(_refusal(first, other, *found[0]))


def _refusal(first: Rollouts, other: Rollouts, name: str, ours: object, theirs: object) -> str:
    option = SAMPLE_OPTIONS.get(name) if first.sampling and other.sampling else None
    again = [
        f"{table.name!r} again with --{option} {value}"
        for table, value in ((other, ours), (first, theirs))
        if option and isinstance(value, int | float)
    ]
    mend = f"sample {' or '.join(again)}" if again else "sample both with the same settings"
    return (
        f"rollouts {first.name!r} and {other.name!r} were sampled differently: {option or name} is {ours!r} and "
        f"{theirs!r}. Their best-of-N values cannot be compared: {mend}."
    )


def _check_prompts(first: Rollouts, other: Rollouts) -> None:
    ours, theirs = (
        dict(zip(run.prompt_ids.tolist(), run.prompts or repeat(None, len(run.prompt_ids)), strict=True))
        for run in (first, other)
    )
    names = f"rollouts {first.name!r} and {other.name!r}"
    if ours.keys() != theirs.keys():
        shared = len(ours.keys() & theirs.keys())
        raise ValueError(
            f"{names} are not on the same prompts: {len(ours)} and {len(theirs)} prompts, of which "
            f"{shared} have the same prompt_id. Sample both on the same prompts of the same data set."
        )
    for number, prompt in ours.items():
        there = theirs[number]
        if prompt is not None and there is not None and not _same_prompt(prompt, there):
            raise ValueError(
                f"{names} are not on the same prompts: prompt_id {number} is {prompt[:80]!r} and "
                f"{there[:80]!r}. Sample both on the same prompts of the same data set."
            )


def _same_prompt(first: str, other: str) -> bool:
    """Whether two prompts are equal; the keys of a chat's messages may come in any order."""
    if first == other or not (first.startswith("[{") and other.startswith("[{")):
        return first == other
    try:
        return bool(json.loads(first) == json.loads(other))
    except ValueError:
        return False


def _reordered(run: Rollouts, prompt_ids: np.ndarray) -> Rollouts:
    if np.array_equal(run.prompt_ids, prompt_ids):
        return run
    place = {number: row for row, number in enumerate(run.prompt_ids.tolist())}
    return run.take(np.array([place[number] for number in prompt_ids.tolist()]))

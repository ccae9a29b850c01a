"""Compare runs on the same prompts: refuse what was sampled differently, pair the differences."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tailgrad.curves.runs import Run
from tailgrad.curves.settings import differences, edited_reward, names_of


def comparable_runs(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Bring runs into one order of prompts, after checking that they may be compared.

    What must agree is the number of responses per prompt, what picks the best, the prompts, and every field of
    `Run.sampling`: of a rollout table those of `tailgrad.curves.settings.COMPARED`. Runs that record no field at
    all cannot be checked by these; `unchecked` says so.

    Args:
        runs: At least one run.

    Returns:
        The runs with their prompts in the order of the first run.

    Raises:
        ValueError: If there is no run, or two runs differ in the number of responses per prompt, a field of
            `sampling` or their prompts; the message names the field and both values.

    Examples:
        >>> rewards = np.array([[0.0], [1.0]])
        >>> first = Run("base", prompt_ids=np.array([0, 1]), prompts=["a", "b"], rewards=rewards)
        >>> second = Run("tea", prompt_ids=np.array([1, 0]), prompts=["b", "a"], rewards=rewards)
        >>> comparable_runs([first, second])[1].prompts
        ['a', 'b']
    """
    if not runs:
        raise ValueError("there is no run to evaluate: give at least one.")
    first = runs[0]
    recorded = [run for run in runs if run.sampling]
    for other in recorded[1:]:
        _check_sampling(recorded[0], other)
    for other in runs[1:]:
        _check_choice(first, other)
        _check_prompts(first, other)
    return (first, *(_reordered(run, first.prompt_ids) for run in runs[1:]))


def unchecked(runs: Sequence[Run]) -> list[str]:
    """Say which of the runs record nothing of how they were sampled and scored, and which a reward that was edited.

    Args:
        runs: Runs that are compared.

    Returns:
        Sentences, each of what was not checked.

    Examples:
        >>> fields = {"prompt_ids": np.array([0]), "prompts": ["a"], "rewards": np.zeros((1, 2))}
        >>> unchecked([Run("base", sampling={"temperature": 1.0}, **fields), Run("tea", **fields)])
        ['Not checked for tea, which does not record it: temperature.']
    """
    recorded = [run for run in runs if run.sampling]
    silent = dict.fromkeys(run.name for run in runs if not run.sampling)
    notes = []
    if len(runs) > 1 and silent:
        who = f"{', '.join(silent)}, which {'does' if len(silent) == 1 else 'do'} not record it"
        notes.append(f"Not checked for {who}: {', '.join(names_of([run.sampling for run in runs]))}.")
    edited = [run.name for run in recorded[1:] if edited_reward(recorded[0].sampling, run.sampling)]
    if edited:
        notes.append(
            f"The reward {recorded[0].sampling.get('reward')!r} is not the same in {recorded[0].name} and "
            f"{', '.join(dict.fromkeys(edited))}: its files or its model changed in between. If that moved a score, "
            "score one of the tables anew with `tailgrad score --selection reward`."
        )
    return notes


def to_one_reference(runs: Sequence[Run]) -> tuple[tuple[Run, ...], list[str]]:
    """Leave out the KL where the runs' KL are to different reference policies: such numbers cannot stand side by side.

    Args:
        runs: Runs that are compared.

    Returns:
        The runs, and one sentence that says what was left out or none.

    Examples:
        >>> from tailgrad.curves.runs import Reference
        >>> fields = {"prompt_ids": np.array([0]), "prompts": ["a"], "rewards": np.zeros((1, 2)), "kl": np.ones(1)}
        >>> base, tea = (Run(name, reference=Reference(f"{name}-sft", None), **fields) for name in ("base", "tea"))
        >>> runs, notes = to_one_reference([base, tea])
        >>> [run.kl for run in runs], notes[0][:53]
        ([None, None], "KL is left out: it is to 'base-sft' for base and 'tea")
    """
    known = [run for run in runs if run.kl is not None]
    if all(run.reference is known[0].reference is None or _same_reference(known[0], run) for run in known):
        return tuple(runs), []
    other = next(run for run in known if not _same_reference(known[0], run))
    both = " and ".join(f"{_reference_text(run)} for {run.name}" for run in (known[0], other))
    note = f"KL is left out: it is to {both}. Sample all with one --reference_model to compare it."
    return tuple(replace(run, kl=None) for run in runs), [note]


def _same_reference(first: Run, other: Run) -> bool:
    return first.reference is not None and first.reference.same_as(other.reference)


def _reference_text(run: Run) -> str:
    if run.reference is None:
        return "an unknown reference policy"
    content = run.reference.content
    return repr(run.reference.name) + (f" ({content[:12]})" if content else "")


def _check_choice(first: Run, other: Run) -> None:
    if first.n != other.n:
        raise ValueError(_refusal(first, other, "n", first.n, other.n))
    if (first.selection is None) != (other.selection is None):
        picked_by = ["the reward itself" if run.selection is None else "another reward" for run in (first, other)]
        raise ValueError(_refusal(first, other, "what picks the best response", *picked_by))


def _check_sampling(first: Run, other: Run) -> None:
    found = differences({**first.sampling, "n": first.n}, {**other.sampling, "n": other.n})
    if found:
        raise ValueError(_refusal(first, other, *found[0]))


def _refusal(first: Run, other: Run, name: str, ours: object, theirs: object) -> str:
    return (
        f"runs {first.name!r} and {other.name!r} were sampled differently: {name} is {ours!r} and {theirs!r}. "
        "Their best-of-N values cannot be compared; sample both with the same settings."
    )


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
    if np.array_equal(run.prompt_ids, prompt_ids):
        return run
    place = {number: row for row, number in enumerate(run.prompt_ids.tolist())}
    rows = np.array([place[number] for number in prompt_ids.tolist()])

    def take(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows]

    return replace(
        run,
        prompt_ids=prompt_ids,
        prompts=[run.prompts[row] for row in rows],
        rewards=run.rewards[rows],
        distinct=take(run.distinct),
        num_tokens=take(run.num_tokens),
        finished=take(run.finished),
        kl=take(run.kl),
        selection=take(run.selection),
    )

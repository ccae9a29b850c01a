"""The answers that are judged: of each table the best of N, on the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailgrad.curves import Rollouts
from tailgrad.curves.pairing import on_same_prompts, unchecked
from tailgrad.curves.settings import differences


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt.

    Attributes:
        prompt_id: What tells the prompts apart.
        prompt: Its text; a chat as JSON.
        draw: Which of the groups of N responses they are the best of, from 0.
        answers: That of the first table and that of the second; None where no response of the group has a reward.
    """

    prompt_id: Any
    prompt: str
    draw: int
    answers: tuple[str | None, str | None]

    @property
    def is_there(self) -> bool:
        """Whether both tables have an answer."""
        return None not in self.answers

    @property
    def is_alike(self) -> bool:
        """Whether the two are the same text, which is a tie that nobody needs to be asked about."""
        return self.is_there and self.answers[0] == self.answers[1]


@dataclass(frozen=True)
class Match:
    """All pairs of two tables.

    Attributes:
        names: The tables; the first is the reference.
        deploy_n: N.
        draws: Pairs per prompt.
        pairs: Prompt by prompt, and draw by draw within one.
        notes: What differs between the tables, or could not be checked, in sentences.
    """

    names: tuple[str, str]
    deploy_n: int
    draws: int
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_prompts(self) -> int:
        """The prompts."""
        return len(self.pairs) // self.draws


def match_answers(
    reference: Rollouts,
    other: Rollouts,
    *,
    deploy_n: int | None = None,
    draws: int = 1,
    limit: int | None = None,
    seed: int = 0,
) -> Match:
    """Pick the best of N of two tables, prompt by prompt.

    The first N responses to a prompt give its first answer, the next N the second, up to `draws`: they are drawn
    independently, so that more of them make the mean over a policy's answers less noisy. The best is the one with the
    largest reward (of what the table says picks the best); of responses that are equally large one is drawn, all with
    the same probability. Responses without a reward are never picked.

    Args:
        reference: The first table, with responses.
        other: The second one.
        deploy_n: N; None: as many as every prompt of both tables has.
        draws: Answers per prompt.
        limit: Prompts that are taken, the first ones of the first table; None: all.
        seed: Of the draws between equal rewards.

    Returns:
        The pairs.

    Raises:
        ValueError: The tables have the same name or other prompts, lack prompts or responses, or a prompt has fewer
            than `deploy_n * draws` responses.

    Examples:
        >>> of = {"prompts": ["the sea"], "responses": [["grey", "blue", "wet"]]}
        >>> base, tea = (Rollouts(np.array([rewards]), name=name, **of) for name, rewards in
        ...              (("base", [0.0, 2.0, 1.0]), ("tea", [0.0, 1.0, 2.0])))
        >>> match_answers(base, tea, deploy_n=2).pairs[0].answers, match_answers(base, tea).pairs[0].answers
        (('blue', 'blue'), ('blue', 'wet'))
    """
    if reference.name == other.name:
        raise ValueError(f"both tables are named {other.name!r}: name them apart with --names.")
    both = (reference, on_same_prompts(reference, other))
    if limit is not None:
        rows = np.arange(min(limit, len(reference.prompt_ids)))
        both = (both[0].take(rows), both[1].take(rows))
    deploy_n = min(int(table.counts.min()) for table in both) // draws if deploy_n is None else deploy_n
    for table in both:
        _check_counts(table, deploy_n, draws)
    picked = [_picked(table, deploy_n, draws, [seed, place]) for place, table in enumerate(both)]
    prompts, ids = both[0].known("prompts"), both[0].prompt_ids.tolist()
    pairs = [
        Pair(ids[row], prompts[row], draw, (picked[0][row][draw], picked[1][row][draw]))
        for row in range(len(ids))
        for draw in range(draws)
    ]
    return Match((reference.name, other.name), deploy_n, draws, tuple(pairs), tuple(_notes(*both)))


def _check_counts(table: Rollouts, deploy_n: int, draws: int) -> None:
    few = int(table.counts.argmin())
    if deploy_n < 1 or table.counts[few] < deploy_n * draws:
        raise ValueError(
            f"rollouts {table.name!r} have {table.counts[few]} responses to prompt {table.prompt_ids[few]}; "
            f"{draws} {'answer' if draws == 1 else 'answers'} of the best of {max(deploy_n, 1)} take "
            f"{max(deploy_n, 1) * draws}. Give a smaller --deploy_n or --draws, or sample more."
        )


def _picked(table: Rollouts, deploy_n: int, draws: int, seed: Sequence[int]) -> list[list[str | None]]:
    """The best of every group of N, by prompt and draw."""
    texts = table.known("responses")
    rewards = table.rewards if table.selection_rewards is None else np.asarray(table.selection_rewards, dtype=float)
    groups = rewards[:, : deploy_n * draws].reshape(len(rewards), draws, deploy_n)
    draw_of = np.random.default_rng(seed)
    found: list[list[str | None]] = []
    for row, of_prompt in enumerate(groups):
        places = [_largest(group, draw_of) for group in of_prompt]
        found.append([None if at is None else texts[row][n * deploy_n + at] for n, at in enumerate(places)])
    return found


def _largest(rewards: np.ndarray, draw_of: np.random.Generator) -> int | None:
    """The place of the largest number, of several one by chance; None where all are NaN."""
    if np.isnan(rewards).all():
        return None
    best = np.flatnonzero(rewards == np.nanmax(rewards))
    return int(best[draw_of.integers(len(best))])


def _notes(first: Rollouts, other: Rollouts) -> list[str]:
    """What a reader should know of how the two came about: a judge compares answers, however they were made."""
    found = differences(first.sampling, other.sampling) if first.sampling and other.sampling else []
    differ = [
        f"{name} is {ours!r} for {first.name} and {theirs!r} for {other.name}"
        for name, ours, theirs in found
        if name != "n" and not name.startswith("dataset")
    ]
    said = [f"The tables were not sampled or scored alike: {'; '.join(differ)}."] if differ else []
    return said + unchecked([first, other])

"""The trainings that follow the plan: its choice against GRPO and against TEA, each as `tailgrad train` has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from tailgrad.display.cells import aligned, decimals_of, interval_cell
from tailgrad.grid import read_grid
from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.frontier import best_within_kl, over_steps, without_start
from tailgrad.grid.gather import Method, methods_of, settings
from tailgrad.grid.results import read_results
from tailgrad.grid.trainings import BASE
from tailgrad.statistics import paired_difference
from tailgrad.statistics.intervals import mean_interval

EXPERIMENTS: Final = Path(__file__).parent.parent
GRPO, TEA = "grpo", "tea"


@dataclass(frozen=True)
class Round:
    """A reward, and what the plan takes for it.

    Attributes:
        name: How the table calls it.
        path: The grid of GRPO and TEA, from the folder of the experiments.
        choice: The plan's estimator.
        choice_path: The grid of the choice where it is another one, as its m is.
    """

    name: str
    path: str
    choice: str
    choice_path: str = ""


ROUNDS: Final = (
    Round("quickstart", "quickstart/grid-twelve.yaml", GRPO),
    Round("verifier", "small-instruct/tier3-peers.yaml", GRPO),
    Round("reward model", "small-instruct/planned-reward-model.yaml", GRPO),
    Round(
        "reward model, with the report",
        "small-instruct/planned-reward-model.yaml",
        "max_at_k:k=4",
        "small-instruct/planned-reward-model-m32.yaml",
    ),
    Round("larger model's score", "small-instruct/planned-lm-score.yaml", GRPO),
    Round("larger model's score, with the report", "small-instruct/planned-lm-score.yaml", "dr_grpo"),
)


@dataclass(frozen=True, eq=False)
class Followed:
    """What a round showed.

    Attributes:
        of: The round.
        m: Rollouts per prompt of the choice.
        last: V_128 of GRPO, TEA and the choice at the end, on the test prompts; first the starting policy's.
        nats: Their KL divergence at the end, mean over seeds and prompts.
        reached: The KL divergence that all three reach with every seed.
        within: V_128 of the best policy of each along training, within it; empty where one was never measured there.
    """

    of: Round
    m: int
    last: list[Float[np.ndarray, "S P"]]
    nats: list[float]
    reached: float
    within: list[Float[np.ndarray, "S P"]]


def followed(of: Round) -> Followed | None:
    """Read what a round showed; None until it is finished."""
    peers = _methods(of.path)
    chosen = _methods(of.choice_path or of.path)
    if not {BASE, GRPO, TEA} <= set(peers) or of.choice not in chosen:
        return None
    three = [peers[GRPO], peers[TEA], chosen[of.choice]]
    config = read_grid(EXPERIMENTS / (of.choice_path or of.path))
    ((m, deploy_n),) = config.m_and_n
    if any(len(method.seeds) < len(config.seeds) for method in three):
        return None
    points = [without_start(over_steps({"": method}, deploy_n))[""] for method in three]
    reached = min(kl.max(axis=1).min() for kl, _ in points)
    entered = max(kl.min(axis=1).max() for kl, _ in points)
    last = [method.v_n(config.steps, [deploy_n])[..., 0] for method in three]
    nats = [float(method.measure(config.steps, "kl").mean()) for method in three]
    within = [best_within_kl(*path, reached) for path in points] if entered <= reached else []
    return Followed(of, m, [peers[BASE].v_n(0, [deploy_n])[..., 0], *last], nats, float(reached), within)


def _methods(path: str) -> dict[str, Method]:
    """The starting policy and the finished estimators of a grid on one reward."""
    config = read_grid(EXPERIMENTS / path)
    rows = read_results(config.results) if config.results.exists() else []
    (setting,) = (one for one in settings(config) if one.reward == one.scored_by)
    return methods_of(config, setting, chosen_trainings(config, rows), {row["key"]: row for row in rows})


def end_table(found: Sequence[Followed]) -> str:
    """What following the plan gained over GRPO and over TEA at the end of training."""
    heading = ["reward", "the plan takes", "start", "GRPO", "TEA", "choice", "choice less GRPO", "choice less TEA"]
    return aligned([heading, *(_end_line(one) for one in found)])


def _end_line(one: Followed) -> list[str]:
    means = [mean_interval(values[..., None]) for values in one.last]
    start, *ends = (interval_cell(mean, 0, min(decimals_of(means), 3)) for mean in means)
    ends = [f"{cell} at {nats:.{int(nats < 10)}f} nats" for cell, nats in zip(ends, one.nats, strict=True)]
    return [one.of.name, f"`{one.of.choice}`, m = {one.m}", start, *ends, *_gaps(one, one.last[1:])]


def within_table(found: Sequence[Followed]) -> str:
    """The same of the best policy along training within the KL divergence that all three reach with every seed."""
    heading = ["reward", "the plan takes", "within", "choice less GRPO", "choice less TEA"]
    lines = [
        [one.of.name, f"`{one.of.choice}`, m = {one.m}", f"{one.reached:.3g} nats", *_gaps(one, one.within)]
        for one in found
        if one.within
    ]
    return aligned([heading, *lines])


def _gaps(one: Followed, values: Sequence[np.ndarray]) -> list[str]:
    """The choice less GRPO and less TEA."""
    grpo, tea, choice = values
    others = [grpo, tea]
    gaps = [paired_difference(choice[..., None], other[..., None]) for other in others]
    cells = [interval_cell(gap, 0, min(decimals_of(gaps), 3), "+") for gap in gaps]
    return ["it is GRPO" if one.of.choice == GRPO else cells[0], cells[1]]

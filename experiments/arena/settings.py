"""The settings of the arena, drawn from a fixed seed and split into a choosing and a reporting half."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SEED = 13
PARTS = ("choosing", "reporting", "fresh")
"""Two halves of one draw, and a second draw that was made when contenders, choice and tables were fixed."""
SHAPES = {"gaussian": 8, "exponential": 6, "skewed_left": 6} | dict.fromkeys(
    ("uniform", "student_t3", "capped", "mixture", "tied"), 4
)
"""Shapes of the bandits' graded rewards, and how many settings have each."""
GROUPS = ((4, 32), (4, 128), (8, 16), (8, 64), (16, 8), (16, 32), (16, 32), (16, 64), (64, 8), (64, 64)) * 4
"""Rollouts per prompt and prompts per step: 128 to 4,096 rollouts."""


@dataclass(frozen=True)
class Setting:
    """One task with one way of training on it."""

    name: str
    world: str
    """"bandit" or "sequence"."""
    shape: str
    m: int
    batch: int
    """Prompts per step."""
    deploy_n: int
    spread: float = 0.0
    """How movable the spread is, against the location; bandits only."""
    scale_sd: float = 0.0
    """Standard deviation over prompts of the logarithm of the rewards' scale."""
    seed: int = 0
    part: str = ""


def all_settings() -> list[Setting]:
    """Every setting: 40 graded bandits, 6 with 0/1 rewards; 8 graded sequence tasks, 4 with 0/1 rewards.

    Settings of the same world and shape go to the halves in turn, in an order drawn from the seed. Of a second draw the
    settings in the reporting half's places are the fresh ones.
    """
    again = [replace(one, name=f"f{one.name}", part=PARTS[2]) for one in _draw(SEED + 1, 200) if one.part == PARTS[1]]
    return [*_draw(SEED, 100), *again]


def _draw(seed: int, first: int) -> list[Setting]:
    generator = np.random.default_rng(seed)
    drawn = [*_graded(generator), *_binary(), *_sequences(), *_binary_sequences()]
    found: list[Setting] = []
    for kind in dict.fromkeys((setting.world, setting.shape) for setting in drawn):
        members = [setting for setting in drawn if (setting.world, setting.shape) == kind]
        for index in generator.permutation(len(members)):
            setting, place = members[index], len(found)
            name = f"{place:02d}-{setting.world}-{setting.shape}-m{setting.m}-N{setting.deploy_n}"
            found.append(replace(setting, name=name, seed=first + place, part=PARTS[place % 2]))
    return found


def _graded(generator: np.random.Generator) -> list[Setting]:
    """A balanced design: every level as often as it is listed, the columns shuffled against each other."""
    groups = [GROUPS[i] for i in generator.permutation(len(GROUPS))]
    spreads = generator.permutation((0.2, 0.4, 0.6, 1.0) * 10)
    scales = generator.permutation((0.0, 0.5, 0.5, 1.0) * 10)
    shapes = [shape for shape, count in SHAPES.items() for _ in range(count)]
    found = []
    for index, shape in enumerate(shapes):
        m, batch = groups[index]
        budgets = [n for n in (32, 128, 128, 512) if n >= 2 * m]
        deploy_n = int(generator.choice(budgets))
        found.append(Setting("", "bandit", shape, m, batch, deploy_n, float(spreads[index]), float(scales[index])))
    return found


def _binary() -> list[Setting]:
    groups = ((8, 64, 32, 0.4), (16, 32, 128, 0.2), (16, 32, 128, 0.6), (64, 16, 128, 0.4))
    groups = (*groups, (4, 64, 32, 0.4), (32, 16, 128, 0.2))
    return [Setting("", "bandit", "success", m, batch, n, spread) for m, batch, n, spread in groups]


def _sequences() -> list[Setting]:
    rows = (
        ("gaussian", 8, 16, 32),
        ("gaussian", 16, 32, 128),
        ("exponential", 32, 8, 128),
        ("mixture", 8, 32, 128),
        ("exponential", 16, 16, 128),
        ("capped", 16, 16, 128),
        ("uniform", 16, 32, 128),
        ("tied", 8, 32, 32),
    )
    return [Setting("", "sequence", shape, m, batch, n, scale_sd=0.5) for shape, m, batch, n in rows]


def _binary_sequences() -> list[Setting]:
    groups = ((8, 32, 32), (16, 16, 128), (16, 32, 128), (32, 8, 128))
    return [Setting("", "sequence", "success", m, batch, n) for m, batch, n in groups]

"""The trainings of a grid, what is measured of each, and the key under which a measurement is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Final

from tailgrad.estimators import find_estimator, parse_estimator
from tailgrad.grid.config import GridConfig
from tailgrad.identity import sha256_of
from tailgrad.rollouts.generation import TRAINING_DEFAULTS

BASE = "base"

_SAMPLE_OF_OLD: Final = {"max_completion_length": "max_new_tokens", "model_revision": "revision"}
_TRAIN_OF_OLD: Final = {
    f"reward_{name}": f"reward_model_{name}" for name in ("batch_size", "max_length", "dtype", "input_format")
}
"""Keys are made of options as version 0.1 named them, so that what was measured then is found."""


@dataclass(frozen=True)
class Training:
    """One training; `estimator` "base" with no rollouts stands for the starting policy as it is.

    Attributes:
        policy: Name of the starting policy.
        reward: Name of the reward trained on.
        prompts: Name of the prompt set.
        estimator: Estimator with its options.
        m: Rollouts per prompt.
        deploy_n: N; None for an estimator that does not know it, whose training serves every N.
        kl_weight: `beta`.
        learning_rate: The learning rate.
        seed: The training seed.
    """

    policy: str
    reward: str
    prompts: str
    estimator: str
    m: int = 0
    deploy_n: int | None = None
    kl_weight: float = 0.0
    learning_rate: float = 0.0
    seed: int = 0

    def label(self, config: GridConfig) -> str:
        """A readable and unique name for folders and logs."""
        parts = [self.policy, self.reward, self.prompts, self.estimator]
        if self.estimator != BASE:
            parts += [f"m{self.m}", f"lr{self.learning_rate:g}", f"kl{self.kl_weight:g}", f"seed{self.seed}"]
        return re.sub(r"[^\w.-]", "-", "-".join(parts)) + "-" + key_of(config, self)[:6]


@dataclass(frozen=True)
class Measurement:
    """What is sampled of a trained policy.

    Attributes:
        split: "choose" or "test".
        step: After how many optimisation steps.
        n: Responses per prompt.
        scored_by: Name of the reward.
        limit: Only so many prompts; None is all.
    """

    split: str
    step: int
    n: int
    scored_by: str
    limit: int | None = None


def key_of(config: GridConfig, training: Training, measurement: Measurement | None = None) -> str:
    """A key that changes with everything that a result depends on, but for the machine and the files' contents."""
    described: dict[str, Any] = {"training": asdict(training)}
    if training.estimator != BASE:
        described |= {"train": _as_of_old(config.train, _TRAIN_OF_OLD), "prompts_a_step": config.prompts_per_step}
    elif shaping := shaping_of_trainings(config):
        described["shaping"] = _as_of_old(shaping, _SAMPLE_OF_OLD)
    if measurement is not None:
        described |= {"measurement": asdict(measurement), "sample": _as_of_old(config.sample, _SAMPLE_OF_OLD)}
    return sha256_of(described)[:16]


def _as_of_old(options: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Options by the names that they had when the first results were kept."""
    return {names.get(name, name): value for name, value in options.items()}


def shaping_of_trainings(config: GridConfig) -> dict[str, Any]:
    """What shapes the responses of the trainings, as options of `sample`: a starting policy is sampled like them.

    What `sample` sets itself is left out, and so are TRL's defaults.
    """
    train = {name: config.train[name] for name in config.train if config.train[name] is not None}
    names = ("max_completion_length", "chat_template_kwargs", "temperature", "top_p", "top_k")
    shaping = {name: train[name] for name in names if name in train}
    others = {name: train[name] for name in ("min_p", "repetition_penalty") if name in train}
    given = train.get("generation_kwargs") or {}
    shaping["generation_kwargs"] = others | dict(json.loads(given) if isinstance(given, str) else given)
    defaults = TRAINING_DEFAULTS | {"max_completion_length": TRAINING_DEFAULTS["max_new_tokens"]}
    defaults |= {"generation_kwargs": {}}
    return {name: value for name, value in shaping.items() if name not in config.sample and value != defaults.get(name)}


def cells(config: GridConfig) -> list[Training]:
    """One training per cell of the grid, without what is chosen for it and without seed, each only once."""
    found: dict[Training, None] = {}
    weights = config.betas[:1] if config.choose_beta else config.betas
    for policy, reward, prompts, (m, deploy_n), weight, estimator in product(
        config.policies, config.rewards, config.prompts, config.m_and_n, weights, config.estimators
    ):
        known = find_estimator(parse_estimator(estimator)[0]).takes_deploy_n
        found[Training(policy, reward, prompts, estimator, m, deploy_n if known else None, weight)] = None
    return list(found)


def trials(config: GridConfig) -> list[Training]:
    """What every cell is chosen from."""
    return [training for cell in cells(config) for training in candidates(config, cell)]


def candidates(config: GridConfig, cell: Training) -> list[Training]:
    """What one cell is chosen from, with the first seed: every learning rate, and every KL weight where that is chosen.

    What moves the policy least comes first: small rates, and of one rate the largest weight.
    """
    weights = sorted(config.betas, reverse=True) if config.choose_beta else [cell.kl_weight]
    pairs = product(sorted(config.learning_rates), weights)
    return [replace(cell, learning_rate=rate, kl_weight=weight, seed=config.seeds[0]) for rate, weight in pairs]


def bases(config: GridConfig) -> list[Training]:
    """The starting policies, on every prompt set and reward."""
    return [Training(*names, BASE) for names in product(config.policies, config.rewards, config.prompts)]


def choosing(config: GridConfig, training: Training) -> list[Measurement]:
    """What learning rate and KL weight are chosen by."""
    return [Measurement("choose", config.steps, config.choose_n, training.reward)]


def testing(config: GridConfig, training: Training) -> Iterator[Measurement]:
    """What is reported of a training, or of a starting policy."""
    scored_by = dict.fromkeys([training.reward, *config.also_score])
    limit = config.test_limit
    if training.estimator == BASE:
        yield from (Measurement("test", 0, config.test_n, name, limit) for name in scored_by)
        return
    for step in config.checkpoints:
        yield Measurement("test", step, config.checkpoint_n, training.reward, limit)
    yield from (Measurement("test", config.steps, config.test_n, name, limit) for name in scored_by)

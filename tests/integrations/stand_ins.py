"""The parts of verl, SkyRL and rLLM that the adapters import, with the signatures that these have.

Read in: verl 0.9.1, `verl/trainer/ppo/core_algos.py`, `verl/trainer/ppo/ray_trainer.py` (`compute_advantage`) and
`verl/trainer/config/algorithm.py`; SkyRL at a956457, `skyrl/backends/skyrl_train/utils/ppo_utils.py`; rLLM at 9beb6e0,
`rllm/trainer/algorithms/advantage.py` and `config.py`. verl and SkyRL themselves are tried by `make check-verl` and
`make check-skyrl`.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import make_dataclass
from enum import Enum, StrEnum
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch

ALGORITHM_OF_VERL: dict[str, Any] = {
    "gamma": 1.0,
    "lam": 1.0,
    "adv_estimator": "gae",
    "norm_adv_by_std_in_grpo": True,
    "use_kl_in_reward": False,
    "kl_penalty": "kl",
    "kl_ctrl": None,
    "use_pf_ppo": False,
    "pf_ppo": None,
    "filter_groups": None,
    "rollout_correction": None,
    "gdpo_reward_keys": None,
    "gdpo_reward_weights": None,
}


@contextmanager
def modules(adapter: str, **contents: dict[str, Any]) -> Iterator[ModuleType]:
    """The adapter of this name, imported anew beside modules with these contents; dots are written as `__`."""
    before = dict(sys.modules)
    for name, content in contents.items():
        parts = name.split("__")
        for depth in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:depth]), ModuleType(".".join(parts[:depth])))
        vars(sys.modules[".".join(parts)]).update(content)
    try:
        yield importlib.import_module(f"tailgrad.integrations.{adapter}")
    finally:
        stood_in = {name.partition("__")[0] for name in contents}
        for name in sys.modules.keys() - before.keys():  # a library that was loaded meanwhile stays
            if name.partition(".")[0] in stood_in or name.startswith("tailgrad.integrations."):
                del sys.modules[name]
        package = importlib.import_module("tailgrad.integrations")
        vars(package).pop(adapter, None)


@contextmanager
def verl() -> Iterator[SimpleNamespace]:
    """verl with two estimators of its own; `compute_advantage(rewards, mask, uid, **algorithm)` calls as it does."""
    registry: dict[str, Any] = {"grpo": "verl's own", "rloo": "verl's own"}

    def register_adv_est(name: str) -> Any:
        def decorator(function: Any) -> Any:
            if name in registry and registry[name] != function:
                raise ValueError(f"Adv estimator {name} has already been registered")
            registry[name] = function
            return function

        return decorator

    def compute_advantage(
        rewards: torch.Tensor, mask: torch.Tensor, uid: np.ndarray | None, **algorithm: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        config = ALGORITHM_OF_VERL | algorithm
        given = {"token_level_rewards": rewards, "response_mask": mask, "config": config}
        given |= {} if uid is None else {"index": uid}
        return registry[config["adv_estimator"]](**given)

    core = {"ADV_ESTIMATOR_REGISTRY": registry, "register_adv_est": register_adv_est}
    config = {"AlgoConfig": make_dataclass("AlgoConfig", list(ALGORITHM_OF_VERL))}
    with modules("verl", verl__trainer__ppo__core_algos=core, verl__trainer__config=config) as adapter:
        yield SimpleNamespace(adapter=adapter, registry=registry, compute_advantage=compute_advantage)


@contextmanager
def skyrl() -> Iterator[SimpleNamespace]:
    """SkyRL; `compute(rewards, mask, uids, name)` calls an estimator as it does."""

    class AdvantageEstimator(StrEnum):
        GAE = "gae"
        GRPO = "grpo"
        RLOO = "rloo"
        REINFORCE_PP = "reinforce++"
        MAXRL = "maxrl"

    class AdvantageEstimatorRegistry:
        functions: ClassVar[dict[str, Any]] = {}

        @classmethod
        def register(cls, name: str, func: Any) -> None:
            if name in cls.functions:
                raise ValueError(f"advantage estimator '{name}' already registered")
            cls.functions[name] = func

    def compute(rewards: torch.Tensor, mask: torch.Tensor, uids: list[str], name: str) -> Any:
        others = {"values": None, "grpo_norm_by_std": True, "gamma": 1.0, "lambd": 1.0, "config": None}
        function = AdvantageEstimatorRegistry.functions[name]
        return function(token_level_rewards=rewards, response_mask=mask, index=uids, **others)

    content = {"AdvantageEstimator": AdvantageEstimator, "AdvantageEstimatorRegistry": AdvantageEstimatorRegistry}
    with modules("skyrl", skyrl__backends__skyrl_train__utils__ppo_utils=content) as adapter:
        yield SimpleNamespace(adapter=adapter, registry=AdvantageEstimatorRegistry.functions, compute=compute)


@contextmanager
def rllm() -> Iterator[SimpleNamespace]:
    """rLLM; `compute(groups, name)` calls the estimator that its configuration's name leads to."""

    class Estimator(str, Enum):  # noqa: UP042 - as rLLM does
        GRPO = "grpo"
        REINFORCE = "reinforce"
        RLOO = "rloo"
        OTHER = "other"

        @classmethod
        def _missing_(cls, value: object) -> "Estimator":
            return cls.OTHER

    registry: dict[Any, Any] = {Estimator.GRPO: "rLLM's own", Estimator.RLOO: "rLLM's own"}

    def register_rllm_adv_estimator(name: str) -> Any:
        def decorator(function: Any) -> Any:
            registry[name] = function
            return function

        return decorator

    def compute(groups: list[np.ndarray], name: Any) -> Any:
        return registry[name](rewards=groups, algorithm_config=None, traj_groups=None)

    advantage = {"register_rllm_adv_estimator": register_rllm_adv_estimator}
    config = {"rLLMAdvantageEstimator": Estimator}
    with modules(
        "rllm", rllm__trainer__algorithms__advantage=advantage, rllm__trainer__algorithms__config=config
    ) as adapter:
        yield SimpleNamespace(adapter=adapter, registry=registry, compute=compute, names=Estimator)

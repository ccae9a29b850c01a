"""verl's adapter against the signatures of verl 0.9.1 (`stand_ins.py`); verl itself is in `verl_itself/`."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stand_ins import verl

from tailgrad.estimators import ESTIMATORS, tea

ROOT = Path(__file__).resolve().parents[2]
UID = np.array(["x", "y"] * 8, dtype=object)
REWARDS = torch.zeros(16, 3)
REWARDS[:, 1] = torch.arange(16.0).square()
MASK = torch.tensor([[1, 1, 0]]).repeat(16, 1)


@pytest.fixture
def host() -> Iterator[SimpleNamespace]:
    with verl() as found:
        yield found


def test_every_estimator_is_registered_and_none_of_verls_own_is_replaced(host: SimpleNamespace) -> None:
    names = host.adapter.register()
    assert names.keys() == ESTIMATORS.keys()
    assert {name for name in names if names[name] != name} == {"grpo", "rloo"}
    assert names["grpo"] == "tailgrad_grpo"
    assert (host.registry["grpo"], host.registry["rloo"]) == ("verl's own",) * 2
    assert host.registry.keys() == {"grpo", "rloo", *names.values()}


def test_five_lines_of_verl_give_tea(host: SimpleNamespace) -> None:
    advantages, _ = host.compute_advantage(REWARDS, MASK, UID, adv_estimator="tea", deploy_n=64, tail_fraction=0.5)
    table = REWARDS[:, 1].view(8, 2).T
    expected = tea(table, deploy_n=64, tail_fraction=0.5).T.flatten()
    torch.testing.assert_close(advantages, expected[:, None] * MASK)


def test_n_is_128_unless_it_is_given(host: SimpleNamespace) -> None:
    at_128 = host.compute_advantage(REWARDS, MASK, UID, adv_estimator="prefix_tea", deploy_n=128, tail_fraction=1.0)
    default = host.compute_advantage(REWARDS, MASK, UID, adv_estimator="prefix_tea", tail_fraction=1.0)
    assert torch.equal(at_128[0], default[0])


def test_verls_own_gamma_is_no_option_of_ours(host: SimpleNamespace) -> None:
    binary, names = (REWARDS > 9).float(), {"adv_estimator": "f_grpo"}
    one, half = (host.compute_advantage(binary, MASK, UID, **names, gamma=gamma)[0] for gamma in (1.0, 0.5))
    assert torch.equal(one, half)


@pytest.mark.parametrize(
    ("algorithm", "error"),
    [
        ({"adv_estimator": "tea", "k": 3}, "tea takes no option algorithm.k: it belongs to max_at_k"),
        ({"adv_estimator": "tea", "tail_fracton": 0.5}, "no option algorithm.tail_fracton: did you mean tail_fraction"),
        ({"adv_estimator": "tea", "deploy_n": "many"}, "algorithm.adv_estimator=tea: .*deploy_n must be of type"),
        ({"adv_estimator": "max_at_k"}, r"needs the option k: .*\+algorithm.OPTION=VALUE"),
        ({"adv_estimator": "tea", "advantage_scaling": "std"}, "advantage_scaling = 'std' is unknown"),
        ({"adv_estimator": "tea", "tail_fraction": 3.0}, "tail_fraction"),
        ({"adv_estimator": "prefix_tea"}, "needs 12 rollouts per prompt, and the largest group .* has 8"),
    ],
)
def test_wrong_options_are_one_clear_error(host: SimpleNamespace, algorithm: dict, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        host.compute_advantage(REWARDS, MASK, UID, **algorithm)


def test_keys_of_other_plugins_are_left_alone(host: SimpleNamespace) -> None:
    given = {"_target_": "verl.trainer.config.AlgoConfig", "dataflex": {"warmup": 3}, "rescorer": None}
    assert host.compute_advantage(REWARDS, MASK, UID, adv_estimator="tea", **given)[0].any()


def test_a_batch_without_prompts_is_an_error(host: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="does not say which"):
        host.compute_advantage(REWARDS, MASK, None, adv_estimator="tea")


def test_the_entry_point_leads_to_the_adapter() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["verl.plugins"]
    assert points == {"tailgrad": "tailgrad.integrations.verl"}
    assert (ROOT / "src" / "tailgrad" / "integrations" / "verl.py").is_file()

"""A prior is of the reward that serves, or it is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from best_of_n_servers import Scripted, length, number_of
from tailgrad.rollouts.table import write_table
from tailgrad.serving import BestOfN, ServeConfig
from tailgrad.serving.expected_gain import expected_gain
from tailgrad.serving.prior_table import read_prior
from tailgrad.serving.priors import LevelPrior, SpreadPrior, prior_of
from tailgrad.serving.service import Service
from tailgrad.serving.tail_stopping import TailStopping

P, N = 24, 16
SHAPING = {"temperature": 0.7, "max_new_tokens": 8}
MINE = {"reward": "number_of", "reward_weights": None, "reward_options": {}, "reward_files": ["1f"]}


def rewards_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(P, N))


def table(path: Path, metadata: dict[str, Any], rewards: np.ndarray, **columns: np.ndarray) -> str:
    """A rollout table as `tailgrad sample` or `tailgrad score` writes it."""
    count = rewards.size
    rows: dict[str, Any] = {
        "prompt_id": np.repeat(np.arange(P), N).tolist(),
        "prompt": [f"prompt {i}" for i in np.repeat(np.arange(P), N)],
        "response": ["x"] * count,
        "response_index": list(range(N)) * P,
        "reward": rewards.ravel().tolist(),
        "num_tokens": [1] * count,
        "finished": [True] * count,
        **{name: [None] * count for name in ("logprob", "reference_logprob", "token_ids", "selection_reward")},
        **{name: values.ravel().tolist() for name, values in columns.items()},
    }
    write_table(path, rows, {"sampling": {"n": N, **SHAPING}, **metadata})
    return str(path)


def test_a_table_of_the_reward_is_its_prior(tmp_path: Path) -> None:
    rewards = rewards_of(0)
    path = table(tmp_path / "mine.parquet", {**MINE, "model": "m"}, rewards)
    prior, about = read_prior(path, MINE, "m", SHAPING)
    assert prior == prior_of(torch.tensor(rewards))
    assert isinstance(prior, SpreadPrior)
    assert about == {"table": path, "prompts": P, "spread": round(prior.spread, 6), "unchecked": []}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward": "length", "reward_files": ["2e"]}, "reward is 'length' there and 'number_of' here"),
        ({"reward": "length", "reward_files": [None]}, "reward is 'length'"),
        ({"reward": "2*number_of", "reward_weights": [2.0]}, "of another reward"),
        ({"reward_options": {"max_length": 64}, "reward_files": ["2e"]}, "max_length"),
    ],
)
def test_a_table_of_another_reward_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = table(tmp_path / "other.parquet", MINE | change, rewards_of(0))
    with pytest.raises(ValueError, match=r"prior_table .*other\.parquet") as told:
        read_prior(path, MINE, "m", SHAPING)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_one_whose_best_another_reward_picks_is_refused(tmp_path: Path) -> None:
    metadata = MINE | {"selection_reward": "org/other"}
    path = table(tmp_path / "scored.parquet", metadata, rewards_of(0), selection_reward=rewards_of(1))
    with pytest.raises(ValueError, match=r"picked by 'org/other': give a table of `tailgrad sample`"):
        read_prior(path, MINE, "m", SHAPING)


def test_what_is_not_known_or_not_the_same_is_said(tmp_path: Path) -> None:
    edited = table(tmp_path / "edited.parquet", {**MINE, "reward_files": ["2e"], "model": "older"}, rewards_of(0))
    notes = read_prior(edited, MINE, "m", None)[1]["unchecked"]
    assert notes[:2] == ["the reward's files are not those of the table", "the table's policy is 'older'"]
    assert notes[2:] == ["the policy does not say what shapes its responses"]
    hot = table(tmp_path / "hot.parquet", {**MINE, "model": "m"}, rewards_of(0))
    notes = read_prior(hot, MINE, "m", {**SHAPING, "temperature": 1.0})[1]["unchecked"]
    assert notes == ["temperature is 0.7 there and 1.0 here"]
    verdicts = (rewards_of(0) > 0).astype(float)
    foreign = tmp_path / "foreign.jsonl"
    rows = [{"prompt": f"prompt {i}", "reward": value} for i, row in enumerate(verdicts.tolist()) for value in row]
    foreign.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prior, about = read_prior(str(foreign), MINE, "m", SHAPING)
    assert isinstance(prior, LevelPrior)
    assert about["levels"] == [0.0, 1.0]
    whats = ("its reward", "its policy", "what shaped its responses")
    assert about["unchecked"] == [f"the table does not say {what}" for what in whats]


@pytest.mark.parametrize("reward", [number_of, length])
def test_a_server_knows_its_reward_as_a_table_records_it(tmp_path: Path, reward: Any) -> None:
    mine = BestOfN(Scripted(lambda *_: []), number_of)
    path = table(tmp_path / "mine.parquet", {**mine.about_reward, "model": "scripted"}, rewards_of(0))
    config = ServeConfig(model_name_or_path="scripted", reward_funcs=reward, prior_table=path)
    service_of = BestOfN(Scripted(lambda *_: []), reward)
    if reward is number_of:
        about = Service(config, service_of).about_prior
        assert about is not None
        assert about["unchecked"] == ["the policy does not say what shapes its responses"]
    else:
        with pytest.raises(ValueError, match="'number_of' there and 'length' here"):
            Service(config, service_of)


def test_rewards_that_are_none_of_the_levels_are_weighed_without_them() -> None:
    """A prior of verdicts and graded rewards: it does not say that nothing is left to gain above its highest level."""
    prior = prior_of(torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]))
    graded = torch.tensor([[52.0, 41.0, 60.5, 47.0, 55.0, 38.0, 49.0, 58.0]])
    verdicts = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]])
    rounded = verdicts.to(torch.float32) * torch.tensor(1 + 1e-7)
    rare = torch.tensor([[0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]])
    both = torch.cat([graded, verdicts, rounded, rare])
    found = expected_gain(both, draws=4, prior=prior)
    assert float(found[0]) > 0
    assert found[0] == pytest.approx(float(expected_gain(graded, draws=4)))
    assert found[1] == found[2] == found[3] == 0
    for scale in (1.0, 1e-3):
        rule, alone = (TailStopping(price=0.03, most=128, prior=one) for one in (prior, None))
        assert rule.weigh(scale * graded[0]) == pytest.approx(alone.weigh(scale * graded[0]))
        assert rule.more(scale * graded[0]) == alone.more(scale * graded[0]) > 0


def test_a_prior_of_levels_tells_of_as_many_responses_as_one_may_ask_for() -> None:
    prior = prior_of(torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    assert isinstance(prior, LevelPrior)
    gains = [prior.gain(0.0, 4, 10**exponent) for exponent in range(1, 7)]
    assert gains == sorted(set(gains)), "more draws bring more, however many"

"""The embedded task is not a toy that saturates: measured on the base policy's responses to held-out prompts."""

import json
from pathlib import Path

import numpy as np
import pytest

from tailgrad.curves import Rollouts
from tailgrad.quickstart.corpus import MAX_RESPONSE_TOKENS
from tailgrad.quickstart.policy import fit_base_policy
from tailgrad.quickstart.task import MAX_REWARD, build_prompts
from tailgrad.rollouts import SampleConfig, read_rollouts, sample
from tailgrad.tails import upper_tail_qq

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="session")
def table(base_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Rollouts:
    folder = tmp_path_factory.mktemp("pool")
    rows = build_prompts("test")
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = SampleConfig(
        model_name_or_path=str(base_policy),
        dataset_name=str(folder / "test.jsonl"),
        reward_funcs="tailgrad.quickstart.task.verifier",
        out=folder / "base.parquet",
        max_completion_length=MAX_RESPONSE_TOKENS,
        batch_size=512,
    )
    return read_rollouts(sample(config))


def test_the_best_of_256_is_far_from_the_maximum(table: Rollouts) -> None:
    assert table.rewards.shape == (50, 256)
    assert table.rewards.max(axis=1).mean() < 0.8 * MAX_REWARD


def test_responses_are_distinct(table: Rollouts) -> None:
    distinct = [len(set(responses)) / 256 for responses in table.responses]
    assert min(distinct) >= 0.8


def test_few_ties_in_the_top_quarter(table: Rollouts) -> None:
    top = np.sort(table.rewards, axis=1)[:, -64:]
    ties = [1 - len(np.unique(rewards)) / 64 for rewards in top]
    assert np.mean(ties) <= 0.1


def test_the_upper_tail_is_near_gaussian(table: Rollouts) -> None:
    qq = upper_tail_qq(table.rewards)
    worst = sorted(zip(qq.prompt_linearity, table.prompts, strict=True))[:5]
    assert qq.linearity > 0.98, worst


def test_a_fitted_policy_is_kept(base_policy: Path) -> None:
    before = (base_policy / "model.safetensors").stat().st_mtime_ns
    assert fit_base_policy(base_policy) == base_policy
    assert (base_policy / "model.safetensors").stat().st_mtime_ns == before

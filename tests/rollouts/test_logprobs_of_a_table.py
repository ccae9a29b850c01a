"""How `sample` comes to the log-probabilities of its table: kept while sampling, or computed afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailgrad.models import logprobs
from tailgrad.models.loading import load_policy
from tailgrad.models.logprobs import response_logprobs
from tailgrad.rollouts import SampleConfig, read_rollouts, sample, shards


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models of which log-probabilities are computed afterwards, in order."""
    seen: list[Any] = []

    def noted(model: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(model)
        return logprobs.response_logprobs(model, *args, **kwargs)

    monkeypatch.setattr(shards, "response_logprobs", noted)
    return seen


def table_of(options: dict[str, Any], **more: Any) -> Any:
    return read_rollouts(sample(SampleConfig(**options | more)))


def recomputed(options: dict[str, Any], table: Any, dtype: str = "float32") -> np.ndarray:
    model, tokenizer = load_policy(options["model_name_or_path"], dtype=dtype)
    prompts = [tokenizer(table.prompts[i])["input_ids"] for i, _ in np.ndindex(table.rewards.shape)]
    responses = [table.known("token_ids")[at].tolist() for at in np.ndindex(table.rewards.shape)]
    return response_logprobs(model, prompts, responses).reshape(table.rewards.shape)


def test_alone_a_policy_needs_no_pass(options: dict[str, Any], passes: list[Any]) -> None:
    table = table_of(options)
    assert passes == []
    assert table.metadata["logprobs_while_sampling"]
    np.testing.assert_allclose(table.logprobs, recomputed(options, table), rtol=2e-5)


def test_a_reference_that_is_the_policy_needs_none(options: dict[str, Any], passes: list[Any]) -> None:
    table = table_of(options, dtype="bfloat16", reference_model=options["model_name_or_path"])
    assert passes == []
    np.testing.assert_array_equal(table.logprobs, table.reference_logprobs)


@pytest.mark.parametrize("settings", [{"repetition_penalty": 3.0}, {"num_beams": 2}])
def test_what_reaches_the_logits_first(options: dict[str, Any], passes: list[Any], settings: dict[str, Any]) -> None:
    table = table_of(options, generation_kwargs=settings)
    assert passes
    assert not table.metadata["logprobs_while_sampling"]
    np.testing.assert_allclose(table.logprobs, recomputed(options, table), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "models"), [("float32", 1), ("bfloat16", 2)])
def test_two_policies(
    options: dict[str, Any], passes: list[Any], make_policy: Callable[..., Path], dtype: str, models: int
) -> None:
    """In bfloat16 both take a pass, so that their difference, a KL, is not one of two ways to compute."""
    table = table_of(options, dtype=dtype, reference_model=str(make_policy("other", seed=5)))
    assert len(set(passes)) == models
    np.testing.assert_allclose(table.logprobs, recomputed(options, table, dtype), rtol=2e-5)

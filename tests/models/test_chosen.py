"""Log-probabilities kept while generating, against a plain forward pass in float64 and against `response_logprobs`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailgrad.models.chosen import ChosenLogprobs
from tailgrad.models.generate import generate
from tailgrad.models.loading import load_policy
from tailgrad.models.logprobs import response_logprobs
from tailgrad.rollouts.generation import BEAMS, KNOWN
from tiny_configs import TINY_CONFIGS, tiny_model

END = 2
PROMPTS = [[5, 6, 7, 8, 9], [5], [10, 11], [6, 5, 5]]
ACTING: dict[str, Any] = {
    "do_sample": False,
    "temperature": 0.6,
    "top_k": 3,
    "top_p": 0.6,
    "min_p": 0.2,
    "top_h": 0.5,
    "typical_p": 0.5,
    "epsilon_cutoff": 0.1,
    "eta_cutoff": 0.1,
    "max_new_tokens": 3,
    "max_time": 100.0,
    "eos_token_id": [5, 8],
}


def both(
    model: Any, tokenizer: Any, prompts: list[list[int]] = PROMPTS, **settings: Any
) -> tuple[list[float], list[list[int]], list[list[int]]]:
    """What is kept while generating 20 responses to each prompt, the prompt of each, and the responses."""
    chosen = ChosenLogprobs(settings.get("temperature", 1.0))
    torch.manual_seed(0)
    groups = generate(model, tokenizer, prompts, n=20, batch_size=33, chosen=chosen, **{"max_new_tokens": 6} | settings)
    return (
        chosen.logprobs,
        [prompt for prompt in prompts for _ in range(20)],
        [one for group in groups for one in group],
    )


def in_float64(model: Any, prompt: list[int], response: list[int], temperature: float) -> float:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].double() / temperature
    logprobs = logits.log_softmax(-1)
    return sum(logprobs[len(prompt) + t - 1, token].item() for t, token in enumerate(response))


@pytest.mark.parametrize("kind", TINY_CONFIGS)
def test_they_are_those_of_a_plain_forward_pass(kind: str, policy: Path) -> None:
    """With prompts of several lengths, so padded on the left, and responses that end early, in two batches."""
    _, tokenizer = load_policy(str(policy))
    model = tiny_model(kind)
    prompts = [[5, 6], [7, 8]] if kind == "recurrent" else PROMPTS  # which does not skip padding
    kept, asked, responses = both(model, tokenizer, prompts, temperature=0.7)
    assert len({len(response) for response in responses}) > 3
    expected = [in_float64(model, prompt, one, 0.7) for prompt, one in zip(asked, responses, strict=True)]
    np.testing.assert_allclose(kept, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", ACTING)
def test_settings_that_leave_the_logits_alone(name: str, policy: Path) -> None:
    """Top-k and the like do not enter a log-probability; each setting acts here, or the test would prove nothing."""
    assert ChosenLogprobs.sees_logits([name])
    model, tokenizer = load_policy(str(policy))
    kept, asked, responses = both(model, tokenizer, **{name: ACTING[name]})
    expected = response_logprobs(model, asked, responses, temperature=ACTING[name] if name == "temperature" else 1.0)
    np.testing.assert_allclose(kept, expected, rtol=2e-5, atol=1e-5)
    assert name == "max_time" or responses != both(model, tokenizer)[2]


def test_settings_that_do_not(policy: Path) -> None:
    """A penalty reaches the logits first, and beams change places: there the log-probabilities take their own pass."""
    assert not any(ChosenLogprobs.sees_logits(["temperature", name]) for name in KNOWN - ACTING.keys())
    assert {"repetition_penalty", "num_beams", "guidance_scale", *BEAMS} <= KNOWN - ACTING.keys()
    model, tokenizer = load_policy(str(policy))
    kept, asked, responses = both(model, tokenizer, repetition_penalty=3.0)
    assert np.abs(kept - response_logprobs(model, asked, responses)).max() > 0.1


def test_in_bfloat16_they_are_off_by_its_rounding(make_policy: Callable[..., Path]) -> None:
    path = str(make_policy())
    exact, tokenizer = load_policy(path)
    rounded, _ = load_policy(path, dtype="bfloat16")
    kept, asked, responses = both(rounded, tokenizer)
    of_pass, truth = (response_logprobs(model, asked, responses) for model in (rounded, exact))
    assert 0 < np.median(np.abs(kept - truth)) < 2 * np.median(np.abs(of_pass - truth))

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tailgrad.models import logprobs as engine
from tailgrad.models.loading import load_policy
from tailgrad.models.logprobs import response_logprobs
from tiny_configs import KEEP_ALL_TOKENS, TINY_CONFIGS, tiny_model

END = 2
PROMPTS = [[5, 6, 7, 8, 9], [5], [10, 11], [6, 5, 5]]
RESPONSES = [[5, 6, END], [END], [7, 8, 9, 10, 11, 5, 6], [9]]


def manual_logprob(model: Any, prompt: list[int], response: list[int], temperature: float) -> float:
    """One plain forward, one token after the other, in float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].double() / temperature
    logprobs = logits.log_softmax(-1)
    return sum(logprobs[len(prompt) + t - 1, token].item() for t, token in enumerate(response))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_logprobs_equal_an_unbatched_forward(
    make_policy: Callable[..., Path], architecture: str, temperature: float, batch_size: int
) -> None:
    path = make_policy(architecture=architecture)
    model, _ = load_policy(str(path))
    plain = AutoModelForCausalLM.from_pretrained(path).eval()
    expected = [manual_logprob(plain, p, r, temperature) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    given = response_logprobs(model, PROMPTS, RESPONSES, temperature=temperature, batch_size=batch_size)
    np.testing.assert_allclose(given, expected, rtol=1e-5)


def test_logprobs_do_not_depend_on_the_memory_allowed(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = load_policy(str(policy))
    expected = response_logprobs(model, PROMPTS, RESPONSES)
    monkeypatch.setattr(engine, "_LOGITS_BUDGET", 1)
    np.testing.assert_allclose(response_logprobs(model, PROMPTS, RESPONSES), expected, rtol=1e-5)


SHARED = [[5, 6, 7, 8, 9, 10], [5], [7, 7, 6, 11]]


@pytest.mark.parametrize("logits", [2**28, 12 * 8 * 4])  # memory for many rows, and for four
@pytest.mark.parametrize("kind", TINY_CONFIGS)
def test_many_responses_to_one_prompt(kind: str, logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty responses of several lengths to each of three prompts, in any order, and nine prompts with one each."""
    monkeypatch.setattr(engine, "_LOGITS_BUDGET", logits)
    model = tiny_model(kind)
    random = np.random.default_rng(0)
    rows = [(prompt, random.integers(3, 12, random.integers(1, 7)).tolist()) for prompt in SHARED * 20]
    rows = [rows[i] for i in random.permutation(len(rows))] + [([8, 3 + i, 5], [6, END]) for i in range(9)]
    prompts, responses = [list(column) for column in zip(*rows, strict=True)]
    read: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True)
    given = response_logprobs(model, prompts, responses, temperature=0.7, batch_size=16)
    tokens = sum(read)
    expected = [manual_logprob(model, prompt, response, 0.7) for prompt, response in rows]
    np.testing.assert_allclose(given, expected, rtol=2e-4)
    assert (tokens < sum(map(len, prompts + responses))) == (kind in KEEP_ALL_TOKENS)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers so
def test_a_peft_adapter_is_a_policy(tmp_path: Path, policy: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer

    base, _ = load_policy(str(policy))
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(policy).save_pretrained(tmp_path / "adapter")
    model, _ = load_policy(str(tmp_path / "adapter"))
    expected = [manual_logprob(adapted.eval(), p, r, 1.0) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    np.testing.assert_allclose(response_logprobs(model, PROMPTS, RESPONSES), expected, rtol=1e-5)
    assert not np.allclose(expected, response_logprobs(load_policy(str(policy))[0], PROMPTS, RESPONSES), rtol=1e-2)
    for one in (model, adapted):  # as transformers loads it, and as peft wraps it
        several = response_logprobs(one, PROMPTS[:1] * 4, RESPONSES, batch_size=4)
        again = [manual_logprob(adapted.eval(), PROMPTS[0], response, 1.0) for response in RESPONSES]
        np.testing.assert_allclose(several, again, rtol=1e-5)


def test_on_a_cpu_a_prompt_is_read_once_where_its_responses_keep_it_busy(policy: Path) -> None:
    """Of two prompts with 64 responses of four tokens each: 256 tokens; not so with one response fewer.

    The first one is read once more, to see whether the model keeps its tokens.
    """
    model, _ = load_policy(str(policy))
    read: list[int] = []
    model.register_forward_pre_hook(
        lambda _, given, by_name: read.append(by_name["input_ids"].numel()), with_kwargs=True
    )
    prompts = [[5, 6, 7, 8, 9, 10], [10, 9, 8, 7, 6, 5]]
    for count, tokens in ((64, 5 + 2 * (5 + 64 * 5)), (63, 2 * 63 * 10)):
        read.clear()
        response_logprobs(model, [*prompts] * count, [[5, 6, 7, END]] * (2 * count))
        assert sum(read) == tokens

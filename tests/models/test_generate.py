import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tailgrad.models.generate import end_token_ids, generate
from tailgrad.models.loading import load_policy

END = 2
PROMPTS = [[5, 6, 7, 8, 9], [5], [10, 11], [6, 5, 5]]
RESPONSES = [[5, 6, END], [END], [7, 8, 9, 10, 11, 5, 6], [9]]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.6, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.6)]
)
def test_responses_come_from_the_policy_whatever_the_padding(
    make_policy: Callable[..., Path], architecture: str, temperature: float, top_k: int, top_p: float
) -> None:
    """Frequencies of all two-token responses against their enumerated probabilities, per prompt."""
    model, tokenizer = load_policy(str(make_policy(architecture=architecture)))
    n = 4000
    torch.manual_seed(1)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    groups = generate(model, tokenizer, PROMPTS[:2], n=n, max_new_tokens=2, batch_size=8000, **options)
    for prompt, group in zip(PROMPTS[:2], groups, strict=True):
        expected = enumerate_responses(model, prompt, **options)
        counts = Counter(map(tuple, group))
        assert counts.keys() <= {response for response, p in expected.items() if p > 0}
        often = [response for response, p in expected.items() if n * p >= 5]
        observed = [counts[response] for response in often]
        rest = n * (1 - sum(expected[response] for response in often))
        frequencies = [n * expected[response] for response in often]
        if rest > 1:
            observed, frequencies = [*observed, n - sum(observed)], [*frequencies, rest]
        assert chisquare(observed, frequencies, sum_check=False).pvalue > 1e-3


def enumerate_responses(
    model: Any, prompt: list[int], *, temperature: float, top_k: int, top_p: float
) -> dict[tuple[int, ...], float]:
    """The probability of each response of at most two tokens."""

    def next_token(tokens: list[int]) -> np.ndarray:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -1].double().numpy() / temperature
        p = np.exp(logits - logits.max())
        p /= p.sum()
        order = np.argsort(-p)
        kept = np.ones(len(p), dtype=bool)
        if top_k:
            kept[order[top_k:]] = False
        before = np.cumsum(p[order]) - p[order]
        kept[order[before >= top_p]] = False
        p[~kept] = 0
        return p / p.sum()

    first = next_token(prompt)
    responses = {(END,): float(first[END])}
    for token in set(range(len(first))) - {END}:
        second = next_token([*prompt, token])
        responses |= {(token, other): float(first[token] * second[other]) for other in range(len(second))}
    return responses


def test_every_response_ends_at_its_first_end_token(policy: Path) -> None:
    model, tokenizer = load_policy(str(policy))
    torch.manual_seed(0)
    groups = generate(model, tokenizer, PROMPTS, n=20, max_new_tokens=6, batch_size=7)
    assert [len(group) for group in groups] == [20] * 4
    for response in itertools.chain(*groups):
        assert END not in response[:-1]
        assert len(response) <= 6
        assert len(response) == 6 or response[-1] == END
    assert 0 < sum(response[-1] == END for response in itertools.chain(*groups)) < 80


def test_the_models_own_generation_config_stays_out(policy: Path) -> None:
    model, tokenizer = load_policy(str(policy))
    torch.manual_seed(0)
    expected = generate(model, tokenizer, PROMPTS, n=5, max_new_tokens=6)
    model.generation_config.update(top_k=1, repetition_penalty=5.0, min_new_tokens=6, temperature=0.01)
    own = model.generation_config
    torch.manual_seed(0)
    assert generate(model, tokenizer, PROMPTS, n=5, max_new_tokens=6) == expected
    assert model.generation_config is own


def test_end_tokens_are_those_of_tokenizer_and_model(policy: Path) -> None:
    model, tokenizer = load_policy(str(policy))
    assert end_token_ids(model, tokenizer) == [2]
    model.generation_config.eos_token_id = [5, 2]
    assert end_token_ids(model, tokenizer) == [2, 5]
    torch.manual_seed(0)
    groups = generate(model, tokenizer, [[6]], n=100, max_new_tokens=8)
    assert {response[-1] for response in groups[0] if len(response) < 8} == {2, 5}
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    assert end_token_ids(model, tokenizer) == []
    assert {len(response) for response in generate(model, tokenizer, [[6], [6, 7]], n=9, max_new_tokens=4)[0]} == {4}


def test_a_tokenizer_without_pad_token(make_policy: Callable[..., Path]) -> None:
    with_pad = load_policy(str(make_policy("with", pad_token="[PAD]")))
    without = load_policy(str(make_policy("without")))
    assert without[1].pad_token is None
    torch.manual_seed(0)
    expected = generate(*with_pad, PROMPTS, n=5, max_new_tokens=6)
    torch.manual_seed(0)
    assert generate(*without, PROMPTS, n=5, max_new_tokens=6) == expected


def test_a_model_that_is_no_policy(tmp_path: Path, policy: Path) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig.from_pretrained(policy, num_labels=1)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "rm")
    AutoTokenizer.from_pretrained(policy).save_pretrained(tmp_path / "rm")
    with pytest.raises(ValueError, match=r"is not a causal language model: it has no weights for lm_head\.weight"):
        load_policy(str(tmp_path / "rm"))

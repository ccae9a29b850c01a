"""Sampling and TRL's trainer see the same tokens and give rewards the same arguments."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from tailgrad.models.generate import end_token_ids
from tailgrad.models.loading import load_policy
from tailgrad.models.logprobs import response_logprobs
from tailgrad.rewards import checked
from tailgrad.rollouts.prompts import completions_of, tokenize_prompts

# TRL itself asks transformers for options by their old names.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*` is deprecated:FutureWarning")

PROMPTS = ["one two three", "four", "five six </s> seven", "seven one one four unknown"]
CHATS = [
    [{"role": "user", "content": "one two"}],
    [{"role": "system", "content": "six"}, {"role": "user", "content": "three"}],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "five"},
    ],
    [{"role": "user", "content": ""}],
]


def trainer_of(path: Path, prompts: list[Any], reward: Any, out: Path) -> GRPOTrainer:
    args = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    return GRPOTrainer(str(path), reward_funcs=reward, args=args, train_dataset=Dataset.from_dict({"prompt": prompts}))


@pytest.fixture(scope="module", params=["plain", "chat"])
def case(
    request: pytest.FixtureRequest, policy: Path, chat_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A policy, prompts and a real trainer; the reward keeps what it is given."""
    seen: list[dict[str, Any]] = []

    def keeps(*, completions: list[Any], **rollouts: Any) -> list[float | None]:
        seen.append({"completions": completions, **rollouts})
        return [None, 1.0, 2.0, float("nan")]

    path, prompts = (policy, PROMPTS) if request.param == "plain" else (chat_policy, CHATS)
    return path, prompts, trainer_of(path, prompts, checked(keeps), tmp_path_factory.mktemp("out")), seen


def test_the_same_tokens_texts_and_end_tokens(case: Any) -> None:
    path, prompts, trainer, _ = case
    model, tokenizer = load_policy(str(path))
    token_ids = tokenize_prompts(tokenizer, prompts)
    assert token_ids == trainer._tokenize_prompts(prompts)[0]
    assert end_token_ids(model, tokenizer) == trainer.eos_token_ids
    trainer.model.eval()
    torch.manual_seed(0)
    prompt_ids, completion_ids, _, completions, *_ = trainer._generate(prompts)
    assert prompt_ids == token_ids
    texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
    assert completions_of(tokenizer, prompts, prompt_ids, completion_ids, texts) == completions


def test_the_same_responses_from_the_same_random_numbers(case: Any) -> None:
    from tailgrad.models.generate import generate

    path, prompts, trainer, _ = case
    model, tokenizer = load_policy(str(path))
    torch.manual_seed(0)
    theirs = trainer._generate(prompts)[1]
    torch.manual_seed(0)
    ours = generate(model, tokenizer, tokenize_prompts(tokenizer, prompts), n=1, max_new_tokens=6)
    assert [group[0] for group in ours] == theirs


def test_a_checked_reward_in_the_trainer(case: Any) -> None:
    _, prompts, trainer, seen = case
    inputs = [{"prompt": prompt, "answer": i} for i, prompt in enumerate(prompts)]
    completions = ["a", "b", "c", "d"] if isinstance(prompts[0], str) else [[{"role": "assistant", "content": "a"}]] * 4
    scores = trainer._calculate_rewards(inputs, prompts, completions, [[5], [6], [7], [8]])
    np.testing.assert_array_equal(scores[:, 0].numpy(), [np.nan, 1.0, 2.0, np.nan])
    assert trainer.reward_func_names == ["keeps"]
    assert seen[0]["completions"] == completions
    assert seen[0]["answer"] == [0, 1, 2, 3]


def test_the_same_logprobs(case: Any) -> None:
    path, prompts, trainer, _ = case
    model, tokenizer = load_policy(str(path))
    prompt_ids = tokenize_prompts(tokenizer, prompts)
    response = [7, 5, 2]
    ours = response_logprobs(model, prompt_ids, [response] * 4)
    trainer.model.eval()
    for ids, expected in zip(prompt_ids, ours, strict=True):
        row = torch.tensor([ids + response])
        with torch.no_grad():
            theirs = trainer._get_per_token_logps_and_entropies(trainer.model, row, torch.ones_like(row), 3)[0]
        assert theirs.sum().item() == pytest.approx(expected, rel=1e-5)

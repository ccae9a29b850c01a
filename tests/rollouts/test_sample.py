import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tailgrad
from tailgrad.rollouts import SampleConfig, read_rollouts, sample
from tailgrad.rollouts.generation import TRAINING_RECORD

PROMPTS = ["one two three", "four", "five six", "seven one one four two", "three"]


def run(options: dict[str, Any], **changes: Any) -> Any:
    return read_rollouts(sample(SampleConfig(**options | changes)))


def test_a_table_has_n_scored_responses_to_each_prompt(options: dict[str, Any]) -> None:
    table = run(options)
    assert table.prompts == PROMPTS
    assert table.prompt_ids.tolist() == [0, 1, 2, 3, 4]
    assert table.rewards.shape == (5, 4)
    lengths = [[len(response.split()) for response in group] for group in table.responses]
    np.testing.assert_array_equal(table.rewards, lengths)
    assert len({response for group in table.responses for response in group}) > 10
    assert 0 < table.finished.sum() < 20
    assert table.reference_logprobs is None
    assert not Path(f"{options['out']}.parts").exists()


def test_tokens_and_logprobs_are_those_of_the_responses(options: dict[str, Any]) -> None:
    """Special tokens are left out of the text, so only responses without any can be tokenized back."""
    table = run(options, n=40, batch_size=50, temperature=0.7)
    tokenizer = AutoTokenizer.from_pretrained(options["model_name_or_path"])
    model = AutoModelForCausalLM.from_pretrained(options["model_name_or_path"]).eval()
    compared = 0
    for i, j in np.ndindex(table.rewards.shape):
        tokens = tokenizer(table.responses[i][j])["input_ids"]
        assert table.finished[i, j] or table.num_tokens[i, j] == 8
        if len(tokens) != table.num_tokens[i, j] or 1 in tokens or 0 in tokens:
            continue
        compared += 1
        prompt = tokenizer(table.prompts[i])["input_ids"]
        full = tokens + [2] * bool(table.finished[i, j])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + full])).logits[0].double() / 0.7
        rows = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        expected = rows[range(len(full)), full].sum().item()
        assert table.logprobs[i, j] == pytest.approx(expected, rel=1e-5)
    assert compared > 40


def test_the_file_says_where_the_rollouts_come_from(options: dict[str, Any]) -> None:
    metadata = run(options, seed=3, temperature=0.9, top_k=5, reference_model=options["model_name_or_path"]).metadata
    expected = {
        "model": options["model_name_or_path"],
        "revision": None,
        "sampling": {"n": 4, "temperature": 0.9, "top_p": 1.0, "top_k": 5, "max_new_tokens": 8},
        "seed": 3,
        "reward": "word_count",
        "reference": options["model_name_or_path"],
        "chat_template_kwargs": {},
        "trained_with": None,
        "dtype": "float32",
        "tailgrad_version": tailgrad.__version__,
    }
    assert {name: metadata[name] for name in expected} == expected
    dataset = {"name": options["dataset_name"], "config": None, "split": None, "prompt_column": "prompt"}
    assert {name: metadata["dataset"][name] for name in dataset} == dataset
    assert metadata["dataset"]["num_prompts"] == 5


def test_rewards_get_what_trl_gives_them(options: dict[str, Any]) -> None:
    calls = []

    def keeps(**rollouts: Any) -> list[float]:
        calls.append(rollouts)
        return [1.0] * len(rollouts["completions"])

    table = run(options, reward_funcs=keeps)
    assert [len(call["prompts"]) for call in calls] == [8, 8, 4]
    assert calls[0].keys() == {"prompts", "completions", "completion_ids", "answer"}
    assert calls[0]["prompts"] == ["one two three"] * 4 + ["four"] * 4
    assert calls[0]["answer"] == ["a"] * 4 + ["b"] * 4
    assert calls[0]["completions"] == table.responses[0] + table.responses[1]
    lengths = [len(ids) for ids in calls[2]["completion_ids"]]
    assert lengths == (table.num_tokens[4] + table.finished[4]).tolist()
    assert calls[2]["completion_ids"] == [ids.tolist() for ids in table.token_ids[4]]


def test_unscored_responses_are_null(options: dict[str, Any]) -> None:
    def sometimes(*, completions: list[str], **columns: Any) -> list[Any]:
        return [None if "one" in text else math.nan if "two" in text else 1 for text in completions]

    table = run(options, reward_funcs=sometimes)
    expected = [["one" in text or "two" in text for text in group] for group in table.responses]
    np.testing.assert_array_equal(np.isnan(table.rewards), expected)
    assert 0 < np.sum(expected) < 20
    assert pq.read_table(options["out"])["reward"].null_count == np.sum(expected)


def test_weighted_rewards(options: dict[str, Any]) -> None:
    def bonus(*, completions: list[str], **columns: Any) -> list[float | None]:
        return [1.0 if "one" in text else None for text in completions]

    table = run(options, reward_funcs=[options["reward_funcs"], bonus], reward_weights=[0.5, 10.0])
    expected = [[0.5 * len(text.split()) + 10.0 * ("one" in text) for text in group] for group in table.responses]
    np.testing.assert_allclose(table.rewards, expected)
    assert table.metadata["reward"] == "0.5*word_count + 10*bonus"


def test_the_seed_decides_and_shards_differ(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "same.json").write_text(json.dumps([{"prompt": "one"}] * 4))
    options |= {"dataset_name": str(tmp_path / "same.json"), "batch_size": 4}
    first = run(options).responses
    assert run(options, out=tmp_path / "again.parquet").responses == first
    assert run(options, out=tmp_path / "other.parquet", seed=1).responses != first
    assert len({tuple(group) for group in first}) == 4


def test_the_global_random_state_is_given_back(options: dict[str, Any]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(options)
    assert torch.equal(torch.rand(3), expected)


def test_reference_policy(options: dict[str, Any], make_policy: Callable[..., Path], tmp_path: Path) -> None:
    same = run(options, reference_model=options["model_name_or_path"])
    np.testing.assert_array_equal(same.reference_logprobs, same.logprobs)
    other = run(options, reference_model=str(make_policy("other", seed=5)), out=tmp_path / "other.parquet")
    np.testing.assert_array_equal(other.logprobs, same.logprobs)
    assert (np.abs(other.reference_logprobs - same.logprobs) > 1e-3).all()
    larger = str(make_policy("larger", vocab_size=20))
    with pytest.raises(ValueError, match=r"has 20 tokens and model .* has 12"):
        run(options, reference_model=larger, out=tmp_path / "larger.parquet")


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_kl_of_a_policy_to_a_reference(
    options: dict[str, Any], make_policy: Callable[..., Path], temperature: float
) -> None:
    """For one-token responses the KL of the table is an estimate of an exact sum, at the temperature of both."""
    path = str(make_policy("other", seed=5))
    how = {"n": 2000, "max_completion_length": 1, "batch_size": 5000, "limit": 3, "temperature": temperature}
    table = run(options, reference_model=path, **how)
    tokenizer = AutoTokenizer.from_pretrained(path)
    models = [AutoModelForCausalLM.from_pretrained(one).eval() for one in (options["model_name_or_path"], path)]
    for i, prompt in enumerate(PROMPTS[:3]):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            logits = [model(input_ids=ids).logits[0, -1].double() / temperature for model in models]
        policy, reference = (one.log_softmax(-1) for one in logits)
        exact = (policy.exp() * (policy - reference)).sum().item()
        error = (table.logprobs[i] - table.reference_logprobs[i]).std() / math.sqrt(2000)
        assert abs(table.kl[i] - exact) < 4 * error


def test_chats(options: dict[str, Any], chat_policy: Path, tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    (tmp_path / "chats.json").write_text(json.dumps([{"messages": chat} for chat in chats]))
    seen = []

    def keeps(*, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        seen.extend(zip(prompts, completions, strict=True))
        prompts[0].clear()  # a reward may do what it likes with its arguments
        return [1.0] * len(prompts)

    changes = {
        "model_name_or_path": str(chat_policy),
        "dataset_name": str(tmp_path / "chats.json"),
        "prompt_column": "messages",
    }
    table = run(options, reward_funcs=keeps, batch_size=20, **changes)
    assert [json.loads(prompt) for prompt in table.prompts] == chats
    assert (seen[0][0], seen[1][0]) == ([], chats[0])  # each rollout has a prompt of its own
    assert seen[5] == (chats[1], [{"role": "assistant", "content": table.responses[1][1]}])
    with pytest.raises(ValueError, match="the model's tokenizer has no chat template"):
        run(options, **changes | {"model_name_or_path": options["model_name_or_path"], "out": tmp_path / "b.parquet"})


def test_limit_and_a_prompt_of_its_own_shard(options: dict[str, Any]) -> None:
    table = run(options, limit=2, n=11)
    assert table.rewards.shape == (2, 11)
    assert table.metadata["dataset"]["num_prompts"] == 2


def test_a_reward_model_by_path(options: dict[str, Any], policy: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(policy, num_labels=1)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "rm")
    tokenizer = AutoTokenizer.from_pretrained(policy)
    tokenizer.save_pretrained(tmp_path / "rm")
    reward_options = {"reward_batch_size": 3, "reward_max_length": None}
    table = run(options, reward_funcs=(), reward_model_name_or_path=str(tmp_path / "rm"), **reward_options)
    model = LlamaForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    with torch.no_grad():
        for i, j in np.ndindex(table.rewards.shape):
            inputs = tokenizer(PROMPTS[i] + table.responses[i][j], return_tensors="pt")
            expected = model(**inputs).logits[0, 0].item()
            assert table.rewards[i, j] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert table.metadata["reward"] == str(tmp_path / "rm")
    assert table.metadata["reward_options"] == {"batch_size": 3}


def test_out_that_exists_is_refused(options: dict[str, Any]) -> None:
    Path(options["out"]).write_text("precious")
    with pytest.raises(ValueError, match=r"rollouts\.parquet' exists already"):
        sample(SampleConfig(**options))
    assert Path(options["out"]).read_text() == "precious"


def test_a_trained_policy_is_sampled_as_it_was_trained(
    options: dict[str, Any], make_policy: Callable[..., Path]
) -> None:
    """A record of an older version: the options alone, and what the policy's own generation config says beside them."""
    path = make_policy("trained", pad_token="[PAD]")
    record = {"temperature": 0.9, "top_p": 0.8, "max_completion_length": 6, "estimator": "tea"}
    (path / TRAINING_RECORD).write_text(json.dumps(record))
    own = path / "generation_config.json"
    own.write_text(json.dumps(json.loads(own.read_text()) | {"min_p": 0.01, "temperature": 0.1}))
    options = {name: value for name, value in options.items() if name != "max_completion_length"} | {
        "model_name_or_path": str(path)
    }
    expected = {"temperature": 0.9, "top_p": 0.8, "top_k": 0, "max_new_tokens": 6, "min_p": 0.01}
    assert run(options).metadata["sampling"] == {"n": 4, **expected}
    words = r"was trained on responses sampled with temperature 0\.9 \(now 1\.0\): its rewards"
    with pytest.warns(UserWarning, match=words):
        metadata = run(options, temperature=1.0, out=path / "other.parquet").metadata
    assert metadata["sampling"] == {"n": 4, **expected, "temperature": 1.0}
    assert metadata["trained_with"] == expected


def test_prompts_too_long_for_the_model(options: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"the prompt in row 3 \(counted from 0\) has 5 tokens; with max_completion_length 60 that"
    ):
        run(options, max_completion_length=60)


def test_a_prompt_without_tokens(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps([{"prompt": "one"}, {"prompt": ""}]))
    with pytest.raises(ValueError, match=r"data\.json': the prompt in row 1 \(counted from 0\) has no tokens"):
        run(options, dataset_name=str(tmp_path / "data.json"))


def test_a_column_that_a_reward_needs_is_missed_before_a_model_is_loaded(options: dict[str, Any]) -> None:
    def graded(*, completions: list[str], rubric: list[str], **_: Any) -> list[float]:
        return [0.0] * len(completions)

    with pytest.raises(ValueError, match=r"reward 'graded' needs 'rubric', which is no column of data set"):
        run(options, reward_funcs=graded, model_name_or_path="./none")


def test_a_model_that_does_not_exist(options: dict[str, Any]) -> None:
    with pytest.raises(FileNotFoundError, match=r"model '\./none': there is no such folder"):
        run(options, model_name_or_path="./none")
    with pytest.raises(FileNotFoundError, match=r"reference model '\./none': there is no such folder"):
        run(options, reference_model="./none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n is 0; it must be at least 1"),
        ({"max_completion_length": 0}, "max_completion_length is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -1}, "top_k is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"reward_funcs": []}, "no reward given"),
        ({"reward_weights": [1.0, 2.0]}, "2 reward weights given for 1 rewards"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(SampleConfig(**options | changes))


def test_a_progress_bar_counts_prompts(options: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    sample(SampleConfig(**options))
    captured = capfd.readouterr()
    assert "5/5" in captured.err
    assert captured.out == ""

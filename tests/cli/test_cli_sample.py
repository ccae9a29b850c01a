import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tailgrad.cli.main import main
from tailgrad.rollouts import read_rollouts

WORDS = ["[UNK]", "[PAD]", "</s>", "one", "two", "three"]
REWARDS = """
import time
from concurrent.futures import ThreadPoolExecutor

def length(completions, **columns):
    return [float(len(text.split())) for text in completions]

def right(completions, answer, **columns):
    return [float(right in text) for text, right in zip(completions, answer)]

def broken(completions, **columns):
    return "good"

def stuck(prompts, completions, **columns):
    if prompts[0] == "three":
        ThreadPoolExecutor(1).submit(time.sleep, 600).result()
    return length(completions)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a policy, questions and rewards."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(WORDS), bos_token_id=None, eos_token_id=2, **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "policy")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="</s>", pad_token="[PAD]")
    tokenizer.save_pretrained(tmp_path / "policy")
    rows = [{"question": "one two", "answer": "three"}, {"question": "three", "answer": "one"}]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "cli_rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(**changes: str) -> list[str]:
    options = {
        "model_name_or_path": "./policy",
        "dataset_name": "questions.jsonl",
        "prompt_column": "question",
        "reward_funcs": "cli_rewards.length",
        "n": "3",
        "max_completion_length": "5",
        "out": "rollouts.parquet",
    }
    return [
        "sample",
        *(part for name, value in (options | changes).items() for part in (f"--{name}", *value.split())),
    ]


def test_sample_writes_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewards = "cli_rewards.length cli_rewards:right"
    arguments = command(reward_funcs=rewards, reward_weights="1 -2.5", temperature="0.8", seed="4")
    assert main(arguments) == 0
    assert capsys.readouterr().out == "rollouts.parquet\n"
    table = read_rollouts(folder / "rollouts.parquet")
    assert table.prompts == ["one two", "three"]
    for answer, responses, scores in zip(["three", "one"], table.responses, table.rewards, strict=True):
        assert [len(text.split()) - 2.5 * (answer in text) for text in responses] == list(scores)
    sampling = {"n": 3, "temperature": 0.8, "top_p": 1.0, "top_k": 0, "max_new_tokens": 5}
    assert table.metadata["sampling"] == sampling
    assert table.metadata["seed"] == 4
    assert table.metadata["reward"] == "1*cli_rewards.length + -2.5*cli_rewards:right"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name_or_path": "./none"}, "model './none': there is no such folder"),
        ({"dataset_name": "none.jsonl"}, "data set 'none.jsonl': there is no such file or folder"),
        ({"prompt_column": "prompt"}, "has no column 'prompt'; it has question, answer"),
        ({"reward_funcs": "cli_rewards.lenght"}, "module 'cli_rewards' has no 'lenght'"),
        ({"reward_funcs": "cli_rewards.broken"}, "reward 'broken' returned a str 'good'"),
        ({"reward_funcs": "./policy"}, "is not a sequence-classification model"),
        ({"temperature": "0"}, "temperature is 0.0; it must be above 0"),
        ({"generation_kwargs": '{"top_p":7}'}, "top_p is 7; it must be above 0 and at most 1"),
        ({"generation_kwargs": '{"max_new_tokens":"a"}'}, "max_new_tokens is 'a'; it must be at least 1"),
        ({"out": "questions.jsonl"}, "'questions.jsonl' exists already"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], message: str
) -> None:
    assert main(command(**changes)) == 2
    error = capsys.readouterr().err
    assert "tailgrad sample: error: " in error
    assert message in error
    assert not (folder / "rollouts.parquet").exists()


def test_settings_as_json(folder: Path) -> None:
    given = {"generation_kwargs": '{"min_p":0.1}', "chat_template_kwargs": '{"enable_thinking":false}'}
    with pytest.warns(UserWarning, match="the prompts are strings"):
        assert main(command(**given)) == 0
    metadata = read_rollouts(folder / "rollouts.parquet").metadata
    assert metadata["sampling"]["min_p"] == 0.1
    assert metadata["chat_template_kwargs"] == {}  # plain prompts


@pytest.mark.parametrize("text", ["min_p=0.1", "[1]", '{"min_p"'])
def test_settings_that_are_no_json_object(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(command(generation_kwargs=text)) == 2
    assert "is not JSON" in (error := capsys.readouterr().err) or "is not a JSON object" in error


def test_a_reward_that_hangs_ends_the_process(folder: Path) -> None:
    """Its threads would hold the process at its end; what was finished stays."""
    argv = command(reward_funcs="cli_rewards.stuck", reward_timeout="2", batch_size="3")
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tailgrad.cli.main", *argv], capture_output=True, text=True, timeout=300, check=False
    )
    assert time.monotonic() - start < 200
    assert done.returncode == 2
    assert "error: reward 'stuck' has not scored 3 rollouts within 2 seconds (--reward_timeout)" in done.stderr
    assert len(list(folder.glob("rollouts.parquet.parts/part-*.parquet"))) == 1

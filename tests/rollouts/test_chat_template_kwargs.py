"""Arguments of the chat template act on the prompt: in training, in sampling, and where the table is read again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
from tailgrad.models.loading import load_policy
from tailgrad.rollouts import SampleConfig, ScoreConfig, read_rollouts, rescore, sample, shards
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.rollouts.prompts import completions_of, tokenize_prompts

# TRL itself asks transformers for options by their old names.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*` is deprecated:FutureWarning")

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} </s> {% endfor %}<assistant> "
    "{% if enable_thinking is defined and enable_thinking is false %}seven seven {% endif %}"
)
CHATS = [[{"role": "user", "content": text}] for text in ("one two", "three", "four five")]


def length(*, completions: list[Any], **_: Any) -> list[float]:
    return [float(len(one[0]["content"])) for one in completions]


@pytest.fixture
def thinker(make_policy: Callable[..., Path], tmp_path: Path) -> dict[str, Any]:
    """Arguments that sample a policy whose chat template asks for thinking, or not."""
    path = make_policy("thinker", pad_token="[PAD]", chat_template=TEMPLATE)
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps({"prompt": chat}) + "\n" for chat in CHATS))
    given = {"model_name_or_path": str(path), "dataset_name": str(data), "reward_funcs": length}
    given |= {"n": 3, "max_completion_length": 4}
    return given | {"out": tmp_path / "rollouts.parquet"}


def test_prompts_become_the_tokens_of_the_training(thinker: dict[str, Any], tmp_path: Path) -> None:
    kwargs = {"enable_thinking": False}
    args = GRPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=2,
        num_generations=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        chat_template_kwargs=kwargs,
    )
    rows = Dataset.from_list([{"prompt": chat} for chat in CHATS])
    trainer = GRPOTrainer(thinker["model_name_or_path"], reward_funcs=length, args=args, train_dataset=rows)
    tokenizer = load_policy(thinker["model_name_or_path"])[1]
    assert tokenize_prompts(tokenizer, CHATS, kwargs) == trainer._tokenize_prompts(CHATS)[0]
    assert tokenize_prompts(tokenizer, CHATS, kwargs) != tokenize_prompts(tokenizer, CHATS)


@pytest.mark.parametrize("how", ["asked", "recorded"])
def test_they_act_in_sample_score_and_fidelity(
    thinker: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    kwargs = {"enable_thinking": False}
    if how == "recorded":
        always = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 4}
        record = {"generation": always, "chat_template_kwargs": kwargs}
        (Path(thinker["model_name_or_path"]) / TRAINING_RECORD).write_text(json.dumps(record))
    else:
        thinker["chat_template_kwargs"] = kwargs
    table = read_rollouts(sample(SampleConfig(**thinker)))
    assert table.metadata["chat_template_kwargs"] == kwargs
    tokenizer = load_policy(thinker["model_name_or_path"])[1]
    prompt_ids = tokenize_prompts(tokenizer, CHATS, kwargs)

    seen = []

    def keeps(*args: Any) -> list[Any]:
        seen.append(args)
        return completions_of(*args)

    monkeypatch.setattr(shards, "completions_of", keeps)
    rescore(ScoreConfig(table=thinker["out"], reward_funcs=length, out=tmp_path / "judged.parquet"))
    assert [ids for call in seen for ids in call[2]] == [ids for ids in prompt_ids for _ in range(3)]
    assert read_rollouts(tmp_path / "judged.parquet").metadata["chat_template_kwargs"] == kwargs

    config = GradientConfig(
        table=thinker["out"], model_name_or_path=thinker["model_name_or_path"], out=tmp_path / "gradients", dim=16
    )
    assert np.isfinite(sketch_gradients(config)[0]).all()  # log-probabilities agree, or it would be refused


def test_other_arguments_than_in_training_are_said(thinker: dict[str, Any]) -> None:
    always = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 4}
    record = {"generation": always, "chat_template_kwargs": {"enable_thinking": False}}
    (Path(thinker["model_name_or_path"]) / TRAINING_RECORD).write_text(json.dumps(record))
    with pytest.warns(UserWarning, match=r"chat_template_kwargs \{'enable_thinking': False\} \(now off\)"):
        table = read_rollouts(sample(SampleConfig(**thinker, chat_template_kwargs={})))
    assert table.metadata["chat_template_kwargs"] == {}


def test_they_are_nothing_to_plain_prompts_and_it_is_said(options: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match="the prompts are strings, to which no chat template is applied"):
        table = read_rollouts(sample(SampleConfig(**options, chat_template_kwargs={"enable_thinking": False})))
    assert table.metadata["chat_template_kwargs"] == {}

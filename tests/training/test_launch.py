"""`tailgrad train` from the command line."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification

from tailgrad.cli.main import main
from tailgrad.quickstart.policy import build_tokenizer
from tailgrad.quickstart.task import build_prompts


@pytest.fixture
def config(policy, options, tmp_path: Path):
    """Write a YAML config and return `tailgrad train`'s arguments for it, with changes on the command line."""
    data = tmp_path / "prompts.jsonl"
    rows = [row | {"question": row["prompt"]} for row in build_prompts("train")[:4]]
    data.write_text("".join(json.dumps({k: v for k, v in r.items() if k != "prompt"}) + "\n" for r in rows))
    values = options(max_steps=1) | {
        "model_name_or_path": str(policy),
        "dataset_name": str(data),
        "prompt_column": "question",
        "reward_funcs": ["tailgrad.quickstart.task.verifier"],
        "estimator": "max_at_k",
        "k": 3,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))

    def make(**changes: object) -> list[str]:
        text = [str(word) for name, value in changes.items() for word in (f"--{name}", value)]
        return ["train", "--config", str(path), *text]

    return make


def test_a_config_file_and_the_command_line_over_it(config, tmp_path: Path, capsys) -> None:
    assert main(config(k=4, num_generations=16)) == 0
    record = json.loads((tmp_path / "out" / "tailgrad_training.json").read_text())
    assert record["estimator"] == "max_at_k"
    assert record["options"] == {"k": 4}
    assert record["num_generations"] == 16
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert "trained policy is in" in capsys.readouterr().out


def test_a_reward_model_beside_a_function(config, tmp_path: Path, capsys) -> None:
    tokenizer = build_tokenizer()
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_labels": 1,
    }
    reward_model = LlamaForSequenceClassification(
        LlamaConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, bos_token_id=None, **sizes)
    )
    reward_model.save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    assert main([*config(reward_model_name_or_path=tmp_path / "judge"), "--reward_weights", "0.1", "1.0"]) == 0
    printed = capsys.readouterr().out
    assert "rewards/judge/mean" in printed
    assert "rewards/verifier/mean" in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "prefix_tee"}, "did you mean 'prefix_tea'"),
        ({"k": 99}, "k = 99"),
        ({"model_name_or_path": "/no/such/model"}, "/no/such/model"),
        ({"dataset_name": "/no/such/data.jsonl"}, "no such file"),
        ({"prompt_column": "text"}, "question"),
        ({"reward_funcs": "no_such_module.reward"}, "no_such_module"),
    ],
)
def test_bad_input_is_answered_in_a_line(config, capsys, changes, message) -> None:
    assert main(config(**changes)) == 2
    error = capsys.readouterr().err
    assert "tailgrad train: error: " in error
    assert message in error


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "is a Git LFS pointer"),
        ("config.json", '{"model_type": "unheard_of"}', "could not be loaded: The checkpoint"),
        ("config.json", {"hidden_size": 32}, "config and weights do not fit: lm_head.weight has the shape"),
        ("generation_config.json", "{", "generation_config.json is not JSON"),
        ("tokenizer.json", "{}", "could not be loaded: "),
    ],
)
def test_a_broken_policy_is_named_in_a_line(config, policy, tmp_path: Path, capsys, file, content, message) -> None:
    folder = shutil.copytree(policy, tmp_path / "broken")
    if isinstance(content, dict):
        content = json.dumps(json.loads((folder / file).read_text()) | content)
    (folder / file).write_text(content)
    assert main(config(model_name_or_path=folder)) == 2
    error = capsys.readouterr().err
    assert f"tailgrad train: error: policy '{folder}'" in error
    assert message in error


def test_a_policy_that_would_be_completed_at_random_is_refused(config, policy, tmp_path: Path, capsys) -> None:
    folder = shutil.copytree(policy, tmp_path / "without_head")
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert main(config(model_name_or_path=folder)) == 2
    words = f"policy '{folder}' is not a causal language model: it has no weights for lm_head.weight"
    assert words in capsys.readouterr().err


def test_a_reward_that_trl_knows_by_name(config, tmp_path: Path, capsys) -> None:
    assert main(config(reward_funcs="get_soft_overlong_punishment", max_steps=1)) == 0
    assert "trained policy is in" in capsys.readouterr().out


def test_no_reward_and_no_policy(policy, tmp_path: Path, capsys) -> None:
    out = ["--output_dir", str(tmp_path / "out"), "--bf16", "false"]
    assert main(["train", *out]) == 2
    assert "--model_name_or_path" in capsys.readouterr().err
    assert main(["train", "--model_name_or_path", str(policy), *out]) == 2
    assert "--reward_funcs" in capsys.readouterr().err


def test_help_names_the_estimators(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "prefix_tea" in printed
    assert "--advantage_scaling" in printed

"""`tailgrad train` from the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification

from tailgrad.cli.main import main
from tailgrad.files import locked
from tailgrad.quickstart.policy import build_tokenizer
from tailgrad.quickstart.task import build_prompts
from tailgrad.training import launch
from tailgrad.training.progress import TrainingEvents


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
        "estimator": "max_at_k:k=3",
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))

    def make(**changes: object) -> list[str]:
        text = [str(word) for name, value in changes.items() for word in (f"--{name}", value)]
        return ["train", "--config", str(path), *text]

    return make


def test_a_config_file_and_the_command_line_over_it(config, tmp_path: Path, capsys) -> None:
    assert main(config(estimator="max_at_k:k=4", num_generations=16)) == 0
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
        ({"estimator": "max_at_k:k=99"}, "k = 99"),
        (
            {"k": 4},
            "no option of `tailgrad train`: it belongs to the estimators max_at_k, order_grad",
        ),
        (
            {"tail_fraction": 0.5},
            "tea, prefix_tea, flat_tea, cvar: write --estimator tea:tail_fraction=VALUE",
        ),
        ({"model_name_or_path": "/no/such/model"}, "/no/such/model"),
        ({"dataset_name": "/no/such/data.jsonl"}, "no such file"),
        ({"prompt_column": "text"}, "question"),
        ({"reward_funcs": "no_such_module.reward"}, "no_such_module"),
        ({"reward_max_length": 64}, "reward_max_length without a reward model"),
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


def options_without_batch(config: list[str], tmp_path: Path) -> list[str]:
    path = tmp_path / "config.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({name: value for name, value in values.items() if "batch_size" not in name}))
    return config


def test_without_a_batch_option_any_number_of_generations_trains(config, tmp_path: Path, capsys) -> None:
    assert main(options_without_batch(config(num_generations=16, estimator="max_at_k:k=4"), tmp_path)) == 0
    said = "A step takes 1 prompt with 16 rollouts each. --gradient_accumulation_steps takes more.\n"
    assert said in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "tailgrad_training.json").read_text())["num_generations"] == 16


def test_a_batch_that_does_not_fit_is_answered_with_one_that_does(config, capsys) -> None:
    assert main(config(num_generations=16, per_device_train_batch_size=8)) == 2
    assert "--per_device_train_batch_size 16" in capsys.readouterr().err


def test_fewer_prompts_than_a_batch_takes_end_in_an_error_before_any_model_is_loaded(
    config, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(launch, "TailGRPOTrainer", None)
    monkeypatch.setattr(launch, "load_rewards", None)
    assert main(config(per_device_train_batch_size=64)) == 2
    found = capsys.readouterr()
    assert "has 4 prompts, fewer than the 8" in found.err
    assert "trained policy" not in found.out


def test_one_file_is_not_trained_and_evaluated_on(config, tmp_path: Path, capsys) -> None:
    evaluated = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 4}
    assert main(config(**evaluated)) == 2
    assert "--test_split_size" in capsys.readouterr().err
    assert main(config(**evaluated, test_split_size=2, output_dir=tmp_path / "held-out")) == 0
    assert "eval_reward" in capsys.readouterr().out


def test_rows_of_a_mixture_are_held_out_by_seed(config, tmp_path: Path, monkeypatch) -> None:
    seen = []

    class Seen(launch.TailGRPOTrainer):
        def __init__(self, **given: Any) -> None:
            seen.append([given[name]["prompt"][:] for name in ("train_dataset", "eval_dataset")])
            super().__init__(**given)

    monkeypatch.setattr(launch, "TailGRPOTrainer", Seen)
    path = tmp_path / "config.yaml"
    values = yaml.safe_load(path.read_text())
    mixture = {"path": "json", "data_files": values.pop("dataset_name"), "split": "train"}
    values |= {"datasets": [mixture], "eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 4}
    path.write_text(yaml.safe_dump(values))
    assert main(config()) == 2  # it has no split for the evaluation
    for folder in ("one", "two"):
        assert main(config(test_split_size=2, output_dir=tmp_path / folder)) == 0
    assert seen[0] == seen[1]
    assert [len(rows) for rows in seen[0]] == [2, 2]
    assert not {*seen[0][0]} & {*seen[0][1]}


def test_after_an_interruption_the_command_that_it_names_goes_on(config, tmp_path: Path, capsys, monkeypatch) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}

    class Interrupt(TrainingEvents):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(launch, "TrainingEvents", Interrupt)
        assert main(config(**saving)) == 130
    assert "the same command with --resume_from_checkpoint last goes on" in capsys.readouterr().err
    assert main(config(**saving)) == 2
    assert "--resume_from_checkpoint last" in capsys.readouterr().err
    assert main(config(**saving, resume_from_checkpoint="last")) == 0
    assert "The training goes on from step 2." in capsys.readouterr().out
    assert main(config(**saving, resume_from_checkpoint="last")) == 0
    assert "The training had reached step 3, its last." in capsys.readouterr().out


def test_two_trainings_do_not_write_into_one_folder(config, tmp_path: Path, capsys) -> None:
    with locked(tmp_path / "out" / "_tailgrad.lock", "the folder"):
        assert main(config()) == 2
    assert f"output_dir '{tmp_path / 'out'}' is being written by another process" in capsys.readouterr().err
    assert main(config()) == 0


def test_a_policy_with_code_of_its_own_is_trained_where_that_is_asked_for(
    config, policy, tmp_path: Path, capsys, monkeypatch
) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(policy, folder)
    (folder / "code.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class Own(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    names = {"AutoConfig": "code.OwnConfig", "AutoModelForCausalLM": "code.Own"}
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "own", "auto_map": names}))
    assert main(config(model_name_or_path=folder)) == 2
    assert "code of its own, which runs only with trust_remote_code" in capsys.readouterr().err
    load, given = launch.load_reward, {}
    monkeypatch.setattr(launch, "load_reward", lambda name, **options: given.update(options) or load(name, **options))
    assert main(config(model_name_or_path=folder, trust_remote_code=True)) == 0
    assert given["trust_remote_code"] is True


def test_a_missing_split_and_a_mixture_without_rows_are_named(config, tmp_path: Path, capsys) -> None:
    DatasetDict({"all": Dataset.from_dict({"question": ["one", "two"]})}).save_to_disk(tmp_path / "splits")
    assert main(config(dataset_name=tmp_path / "splits")) == 2
    assert "has no split 'train'; it has all. Choose one: --dataset_train_split." in capsys.readouterr().err
    path = tmp_path / "config.yaml"
    values = yaml.safe_load(path.read_text())
    mixture = {"path": "json", "data_files": values.pop("dataset_name"), "split": "train[:0]"}
    path.write_text(yaml.safe_dump(values | {"datasets": [mixture]}))
    assert main(config()) == 2
    assert "a data set of the mixture is empty: there are no prompts in it." in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default `max_length`")
def test_responses_without_a_limit(config, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"max_completion_length": None}))
    assert main(config()) == 0
    assert json.loads((tmp_path / "out" / "tailgrad_training.json").read_text())["generation"]["max_new_tokens"] is None


def test_a_local_stream_is_not_trained_and_evaluated_on_either(config, capsys) -> None:
    evaluated = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 4, "dataset_streaming": True}
    assert main(config(**evaluated)) == 2
    assert "--test_split_size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said", "words"),
    [
        ({"datasets": True}, {}, "datasets (of the config file) and dataset_name = "),
        (
            {"datasets": True, "dataset_name": None},
            {"dataset_streaming": True},
            "dataset_streaming is for dataset_name",
        ),
        ({"streaming": True}, {}, "streaming is for datasets of a config file"),
    ],
)
def test_two_sources_of_prompts_are_refused(config, tmp_path: Path, capsys, changes, said, words: str) -> None:
    path = tmp_path / "config.yaml"
    given = yaml.safe_load(path.read_text())
    mixture = [{"path": "json", "data_files": given["dataset_name"], "split": "train"}]
    given |= {**changes, **({"datasets": mixture} if "datasets" in changes else {})}
    path.write_text(yaml.safe_dump({name: value for name, value in given.items() if value is not None}))
    assert main(config(**said)) == 2
    assert words in capsys.readouterr().err

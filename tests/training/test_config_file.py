"""A config file that cannot be used is answered in a line that names the file."""

from pathlib import Path
from typing import Any

import pytest

from tailgrad.cli.main import main
from tailgrad.training.launch import make_parser
from tailgrad.training.parser import MOST_USED

CPU = "use_cpu: true\nbf16: false\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_generations: [16", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("\t- x", "is not YAML"),
        ("- num_generations", "is not a mapping"),
        ("", "is not a mapping"),
        ("num_generation: 16", "did you mean 'num_generations'"),
        ("2024: 16", "the key 2024"),
        ("center: true", "the key 'center', which is no option of `tailgrad train`: it belongs to the estimator tea"),
        ("risk_beta: 2", "write --estimator rs_grpo:risk_beta=VALUE"),
        ("save_strategy: no", 'save_strategy: "no"'),
        ("eval_strategy: off", 'eval_strategy: "no"'),
        ("lr_scheduler_type: yes", "cosine"),
        ("num_generations: [16, 32]", "it takes one value"),
        ("beta: {a: 1}", "it takes one value"),
        ("output_dir: [a, b]", "output_dir is ['a', 'b']; it takes one value"),
        ("prompt_column: {a: b}", "it takes one value"),
        (
            "prompt_column: off",
            "prompt_column is read as false, as YAML reads yes, no, on and off. Put the word in quotes",
        ),
        ("dataset_name: yes", "dataset_name is read as true"),
        ("reward_funcs: [accuracy_reward, no]", "reward_funcs is read as false"),
    ],
)
def test_a_broken_file(tmp_path: Path, capsys, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path)]) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith(f"tailgrad train: error: config {str(path)!r}")
    assert message in first


def test_a_file_that_is_no_text(tmp_path: Path, capsys) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00beta")
    assert main(["train", "--config", str(path)]) == 2
    assert "is not YAML" in capsys.readouterr().err


def test_no_file(tmp_path: Path, capsys) -> None:
    assert main(["train", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    for words in (["--config"], ["--config="]):
        assert main(["train", *words]) == 2
        assert "--config names no file" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", [["--config", "{}"], ["--config={}"]])
def test_both_spellings_of_the_option(tmp_path: Path, spelling: list[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CPU + f"output_dir: {tmp_path}\nnum_generations: 8\nsave_strategy: 'no'\n")
    _, config, *_ = make_parser().read([word.format(path) for word in spelling])
    assert config.num_generations == 8
    assert config.save_strategy == "no"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--estimater", "tea"], "--estimater is no option of `tailgrad train`; did you mean --estimator?"),
        (
            ["--num_generation=16"],
            "--num_generation is no option of `tailgrad train`; did you mean --num_generations or "
            "--num_generations_eval?",
        ),
        (["--estim", "tea"], "--estim is no option of `tailgrad train`; did you mean --estimator?"),
        (["--zzz"], "--zzz is no option of `tailgrad train`; `tailgrad train --help` lists the options."),
    ],
)
def test_a_word_that_is_no_option(capsys, words: list[str], message: str) -> None:
    assert main(["train", *words]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"tailgrad train: error: {message}"


def test_an_option_may_be_written_with_dashes(tmp_path: Path) -> None:
    words = [
        "--estimator",
        "grpo",
        "--num-generations=8",
        "--use_cpu",
        "--bf16",
        "false",
        "--output_dir",
        str(tmp_path),
    ]
    _, config, *_ = make_parser().read(words)
    assert (config.estimator, config.num_generations) == ("grpo", 8)


def test_the_help_has_our_options_first_and_all_others_when_asked(capsys) -> None:
    for option, everything in (("--help", False), ("--help_all", True)):
        with pytest.raises(SystemExit) as stop:
            main(["train", option])
        printed = capsys.readouterr().out
        assert stop.value.code == 0
        ours, theirs = printed.index("options of tailgrad:"), printed.index("options of TRL")
        assert ours < printed.index("--estimator ") < theirs < printed.index("--num_generations ")
        assert ("options of transformers:" in printed) == ("--adam_beta1 " in printed) == everything
        assert "--num-generations" not in printed
    assert all(f"--{action.dest} " in printed for action in make_parser()._actions if action.dest.islower())


def test_the_most_used_options_are_there() -> None:
    assert set(MOST_USED) <= {action.dest for action in make_parser()._actions}


def test_what_may_be_a_text_or_a_flag_may_be_either(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    own = "scale_rewards: false\nresume_from_checkpoint: true\nmodel_init_kwargs: {a: 1}\nreport_to: [none]\n"
    path.write_text(CPU + f"output_dir: {tmp_path}\nnum_generations: 8\n" + own)
    _, config, *_ = make_parser().read(["--config", str(path)])
    assert (config.scale_rewards, config.resume_from_checkpoint) == ("none", True)
    assert config.model_init_kwargs == {"a": 1}


def test_help_names_the_estimators(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "prefix_tea" in printed
    assert "--advantage_scaling" in printed


def test_the_help_says_what_our_options_do_where_they_differ_from_trl(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "last: go on from the newest checkpoint that can be resumed exactly, or start anew if there" in printed
    assert "Not directly used by" not in printed
    assert "modules are also looked for in the current directory" in printed


OPTIONS = "model_name_or_path: none\n" + CPU


def read(tmp_path: Path, text: str) -> dict[str, Any]:
    """All options that a file sets, by name."""
    path = tmp_path / "train.yaml"
    path.write_text(f"{OPTIONS}output_dir: {tmp_path}\n{text}")
    return {name: value for part in make_parser().read(["--config", str(path)]) for name, value in vars(part).items()}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("reward_funcs: rewards.hashed", "reward_funcs", ["rewards.hashed"]),
        ("reward_funcs: [a.b, c.d]", "reward_funcs", ["a.b", "c.d"]),
        ("reward_weights: 1", "reward_weights", [1.0]),
        ("save_at_steps: 3", "save_at_steps", [3]),
        ("save_at_steps: [3.0, 4]", "save_at_steps", [3, 4]),
        ("num_generations: 8.0", "num_generations", 8),
        ("deploy_n: 64.0", "deploy_n", 64),
        ("deploy_n: '64'", "deploy_n", 64),
        ("num_generations: null", "num_generations", 8),
        ("seed: null", "seed", 42),
        ("num_generations_eval: null", "num_generations_eval", None),
        ("learning_rate: 1e-6", "learning_rate", 1e-6),
        ("generation_kwargs: {min_p: 0.1}", "generation_kwargs", {"min_p": 0.1}),
    ],
)
def test_a_value_is_what_the_command_line_would_make_of_it(tmp_path: Path, text: str, name: str, value: Any) -> None:
    found = read(tmp_path, text)[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_generations: 8.5", "num_generations is 8.5; it must be a whole number"),
        ("save_at_steps: [3.5]", "save_at_steps is 3.5; it must be a whole number"),
        ("save_at_steps: [yes]", "save_at_steps is True; it must be a whole number"),
        ("reward_timeout: yes", "reward_timeout is True; it must be a number"),
        ("learning_rate: fast", "learning_rate is 'fast'; it must be a number"),
    ],
)
def test_a_number_that_is_none_is_refused_in_a_line(tmp_path: Path, text: str, words: str, capsys) -> None:
    (tmp_path / "train.yaml").write_text(f"{OPTIONS}output_dir: {tmp_path}\n{text}")
    assert main(["train", "--config", str(tmp_path / "train.yaml")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert words in said[0]

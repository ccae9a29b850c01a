"""What a grid's YAML may say, and what is said of one that cannot be."""

import contextlib
import copy
import datetime
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from tailgrad.grid import GridConfig, read_grid
from tailgrad.grid.commands import train_options
from tailgrad.grid.results import COLUMNS
from tailgrad.grid.trainings import bases, choosing, key_of, trials
from tailgrad.runner import flags

PAGE = Path(__file__).resolve().parents[2] / "docs" / "grid.md"
REPORT_PAGE = PAGE.with_name("grid_report.md")
FILES = {"train": "a.jsonl", "choose": "b.jsonl", "test": "c.jsonl"}


def test_a_grid_is_read(make_grid, tmp_path: Path) -> None:
    config = make_grid(estimators=["grpo", "max_at_k:k=4"], checkpoints=[4, 6], train={"max_steps": 10}, seeds=None)
    assert config.estimators == ("grpo", "max_at_k:k=4")
    assert config.m_and_n == ((8, 16),)
    assert config.seeds == (0, 1, 2)
    assert config.steps == 10
    assert (config.results, config.work) == (tmp_path / "results.parquet", tmp_path / "work")
    assert config.num_processes == 1


def test_the_command_line_goes_before_the_file(write_grid, tmp_path: Path) -> None:
    assert read_grid(write_grid(tmp_path), processes=3).num_processes == 3
    assert read_grid(write_grid(tmp_path)).num_processes == 1
    assert read_grid(write_grid(tmp_path), reference="tea").reference == "tea"
    assert read_grid(write_grid(tmp_path, processes=None)).num_processes >= 1


def test_numbers_that_yaml_reads_as_text(tmp_path: Path, write_grid) -> None:
    path = write_grid(tmp_path, learning_rates=None)
    path.write_text(path.read_text() + "learning_rates: [1e-3, 3e-4, 1]\nbetas: [2e-2, 0]\n")
    config = read_grid(path)
    assert config.learning_rates == (1e-3, 3e-4, 1.0)
    assert config.betas == (0.02, 0.0)
    assert all(isinstance(value, float) for value in (*config.learning_rates, *config.betas))


def test_paths_start_from_the_folder_of_the_file(make_grid, tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    config = make_grid(results=str(tmp_path / "elsewhere" / "rows.parquet"))
    assert config.locate("policy") == str(tmp_path / "policy")
    assert config.locate("org/name") == "org/name"
    assert config.locate(str(tmp_path)) == str(tmp_path)
    assert config.results == tmp_path / "elsewhere" / "rows.parquet"


@pytest.mark.parametrize(
    "name", ["results", "work", "policies", "rewards", "prompts", "estimators", "m_and_n", "train"]
)
def test_a_missing_key_is_named(write_grid, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"grid.yaml' lacks the key '{name}'"):
        read_grid(write_grid(tmp_path, **{name: None}))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"zeal": 0}, "has the unknown key 'zeal'; known are results, work, policies"),
    ({"seed": 0}, r"has the unknown key 'seed'; did you mean 'seeds'\?"),
    ({"kl_weight": [0.1]}, "has the unknown key 'kl_weight'; known are results"),
    ({"beta": [0.1]}, r"has the unknown key 'beta'; did you mean 'betas'\?"),
    ({"model": "x"}, "has the unknown key 'model'; known are results"),
    ({"budgets": [[8, 16]]}, r"has the unknown key 'budgets'; did you mean 'm_and_n'\?"),
    ({"estimators": ["grpo", "te"]}, "unknown estimator 'te', did you mean 'tea'"),
    ({"estimators": ["grpo", "tea:k=4"]}, "tea takes no option 'k'"),
    ({"estimators": ["grpo", "tea:deploy_n=64"]}, r"'tea:deploy_n=64' sets deploy_n: say it in `m_and_n`"),
    ({"estimators": ["grpo", "max_at_k"]}, r"'max_at_k' with \[m, N\] = \[8, 16\]: max_at_k needs the option k"),
    ({"estimators": ["grpo", "max_at_k:k=9"]}, r"'max_at_k:k=9' with \[m, N\] = \[8, 16\]: .*k = 9"),
    ({"estimators": ["grpo", "prefix_tea"], "m_and_n": [[4, 16]]}, r"'prefix_tea' with \[m, N\] = \[4, 16\]"),
    ({"estimators": "grpo"}, "estimators is 'grpo'; it must be a list"),
    ({"estimators": []}, r"estimators is \(\); it must be a list or mapping that is not empty"),
    ({"estimators": ["tea", "grpo", "tea"]}, "estimators has 'tea' twice"),
    ({"seeds": [0, 1, 0]}, "seeds has 0 twice"),
    ({"learning_rates": ["1e-3", 0.001]}, "learning_rates has 0.001 twice"),
    ({"reference": "rloo"}, "reference 'rloo' is not among the estimators grpo, tea"),
    ({"policies": {}}, "policies is {}; it must be a list or mapping that is not empty"),
    ({"policies": "small"}, "policies is 'small'; it must be a mapping"),
    ({"train": 60}, "train is 60; it must be a mapping"),
    ({"prompts": {"tasks": {"train": "a", "test": "b"}}}, "'tasks' has the parts test, train; it needs train, choose"),
    ({"prompts": {"tasks": FILES | {"dev": "d"}}}, "'tasks' has the parts choose, dev, test, train"),
    ({"prompts": {"tasks": FILES | {"choose": FILES["test"]}}}, "'tasks' chooses on its test prompts"),
    ({"prompts": {"tasks": "a.jsonl"}}, r"prompts\['tasks'\] is 'a.jsonl'; it must be a mapping"),
    ({"train": {"max_steps": 2, "beta": 0.1}}, "the grid sets beta itself: leave it out of `train` and `sample`"),
    ({"train": {"max_steps": 2, "output_dir": "x"}}, "the grid sets output_dir itself"),
    ({"sample": {"n": 4}}, "the grid sets n itself"),
    ({"sample": {"model": "x"}}, "sample has the option 'model', .*did you mean 'model_name_or_path'"),
    ({"sample": {"max_new_tokens": 24}}, "sample has the option 'max_new_tokens', .* mean 'max_completion_length'"),
    ({"sample": {"batch_sise": 9}}, "sample has the option 'batch_sise', .* did you mean 'batch_size'"),
    ({"sample": {"trust_remote_code": True}}, "trust_remote_code cannot be given in `sample`"),
    ({"train": {"max_steps": 2, "model": "x"}}, "train has the option 'model', .* did you mean 'model_name_or_path'"),
    ({"train": {"max_steps": 2, "reward_model_dtype": "auto"}}, "'reward_model_dtype', .* did you mean 'reward_dtype'"),
    ({"train": {}}, "train has no max_steps"),
    ({"train": {"max_steps": -1}}, "max_steps of train is -1; it must be a whole number, at least 1"),
    ({"train": {"max_steps": "many"}}, "max_steps of train is 'many'"),
    ({"checkpoints": [2]}, "checkpoint 2 does not lie between 0 and max_steps = 2"),
    ({"checkpoints": [0]}, r"checkpoints\[0\] is 0; it must be greater than or equal to 1"),
    ({"checkpoints": [4, 2], "train": {"max_steps": 6}}, r"checkpoints are \[4, 2\]: give them in increasing order"),
    ({"also_score": {"verifier": "x.y"}}, "also_score gives 'verifier' a reward, and so does rewards"),
    ({"also_score": "judge"}, "also_score is 'judge'; it must be a list"),
    ({"also_score": ["judge"]}, "also_score names 'judge', which is not among the rewards verifier"),
    ({"m_and_n": [8, 16]}, r"m_and_n\[0\] is 8; it must be a list"),
    ({"m_and_n": [[8, 16, 32]]}, r"m_and_n\[0\] is \(8, 16, 32\); it must be a pair \[m, N\]"),
    ({"m_and_n": [[1, 16]]}, r"m_and_n\[0\]\[0\] is 1; it must be greater than or equal to 2"),
    ({"m_and_n": [[8, 0]]}, r"m_and_n\[0\]\[1\] is 0; it must be greater than or equal to 1"),
    ({"learning_rates": ["fast"]}, r"learning_rates\[0\] is 'fast'; it must be a number"),
    ({"learning_rates": [0.0]}, r"learning_rates\[0\] is 0.0; it must be greater than 0"),
    ({"learning_rates": 0.001}, "learning_rates is 0.001; it must be a list"),
    ({"betas": [-0.1]}, r"betas\[0\] is -0.1; it must be greater than or equal to 0"),
    ({"betas": [float("inf")]}, r"betas\[0\] is inf; it must be a finite number"),
    ({"choose_beta": "yes"}, "choose_beta is 'yes'; it must be true or false"),
    ({"seeds": 3}, r"seeds is 3; it must be a list"),
    ({"seeds": [0.5]}, r"seeds\[0\] is 0.5; it must be a whole number"),
    ({"test_n": 0}, "test_n is 0; it must be greater than or equal to 1"),
    ({"choose_n": "1e2"}, "choose_n is '1e2'"),
    ({"test_limit": 0}, "test_limit is 0"),
    ({"processes": 0}, "processes is 0"),
    ({"prompts_per_step": True}, "prompts_per_step is True"),
    ({"learning_rates": [True]}, r"learning_rates\[0\] is True; it must be a number"),
    ({"betas": [10**400]}, r"betas\[0\] is 1000"),
    ({"seeds": [2**32]}, r"seeds\[0\] is 4294967296; it must be less than 4294967296"),
    ({"estimators": [["grpo"]]}, r"estimators\[0\] is \('grpo',\); it must be a text"),
    ({"policies": {"tiny": ["policy"]}}, r"policies\['tiny'\] is \['policy'\]; it must be a text"),
    ({"policies": {"tiny": " "}}, r"policies\['tiny'\] is ' '; it must be a text that is not empty"),
    ({"prompts": {"tasks": FILES | {"test": {}}}}, r"prompts\['tasks'\]\['test'\] is {}; it must be a text"),
    ({"also_score": {"judge": 3.5, "other": []}}, r"also_score\['other'\] is \[\]; it must be a text"),
    ({"also_score": [["verifier"]]}, r"also_score\[0\] is .* it must be a text"),
    ({"results": ["rows.parquet"]}, r"results is \('rows.parquet',\); it must name a file"),
    ({"train": {"max_steps": 2, "gradient_accumulation_steps": 4}}, "would change how many prompts a step has"),
    ({"train": {"max_steps": 2, "generation_batch_size": 64}}, "how many rollouts go through the policy at once"),
    ({"train": {"max_steps": 2, "auto_find_batch_size": True}}, r"\(per_device_train_batch_size\)"),
    ({"train": {"max_steps": 2, "num_iterations": "two"}}, "num_iterations of train is 'two'"),
    (
        {"train": {"max_steps": 2, "tail_fraction": 0.5}},
        "flat_tea, cvar: write in `estimators` tea:tail_fraction",
    ),
    ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0"),
    ({"per_device_train_batch_size": 12}, "is 12, which does not divide the 16 rollouts of a step .*such as 4"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_said(make_grid, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_grid(**changes)


def test_a_file_that_is_no_grid(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml.*there is no such file"):
        read_grid(tmp_path / "none.yaml")
    path = tmp_path / "grid.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(ValueError, match="is not a mapping of keys to values"):
        read_grid(path)
    path.write_text("a: [1\nb: {")
    with pytest.raises(ValueError, match=r"grid.yaml' is not YAML: "):
        read_grid(path)


NULLS = [
    ("results: null", "results is None; it must name a file"),
    ("work:", "work is None; it must name a file"),
    ("policies: {a: null}", "policies['a'] is None; it must be a text"),
    ("policies: {~: x, '': y}", "policies[''] is ''; it must be a text that is not empty"),
    ("rewards: null", "rewards is None; it must be a mapping"),
    ("prompts: {a: {train: a, choose: b, test: }}", "prompts['a']['test'] is None; it must be a text"),
    ("estimators: [null]", "estimators[0] is None; it must be a text"),
    ("also_score: {judge: }", "also_score['judge'] is None; it must be a text"),
    ("seeds:", "seeds is None; it must be a list."),
    ("policies: {a: x, a: y}", "has the key 'a' twice (line "),
    ("train: {max_steps: 2, top_k: 1, top_k: 2}", "has the key 'top_k' twice"),
    ("work: elsewhere\nwork: here", "has the key 'work' twice (line "),
    ("policies: {[a]: x}", "has a list or a mapping in the place of a key"),
    ("estimators: &all [*all]", "has a value that contains itself"),
    ("test_n: !!bool maybe", "is not YAML: "),
    ("sample: {seed: !!set {a, b}}", "sample['seed'] is {"),
]


@pytest.mark.parametrize(("line", "message"), NULLS, ids=[line for line, _ in NULLS])
def test_what_yaml_itself_can_say_wrong(write_grid, tmp_path: Path, line: str, message: str) -> None:
    path = write_grid(tmp_path, **{line.partition(":")[0]: None})
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_grid(path)
    assert "\n" not in str(caught.value)


def test_names_are_taken_as_they_are_written(write_grid, tmp_path: Path) -> None:
    """YAML reads each of these as something else: a boolean, a number, a date, nothing."""
    odd = ["no", "2024", "on", "1e3", "1_000", "0x1f", "12:30", "2024-01-02", "null", "~", "1.50", ".inf", "Yes"]
    names = ", ".join(f"{name}: {name if name not in ('null', '~') else 'text'}" for name in odd)
    parts = ", ".join(f"{name}: {{train: a, choose: 1, test: 2}}" for name in odd)
    lines = f"policies: {{{names}}}\nrewards: {{{names}}}\nprompts: {{{parts}}}\nalso_score: [no, 1e3]\nwork: 2024\n"
    path = write_grid(tmp_path, policies=None, rewards=None, prompts=None, work=None)
    path.write_text(path.read_text() + lines)
    config = read_grid(path)
    expected = {name: name if name not in ("null", "~") else "text" for name in odd}
    assert config.policies == config.rewards == expected
    assert config.prompts == {name: {"train": "a", "choose": "1", "test": "2"} for name in odd}
    assert config.also_score == ("no", "1e3")
    assert config.work == tmp_path / "2024"


def test_values_that_are_no_names_stay_what_yaml_says(write_grid, tmp_path: Path) -> None:
    path = write_grid(tmp_path, train=None)
    lines = "train: {<<: {bf16: on, use_cpu: yes}, use_cpu: no, max_steps: 2, run_name: 2024-01-02, no: 3}\n"
    path.write_text(path.read_text() + lines)
    config = read_grid(path)
    assert config.train == {"bf16": True, "use_cpu": False, "max_steps": 2, "run_name": "2024-01-02", "no": 3}


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested lists and mappings."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in below:
        yield (*here, key)
        yield from places(child, (*here, key))


@pytest.mark.filterwarnings("ignore:deploy_n = 7 is not larger")
def test_a_grid_with_any_value_replaced_is_read_or_refused(write_grid, tmp_path: Path) -> None:
    """No value of any kind at any place raises anything else; what is read gives commands."""
    also = {"also_score": {"judge": "x.y"}, "sample": {"batch_size": 64, "generation_kwargs": {"min_p": 0.1}}}
    train = {"max_steps": 2, "num_iterations": 2, "generation_kwargs": {"min_p": 0.1}}
    path = write_grid(tmp_path, **also, train=train, betas=[0.0], test_limit=3, reference="tea")
    whole = yaml.safe_load(path.read_text())
    date = datetime.date(2024, 1, 2)
    values = [None, 7, -1, 0.5, True, "text", "", "7", [], [1], ["a"], [[None]], {}, {"a": 1}, {"a": None}, date]
    read = 0
    for place in places(whole):
        for value in values:
            changed = copy.deepcopy(whole)
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            path.write_text(yaml.safe_dump(changed))
            with contextlib.suppress(ValueError):
                config = read_grid(path)
                for training in trials(config):
                    assert all(isinstance(word, str) for word in flags(train_options(config, training)))
                    assert key_of(config, training, choosing(config, training)[0])
                assert [training.label(config) for training in bases(config)]
                read += 1
    assert read > 50  # names may be almost anything


def test_the_file_of_the_page_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "grid.yaml"
    path.write_text(example)
    config = read_grid(path)
    assert config.estimators == ("grpo", "tea", "prefix_tea", "max_at_k:k=8")
    assert config.learning_rates == (3e-4, 1e-3)


def test_the_page_has_every_key_with_its_default_and_every_column() -> None:
    text = PAGE.read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \|$", text, re.MULTILINE))
    keys = [entry for entry in fields(GridConfig) if entry.name != "folder"]
    assert set(rows) == {entry.name for entry in keys}
    for entry in keys:
        needed = entry.default is MISSING and entry.default_factory is MISSING
        assert (rows[entry.name] == "needed") == needed
        if isinstance(entry.default, int | str):
            assert rows[entry.name] == (str(entry.default).lower() if entry.default is False else str(entry.default))
    text = REPORT_PAGE.read_text()
    described = text[text.index("## The results table") : text.index("## The report")]
    assert set(re.findall(r"`(\w+)`", described)) >= set(COLUMNS)

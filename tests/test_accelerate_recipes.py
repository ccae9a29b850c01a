"""The files for `accelerate launch` are read by its parser and say what those that TRL ships say."""

from pathlib import Path
from typing import Any

import pytest
import trl
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

FOLDER = Path(__file__).resolve().parent.parent / "recipes" / "accelerate"
THEIRS = Path(trl.__file__).parent / "accelerate_configs"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_a_file_that_agrees_with_trl(path: Path) -> None:
    read = load_config_from_file(str(path))
    ours: dict[str, Any] = yaml.safe_load(path.read_text())
    theirs = yaml.safe_load((THEIRS / {"fsdp": "fsdp2.yaml"}.get(path.stem, path.name)).read_text())
    assert {name: theirs[name] for name in ours} == ours
    assert read.distributed_type.value == ours["distributed_type"]
    assert read.num_processes == 8
    words = ["--config_file", str(path), "-m", "--", "tailgrad.cli.main", "train", "--n", "4"]
    given = launch_command_parser().parse_args(words)
    assert (given.training_script, given.training_script_args) == ("tailgrad.cli.main", ["train", "--n", "4"])


def test_every_kind_is_there() -> None:
    assert [path.stem for path in FILES] == ["fsdp", "multi_gpu", "zero2", "zero3"]

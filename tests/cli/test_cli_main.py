"""What the command says of input that it cannot use, whatever was raised."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tailgrad.cli import curve
from tailgrad.cli.main import COMMANDS, main

HEAVY = {"torch", "transformers", "trl", "datasets", "numpy", "scipy", "pyarrow", "matplotlib", "yaml", "jaxtyping"}


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch):
    """Make `tailgrad curve` raise an error."""

    def set_error(error: BaseException) -> None:
        def run(words: Sequence[str]) -> None:
            raise error

        monkeypatch.setattr(curve, "run", run)

    return set_error


CURVE = ["curve", "table.parquet", "--out", "report"]


def test_an_error_for_the_user_is_its_message(raising, capsys) -> None:
    raising(ValueError("m is 0; it must be at least 2."))
    assert main(CURVE) == 2
    assert capsys.readouterr().err == "tailgrad curve: error: m is 0; it must be at least 2.\n"


@pytest.mark.parametrize("error", [KeyError("reward"), IndexError("3"), AssertionError(), ZeroDivisionError("x")])
def test_an_error_that_nobody_foresaw_is_told_with_its_kind_and_place(raising, capsys, error) -> None:
    raising(error)
    assert main(CURVE) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith(f"tailgrad curve: error: {type(error).__name__}: ")
    assert "test_cli_main.py, line" in first


def test_what_python_itself_finds_wrong_is_told_with_its_kind_and_place(monkeypatch, capsys) -> None:
    monkeypatch.setattr(curve, "run", lambda args: float("three") <= 3)
    assert main(CURVE) == 2
    assert "error: ValueError: could not convert string" in capsys.readouterr().err
    monkeypatch.setattr(curve, "run", lambda args: sorted([1, "a"]))
    assert main(CURVE) == 2
    assert "error: TypeError: '<' not supported" in capsys.readouterr().err
    monkeypatch.setattr(curve, "run", lambda args: Path("/no/such/file").read_text())
    assert main(CURVE) == 2
    assert "error: [Errno 2] No such file or directory: '/no/such/file'" in capsys.readouterr().err


def test_a_broken_pipe_to_another_process_is_an_error(raising, capsys) -> None:
    raising(BrokenPipeError(32, "Broken pipe"))
    assert main(CURVE) == 2
    assert capsys.readouterr().err == "tailgrad curve: error: [Errno 32] Broken pipe\n"


def test_the_traceback_can_be_asked_for(raising, monkeypatch) -> None:
    raising(KeyError("reward"))
    monkeypatch.setenv("TAILGRAD_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(CURVE)


@pytest.mark.parametrize("command", [command.__name__.rpartition(".")[2] for command in COMMANDS])
def test_help_is_text_and_not_its_template(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "%%" not in printed
    assert "%(" not in printed


@pytest.mark.parametrize("command", sorted({command.__name__.rpartition(".")[2] for command in COMMANDS} - {"train"}))
def test_help_waits_for_no_library(command: str) -> None:
    """But for the help of `train`, whose options are TRL's dataclasses: these load everything."""
    code = (
        "import atexit, sys; from tailgrad.cli.main import main\n"
        f"atexit.register(lambda: print(*{HEAVY} & sys.modules.keys(), file=sys.stderr))\n"
        f"main([{command!r}, '--help'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"usage: tailgrad {command} ")
    assert result.stderr.split() == []


def test_a_warning_for_the_user_is_one_line_and_those_of_old_names_in_transformers_are_not_shown() -> None:
    code = (
        "import sys, warnings; from tailgrad.cli import curve, main\n"
        "def run(args):\n"
        "    warnings.warn('look here'); warnings.warn('from elsewhere', RuntimeWarning)\n"
        "    warnings.warn_explicit('old name', FutureWarning, 'x.py', 1, module='transformers.modeling_utils')\n"
        "curve.run = run; sys.argv = ['tailgrad', 'curve', 'a', '--out', 'b']; sys.exit(main.main())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0
    assert "warning: look here\n" in said.stderr.splitlines(keepends=True)
    assert "RuntimeWarning: from elsewhere" in said.stderr
    assert "old name" not in said.stderr


@pytest.mark.parametrize(
    "words",
    [
        "curve ~nobody-here/a.npy --out out",
        "curve {table} --out ~nobody-here/out",
        "tails {table} --out ~nobody-here/out",
        "plan {table} --out ~nobody-here/out",
        "fidelity {table} --model_name_or_path m --deploy_n 4 --out ~nobody-here/out",
        "judge {table} ~nobody-here/a.npy --out out --base_url http://localhost:1 --judge_model m",
        "report {table} --out ~nobody-here/out.html",
        "score ~nobody-here/a.parquet --reward_funcs statistics.mean --out b.parquet",
        "sample --model_name_or_path m --dataset_name ~nobody-here/d --reward_funcs statistics.mean --out b.parquet",
        "train --model_name_or_path ~nobody-here/m --dataset_name d --reward_funcs statistics.mean --output_dir out",
        "serve --model_name_or_path ~nobody-here/m --reward_funcs statistics.mean",
        "quickstart --out ~nobody-here/out",
    ],
)
def test_a_home_folder_that_is_not_there_is_an_error_of_one_line(
    words: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rewards.npy", np.linspace(0, 1, 64).reshape(4, 16))
    assert main(words.format(table="rewards.npy").split()) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(said) == 1
    assert "nobody-here" in said[0]
    assert "did not foresee" not in said[0]


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads_on_ends_quietly(lines: int) -> None:
    """As in `tailgrad curve ... | head`: the pipe breaks amid the output, or when the little there is leaves Python."""
    code = (
        "import sys; from tailgrad.cli import curve, main\n"
        f"curve.run = lambda words: (sys.stdin.read(), [print('a line') for _ in range({lines})])\n"
        "sys.argv = ['tailgrad', 'curve', 'a', '--out', 'b']; sys.exit(main.main())"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes, text=True) as process:
        process.stdout.close()  # as `head` does once it has its lines
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141

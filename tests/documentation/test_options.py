"""Every option that a page names is one of the command line, and every printed command is one that it parses."""

from __future__ import annotations

import argparse
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from pages import ROOT, blocks_of
from trl import TrlParser

from tailgrad.cli.main import COMMANDS

FOLDERS = ("docs", "recipes", "benchmarks", "experiments")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(p for f in FOLDERS for p in sorted((ROOT / f).rglob("*.md")))]
PAGES = [page for page in PAGES if not {"results", "artifacts"} & set(page.parts)]

# Options of other programs and of scripts of this repository, which their own tests try.
OTHERS = {
    *("--num_processes", "--cpu", "--nproc_per_node", "--max_restarts"),  # accelerate, torchrun
    *("--nnodes", "--ntasks"),  # torchrun, Slurm
    *("--advantage", "--custom", "--n", "--normalize"),  # slime, whose words are joined by hyphens
    *("--algo", "--reward"),  # OpenRLHF, whose words are joined by points
    *("--external_plugins", "--extra", "--isolated", "--with"),  # ms-swift, uv
    *("--config_file", "--num_machines", "--machine_rank", "--main_process_ip"),  # accelerate
    *("--mixed_precision", "--fsdp_cpu_ram_efficient_loading"),  # likewise
    # experiments, benchmarks
    *("--data", "--exclude", "--out", "--policies", "--reward", "--precision", "--prompts", "--responses", "--tables"),
    *("--variants", "--report_only", "--reward_columns", "--clients"),
    "--max",  # vLLM, whose words are joined by hyphens
    *("--help", "--version"),
}


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    return {command.__name__.rpartition(".")[2]: command.make_parser() for command in COMMANDS}


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    takes_config = {"--config"} if isinstance(parser, TrlParser) else set()
    return {option for action in parser._actions for option in action.option_strings} | takes_config


def commands_of(page: Path) -> list[list[str]]:
    """The words of every `tailgrad` command in a page's shell blocks."""
    text = "\n".join(block.text for block in blocks_of(page) if block.language == "bash")
    text = re.sub(r"\$\(.*?\)", "SUBSTITUTED", text.replace("\\\n", " "))
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith("tailgrad ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_is_named_exists(page: Path) -> None:
    known = set().union(*map(options_of, parsers().values()), OTHERS)
    named = set(re.findall(r"(?<![\w-])--[a-z][\w]*", page.read_text(encoding="utf-8")))
    assert not named - known


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_printed_command_is_parsed(page: Path) -> None:
    for command, *words in commands_of(page):
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options_of(parsers()[command]), f"tailgrad {command}"
        if command != "train":
            parsers()[command].parse_args(words)

"""What is installed beside tailgrad, what is registered, what clashes, and the command that mends it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Final, Literal

from tailgrad import __version__

if TYPE_CHECKING:
    from packaging.requirements import Requirement

EXTRAS: Final = {
    "eval": "curve, tails, plan, report",
    "sample": "sample, score, judge, fidelity",
    "train": "train, grid, quickstart",
    "serve": "serve",
}
"""The commands that each extra is for."""

NEIGHBOURS: Final = (
    *("trl", "verl", "skyrl", "rllm", "slime", "unsloth", "vllm", "sglang"),
    *("transformers", "peft", "datasets", "accelerate", "ray", "tensordict"),
)
"""The packages whose own requirements are looked at."""

VERL: Final = """
import json, verl
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as found
print(json.dumps([name for name, one in found.items() if type(one).__module__ == "tailgrad.integrations.verl"]))
"""
"""A program that prints, last, the names under which verl has tailgrad's estimators."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        state: "ok", "missing" (nothing that is there needs it) or "broken".
        text: What was found.
        mend: The command, or the step, that mends it.
    """

    state: Literal["ok", "missing", "broken"]
    text: str
    mend: str | None = None

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.state:8} {self.text}" + (f"\n{'':9}-> {self.mend}" if self.mend else "")


def examine() -> list[Finding]:
    """Look at this environment.

    verl is imported in a process of its own, as a Ray worker would; that takes some seconds where it is installed.

    Returns:
        What was found, in the order in which it is printed.
    """
    found = [_itself(), *_extras(), *_clashes()]
    looks = {"verl": _verl, "skyrl": _skyrl, "rllm": _rllm, "slime": _slime}
    return found + [look(version) for name, look in looks.items() if (version := _version(name))]


def _version(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _requirements(name: str, extra: str = "") -> Iterator[Requirement]:
    """What an installed package needs; with an extra, what that adds, and the extras that it stands on."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, metadata.requires(name) or ()):
        plain = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        asked = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not asked or (extra and plain):
            continue
        if requirement.name == name:
            for other in requirement.extras:
                yield from _requirements(name, other)
        else:
            yield requirement


def _unmet(requirement: Requirement) -> str | None:
    """What is wrong with the installed version, or None."""
    version = _version(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} {version} is installed, {requirement.specifier} is needed"


def _itself() -> Finding:
    """This package and what its core needs."""
    name = f"tailgrad {__version__}, Python {platform.python_version()}"
    unmet = {str(one): words for one in _requirements("tailgrad") if (words := _unmet(one))}
    if unmet:
        return Finding("broken", f"{name}: {'; '.join(unmet.values())}", _install(*unmet))
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return Finding("ok", f"{name}, torch {torch.__version__}, {'no GPU' if device is None else device.type}")


def _extras() -> Iterator[Finding]:
    """Which commands have what they need. TRL is here for `tailgrad train` alone, so another version of it is wrong."""
    for extra, commands in EXTRAS.items():
        needed = list(_requirements("tailgrad", extra))
        unmet = {one: words for one in needed if (words := _unmet(one))}
        if not unmet:
            yield Finding("ok", f"{commands}: all that tailgrad[{extra}] needs is installed")
            continue
        wrong_trl = any(one.name == "trl" and _version("trl") for one in unmet)
        held = [words for one in unmet if (words := _held(one))]
        mend = f"pip install 'tailgrad[{extra}]'" + (f" in another environment: {'; '.join(held)}" if held else "")
        yield Finding("broken" if wrong_trl else "missing", f"{commands}: {'; '.join(unmet.values())}", mend)


def _held(requirement: Requirement) -> str | None:
    """Which installed package forbids every version that a requirement of ours asks for."""
    lowest = next((one.version for one in requirement.specifier if one.operator == ">="), "0")
    for name in NEIGHBOURS:
        for other in _requirements(name) if _version(name) else ():
            if other.name == requirement.name and not other.specifier.contains(lowest, prereleases=True):
                return f"{name} {_version(name)} needs {other.name}{other.specifier}"
    return None


def _clashes() -> Iterator[Finding]:
    """Requirements of the packages beside us that another version of theirs is installed for."""
    for name in NEIGHBOURS:
        for one in _requirements(name) if _version(name) else ():
            if _version(one.name) and (words := _unmet(one)):
                yield Finding("broken", f"{name} {_version(name)}: {words}", _install(f"{one.name}{one.specifier}"))


def _install(*requirements: str) -> str:
    return f"pip install {' '.join(map(repr, requirements))}"


def _run(program: str) -> tuple[bool, str]:
    """Whether a program of Python's ran to its end, and its last line."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit code {done.returncode}"


def _verl(version: str) -> Finding:
    """Whether verl has our estimators when it is imported, and if not, why."""
    runs, line = _run(VERL)
    if not runs:
        return Finding("broken", f"verl {version} cannot be imported: {line}", _install("verl>=0.9,<0.10"))
    if names := json.loads(line):
        return Finding("ok", f"verl {version}: algorithm.adv_estimator may be {', '.join(names)}")
    allowed = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    if allowed != "auto" and "tailgrad" not in [name.strip() for name in allowed.split(",")]:
        reason, mend = f"VERL_USE_EXTERNAL_PLUGINS={allowed} keeps it out", "unset VERL_USE_EXTERNAL_PLUGINS"
    elif not any(one.name == "tailgrad" for one in metadata.entry_points(group="verl.plugins")):
        reason = "this installation of tailgrad names no plugin"
        mend = "pip install --force-reinstall --no-deps tailgrad (or the path of your clone)"
    else:
        reason, mend = _run("import tailgrad.integrations.verl")[1], _install("verl>=0.9,<0.10")
    return Finding("broken", f"verl {version} does not have tailgrad's estimators: {reason}", mend)


def _skyrl(version: str) -> Finding:
    """Whether the adapter finds what it needs of SkyRL."""
    return _registered_by_hand("SkyRL", "skyrl", version, "before initialize_ray", "skyrl")


def _rllm(version: str) -> Finding:
    """Whether the adapter finds what it needs of rLLM."""
    source = "git+https://github.com/rllm-org/rllm"  # which PyPI does not have
    return _registered_by_hand("rLLM", "rllm", version, "before the trainer is made", source)


def _registered_by_hand(name: str, module: str, version: str, when: str, source: str) -> Finding:
    runs, line = _run(f"import tailgrad.integrations.{module}")
    if not runs:
        return Finding(
            "broken", f"{name} {version}: the adapter cannot be imported: {line}", f"pip install -U {source}"
        )
    return Finding("ok", f"{name} {version}: call tailgrad.integrations.{module}.register('tea', deploy_n=128) {when}")


def _slime(version: str) -> Finding:
    """What slime is to be told: its adapter imports nothing of it. PyPI has another project of this name."""
    runs, line = _run("from slime.utils.types import Sample")
    if not runs:
        mend = "pip install -U git+https://github.com/THUDM/slime"
        return Finding("broken", f"slime {version} is not the trainer, or cannot be imported: {line}", mend)
    path = "tailgrad.integrations.slime.post_process_rewards"
    return Finding("ok", f"slime {version}: --custom-reward-post-process-path {path}")

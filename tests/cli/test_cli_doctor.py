"""`tailgrad doctor` on environments that are made up, and on this one."""

import json
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from typing import Any

import pytest

from tailgrad import doctor
from tailgrad.cli.main import main

OURS = [
    "torch>=2.9",
    'tailgrad[plot]; extra == "eval"',
    'matplotlib>=3.10; extra == "plot"',
    'transformers>=5.12; extra == "sample"',
    'tailgrad[sample]; extra == "train"',
    'trl<1.17,>=1.16; extra == "train"',
    'uvicorn>=0.40; extra == "serve"',
]
HEALTHY = {"tailgrad": "0.2", "torch": "2.13.0+cpu", "matplotlib": "3.11", "transformers": "5.16", "trl": "1.16.1"}
HEALTHY |= {"uvicorn": "0.54"}
VERL = ["transformers!=5.6.0,<5.11,>=5.5.3", 'vllm>=0.18; extra == "vllm"', "numpy>=2"]
PLUGIN = {"verl.plugins": [SimpleNamespace(name="tailgrad")]}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an environment up: versions by name; what programs print, by a word in them; entry points; variables."""

    def make(versions: dict[str, str], runs: Any = None, points: Any = PLUGIN, **variables: str) -> None:
        def version(name: str) -> str:
            if name not in versions:
                raise PackageNotFoundError(name)
            return versions[name]

        def run(command: list[str], **how: Any) -> Any:
            code, line = next(answer for word, answer in (runs or {}).items() if word in command[-1])
            return SimpleNamespace(returncode=code, stdout=f"noise\n{line}\n", stderr=f"Traceback\n{line}\n")

        needs = {"tailgrad": OURS, "verl": VERL, "skyrl": None}
        fake = SimpleNamespace(
            version=version,
            requires=needs.get,
            entry_points=lambda group: points.get(group, []),
            PackageNotFoundError=PackageNotFoundError,
        )
        monkeypatch.setattr(doctor, "metadata", fake)
        monkeypatch.setattr(doctor.subprocess, "run", run)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return make


def broken() -> list[str]:
    return [str(found) for found in doctor.examine() if found.state == "broken"]


def test_a_healthy_environment_is_fine(environment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    environment(HEALTHY)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * 5
    assert "tailgrad[train]" in lines[3]


def test_what_is_not_there_is_missing_and_nothing_is_broken(
    environment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    environment({name: HEALTHY[name] for name in ("tailgrad", "torch")})
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("missing ") == 4
    assert "matplotlib is not installed\n         -> pip install 'tailgrad[eval]'\n" in printed


def test_another_version_than_a_command_needs_is_broken(environment: Any) -> None:
    environment(HEALTHY | {"trl": "1.17.0"})
    (found,) = broken()
    assert "train, grid, quickstart: trl 1.17.0 is installed, <1.17,>=1.16 is needed" in found
    assert found.endswith("-> pip install 'tailgrad[train]'")
    environment(HEALTHY | {"torch": "2.8"})
    assert "torch 2.8 is installed, >=2.9 is needed\n         -> pip install 'torch>=2.9'" in broken()[0]


def test_in_verls_environment_the_commands_that_it_forbids_are_missing(environment: Any) -> None:
    versions = {"tailgrad": "0.2", "torch": "2.13", "transformers": "5.10.4", "verl": "0.9.1", "numpy": "2.4"}
    environment(versions, {"json, verl": (0, json.dumps(["tea", "tailgrad_grpo"]))})
    found = {one.text.partition(":")[0]: one for one in doctor.examine()}
    sample = found["sample, score, judge, fidelity"]
    assert sample.state == "missing"
    assert sample.mend == "pip install 'tailgrad[sample]' in another environment: verl 0.9.1 needs transformers" + (
        "!=5.6.0,<5.11,>=5.5.3"
    )
    assert found["verl 0.9.1"].text.endswith("algorithm.adv_estimator may be tea, tailgrad_grpo")
    assert not broken()


def test_versions_that_clash_are_broken(environment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    environment(HEALTHY | {"verl": "0.9.1", "numpy": "2.4"}, {"json, verl": (0, '["tea"]')})
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "broken   verl 0.9.1: transformers 5.16 is installed, !=5.6.0,<5.11,>=5.5.3 is needed" in printed
    assert "-> pip install 'transformers!=5.6.0,<5.11,>=5.5.3'" in printed


@pytest.mark.parametrize(
    ("points", "variables", "reason", "mend"),
    [
        (PLUGIN, {"VERL_USE_EXTERNAL_PLUGINS": "none"}, "=none keeps it out", "unset VERL_USE_EXTERNAL_PLUGINS"),
        (PLUGIN, {"VERL_USE_EXTERNAL_PLUGINS": "a,b"}, "=a,b keeps it out", "unset VERL_USE_EXTERNAL_PLUGINS"),
        ({}, {}, "names no plugin", "pip install --force-reinstall --no-deps tailgrad"),
        (PLUGIN, {}, "ImportError: cannot import name", "pip install 'verl>=0.9,<0.10'"),
        (PLUGIN, {"VERL_USE_EXTERNAL_PLUGINS": "a, tailgrad"}, "ImportError", "pip install 'verl>=0.9,<0.10'"),
    ],
)
def test_a_plugin_that_verl_does_not_load_is_broken_and_the_reason_is_said(
    environment: Any, points: Any, variables: dict[str, str], reason: str, mend: str
) -> None:
    runs = {"json, verl": (0, "[]"), "integrations.verl": (1, "ImportError: cannot import name 'AlgoConfig'")}
    environment({"tailgrad": "0.2", "torch": "2.13", "verl": "0.9.1"}, runs, points, **variables)
    (found,) = broken()
    assert reason in found
    assert mend in found


def test_a_trainer_that_cannot_be_imported_is_broken(environment: Any) -> None:
    failing = (1, "ModuleNotFoundError: No module named 'ray'")
    versions = {"tailgrad": "0.2", "torch": "2.13", "verl": "0.9.1", "skyrl": "0.3", "slime": "0.3.1"}
    runs = {"json, verl": failing, "integrations.skyrl": failing, "slime.utils.types": (0, "")}
    environment(versions, runs)
    assert ["No module named 'ray'" in found for found in broken()] == [True, True]


def test_a_package_that_only_has_the_name_of_a_trainer_is_broken(environment: Any) -> None:
    failing = (1, "ModuleNotFoundError: No module named 'slime.utils'")
    versions = {"tailgrad": "0.2", "torch": "2.13", "slime": "0.0.0", "rllm": "0.1"}
    environment(versions, {"slime.utils.types": failing, "integrations.rllm": failing})
    rllm, slime = broken()
    assert "pip install -U git+https://github.com/rllm-org/rllm" in rllm
    assert "is not the trainer" in slime
    assert "pip install -U git+https://github.com/THUDM/slime" in slime


def test_this_environment_is_fine() -> None:
    """The real look at real packages, verl excepted."""
    found = doctor.examine()
    assert {one.state for one in found} == {"ok"}, "\n".join(map(str, found))

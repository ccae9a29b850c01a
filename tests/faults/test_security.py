"""What comes from elsewhere runs nothing here: weights, templates, code of models. No command looks for a network."""

import ast
import json
import os
import pickle
import shutil
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tailgrad
from forked import in_child

from .conftest import Workshop
from .test_disks import gate, said
from .test_kills import COMMANDS

PACKAGE = Path(tailgrad.__file__).parent


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the library, with the dotted name of what is called."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node


def test_no_pickle_is_read_and_no_text_is_run() -> None:
    imported = {
        name.partition(".")[0]
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([one.name for one in node.names] if isinstance(node, ast.Import) else [])
        + ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
    }
    assert not imported & {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "jinja2"}
    for name, call in calls():
        assert name not in {"eval", "exec", "compile", "torch.load", "yaml.load", "yaml.unsafe_load", "os.system"}, name
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name == "np.load":
            assert given.get("allow_pickle") == "False"
        assert given.get("shell") != "True"
        assert given.get("trust_remote_code") != "True"


class Harmful:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def policy_of_pickles(workshop: Workshop, folder: Path, trace: Path) -> Workshop:
    policy = shutil.copytree(workshop.policy, folder / "policy")
    (policy / "model.safetensors").unlink()
    torch.save({"weights": Harmful(trace)}, policy / "pytorch_model.bin")
    return Workshop(workshop.folder, policy, workshop.prompts, workshop.table)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("command", ["sample", "train", "fidelity"])
def test_weights_that_would_run_code_run_none(
    workshop: Workshop, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, command: str, asked: bool
) -> None:
    """Where pickles are asked for, torch reads no more of them than numbers."""
    folder = new_folder()
    trace = folder / "trace"
    harmful = policy_of_pickles(workshop, folder, trace)
    monkeypatch.setenv("TAILGRAD_TORCH_WEIGHTS", str(int(asked)))
    ended = in_child(lambda: harmful.run(command), folder)
    assert ended.code == 2
    if not asked:
        assert "a pickle; safetensors are read" in said(ended.output)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["npy", "parquet", "csv", "jsonl"])
def test_a_table_that_would_run_code_runs_none(workshop: Workshop, new_folder: Callable[[], Path], kind: str) -> None:
    folder = new_folder()
    (folder / f"table.{kind}").write_bytes(pickle.dumps(Harmful(folder / "trace")))
    table = Workshop(workshop.folder, workshop.policy, workshop.prompts, folder / f"table.{kind}")
    ended = in_child(lambda: table.run("curve"), folder)
    assert ended.code == 2
    assert f"table.{kind}" in said(ended.output.replace("\n(TAILGRAD", " (TAILGRAD"))
    assert not (folder / "trace").exists()


ESCAPES = {
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('touch trace').read() }}",
    "an import": "{{ lipsum.__globals__['__builtins__']['__import__']('os').system('touch trace') }}",
    "a change": "{{ messages.append(1) }}",
    "no end": "{% for i in range(10**9) %}{% endfor %}",
}


@pytest.mark.parametrize("template", ESCAPES.values(), ids=ESCAPES.keys())
def test_a_template_that_would_leave_its_sandbox_is_refused(
    workshop: Workshop, new_folder: Callable[[], Path], template: str
) -> None:
    folder = new_folder()
    policy = shutil.copytree(workshop.policy, folder / "policy")
    (policy / "chat_template.jinja").write_text(template + "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    rows = [json.loads(line) for line in workshop.prompts.read_text().splitlines()]
    chats = [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    ended = in_child(lambda: Workshop(folder, policy, folder / "chats.jsonl", workshop.table).run("sample"), folder)
    assert ended.code == 2
    assert "template" in said(ended.output.replace("\n(TAILGRAD", " (TAILGRAD"))
    assert not (folder / "trace").exists()


def test_a_model_with_code_of_its_own_is_not_loaded_unasked(workshop: Workshop, new_folder: Callable[[], Path]) -> None:
    folder = new_folder()
    policy = shutil.copytree(workshop.policy, folder / "policy")
    (policy / "code.py").write_text(f"open({str(folder / 'trace')!r}, 'w')")
    config = json.loads((policy / "config.json").read_text())
    own = {"auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}, "model_type": "own"}
    (policy / "config.json").write_text(json.dumps(config | own))
    for command in ("sample", "train", "fidelity"):
        with_code = Workshop(workshop.folder, policy, workshop.prompts, workshop.table)
        ended = in_child(lambda with_code=with_code, command=command: with_code.run(command), folder)
        assert ended.code == 2
        assert "trust_remote_code" in said(ended.output.replace("\n(TAILGRAD", " (TAILGRAD"))
    assert not (folder / "trace").exists()


@pytest.mark.parametrize("command", gate("sample", "train", "score", "curve", of=COMMANDS))
def test_a_command_on_local_files_looks_for_no_network(
    workshop: Workshop, new_folder: Callable[[], Path], command: str
) -> None:
    """Not even where the hub may be asked: every attempt to reach another machine is written down and refused."""
    folder = new_folder()
    tried = folder.with_name(f"{folder.name}.network")

    def watched(counter: Any) -> None:
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = False  # next, as a process of its own would read it after `main` has begun
        constants.HF_HUB_DISABLE_TELEMETRY = os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            local = event == "socket.connect" and arguments[0].family == socket.AF_UNIX
            if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname") and not local:
                with tried.open("a") as file:
                    file.write(f"{event} {arguments}\n")
                    traceback.print_stack(limit=40, file=file)
                raise ConnectionRefusedError("no network here")

        sys.addaudithook(hook)

    ended = in_child(lambda: workshop.run(command), folder, watched)
    assert ended.code == 0, ended.output
    assert not tried.exists(), tried.read_text()

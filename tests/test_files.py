"""Files and folders that are replaced: a kill at any moment leaves a whole one, which the next run finds."""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailgrad.files import claimed, expanded, replacing_folder, restore_folder


class Killed(BaseException):
    """In the place of a kill: nobody catches it."""


def killed_at(call: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let renaming and removing stop before the call of this number; what was called is told."""
    calls: list[str] = []

    def stopping(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def stop(first: Path, *args: Any, **kwargs: Any) -> Any:
            if not Path(first).exists():
                return function(first, *args, **kwargs)
            calls.append(name)
            if len(calls) == call:
                if name == "rmtree":  # amid it
                    next(path for path in Path(first).iterdir() if path.is_file()).unlink()
                raise Killed
            return function(first, *args, **kwargs)

        return stop

    monkeypatch.setattr(os, "replace", stopping("replace", os.replace))
    monkeypatch.setattr(shutil, "rmtree", stopping("rmtree", shutil.rmtree))
    return calls


def fill(folder: Path, version: str, *, killed: bool = False) -> None:
    assert not any(folder.iterdir())
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text(version)
        if killed:
            raise Killed


def version_of(folder: Path) -> str:
    """The one version that both files have, and nothing else is there."""
    versions = {path.name: path.read_text() for path in folder.iterdir()}
    assert versions.keys() == {"config.json", "model.safetensors"}
    (version,) = set(versions.values())
    return version


@pytest.mark.parametrize("looked_for", [True, False])
@pytest.mark.parametrize(("call", "left"), [(1, "old"), (2, "new"), (3, "new"), (4, "new")])
def test_a_kill_at_any_step_leaves_a_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, left: str, looked_for: bool
) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    fill(folder, "old")
    with monkeypatch.context() as patch:
        calls = killed_at(call, patch)
        if call < 4:
            with pytest.raises(Killed), replacing_folder(folder) as unfinished:
                fill(unfinished, "new")
        else:  # not killed
            with replacing_folder(folder) as unfinished:
                fill(unfinished, "new")
        assert calls == ["replace", "replace", "rmtree"][:call]
    if looked_for:
        restore_folder(folder)
        assert version_of(folder) == left
    with replacing_folder(folder) as unfinished:
        assert version_of(folder) == left, "until the end it is as it was"
        fill(unfinished, "newer")
    assert version_of(folder) == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_an_error_while_it_is_filled_leaves_the_folder_and_the_next_begins_empty(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    for version in ("old", "new"):
        with pytest.raises(Killed), replacing_folder(folder) as unfinished:
            fill(unfinished, version, killed=True)
        restore_folder(folder)
        assert not folder.exists(), "what is not whole is not put in place"
    with replacing_folder(folder) as unfinished:
        fill(unfinished, "new")
    assert version_of(folder) == "new"
    with pytest.raises(Killed), replacing_folder(folder) as unfinished:
        fill(unfinished, "newer", killed=True)
    restore_folder(folder)
    assert version_of(folder) == "new"


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "policy").mkdir()
    fill(tmp_path / "disk" / "policy", "old")
    link = tmp_path / "policy"
    link.symlink_to(tmp_path / "disk" / "policy")
    with replacing_folder(link) as unfinished:
        fill(unfinished, "new")
    assert link.is_symlink()
    assert version_of(tmp_path / "disk" / "policy") == "new"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["policy"]


def test_a_lock_whose_file_is_removed_while_it_is_taken_is_held_by_nobody(tmp_path: Path) -> None:
    """Two processes take a lock each, thousands of times, and remove those of both, as a process does that leaves."""

    def take(own: int) -> None:
        for _ in range(4000):
            with claimed(tmp_path / "locks" / f"lock-{own}") as ours:
                for path in (tmp_path / "locks").glob("lock-*"):
                    path.unlink(missing_ok=True)
                if not ours:
                    raise SystemExit(1)

    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=take, args=(own,)) for own in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, mkdir, calls = tmp_path / "parts" / "lock", os.mkdir, []

    def late(path: Any, *mode: Any) -> None:
        calls.append(path)
        if len(calls) == 1:  # another process had it, and removes it now
            raise FileExistsError(17, "File exists", str(path))
        mkdir(path, *mode)

    monkeypatch.setattr(os, "mkdir", late)
    with claimed(lock) as ours:
        assert ours
    assert len(calls) > 1
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError), claimed(tmp_path / "file" / "lock"):
        pass
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError), claimed(tmp_path / "dangling" / "lock"):
        pass


def test_a_home_folder_is_filled_in_or_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a"
    assert expanded(Path("a/~b")) == Path("a/~b")
    with pytest.raises(ValueError, match=r"'~no-such-user/a' begins with ~no-such-user, a home folder that is not"):
        expanded("~no-such-user/a")

"""What launchers tell their processes, and what follows: the device, the progress bar, the path that is printed."""

import pytest
import torch

from tailgrad.events import progress_bar
from tailgrad.models.devices import torch_device
from tailgrad.processes import local_index, num_processes, process_index

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "names", [NAMES, ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")]
)
def test_launchers_say_which_of_how_many_processes_this_is(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    assert (num_processes(), process_index(), local_index()) == (1, 0, None)
    for name, value in zip(names, ("8", "5", "1"), strict=True):
        monkeypatch.setenv(name, value)
    assert (num_processes(), process_index(), local_index()) == (8, 5, 1)


def test_what_is_no_number_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(NAMES, ("", "all", "-1"), strict=True):
        monkeypatch.setenv(name, value)
    assert (num_processes(), process_index(), local_index()) == (1, 0, None)


def test_each_process_of_a_machine_takes_the_next_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch_device(None) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device(None) == torch.device("cuda")
    found = []
    for place in "0123":
        monkeypatch.setenv("LOCAL_RANK", place)
        found.append(torch_device(None).index)
    assert found == [0, 1, 0, 1]
    assert torch_device("cuda:1").index == 1


@pytest.mark.parametrize("index", ["0", "1"])
def test_the_first_process_alone_shows_how_far_it_is(
    index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", index)
    with progress_bar(2, name="sample", unit="prompt") as move:
        move(2)
    assert ("2/2" in capsys.readouterr().err) == (index == "0")

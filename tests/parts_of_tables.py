"""A table whose rows say which they are, and its parts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailgrad.rollouts import read_rollouts
from tailgrad.rollouts.parts import make_table


@dataclass
class Maker:
    """Makes rows whose reward says which they are; raises before the part with `stop_before`."""

    prompt_ids: list[int] = field(default_factory=lambda: [3, 4, 7, 8, 9, 11, 12])
    n: int = 4
    part_size: int = 2
    metadata: dict[str, Any] = field(default_factory=lambda: {"seed": 0})
    stop_before: int | None = None
    made: list[range] = field(default_factory=list)

    def rows(self, part: range) -> dict[str, list[Any]]:
        if self.stop_before is not None and self.stop_before in part:
            raise KeyboardInterrupt
        self.made.append(part)
        pairs = [(self.prompt_ids[i], j) for i in part for j in range(self.n)]
        columns: dict[str, Any] = dict.fromkeys(("logprob", "reference_logprob"), 0.0)
        columns |= {"prompt": "one", "response": "two", "num_tokens": 1, "finished": True}
        return {
            "prompt_id": [prompt for prompt, _ in pairs],
            "response_index": [index for _, index in pairs],
            "reward": [prompt + index / 10 for prompt, index in pairs],
            **{name: [value] * len(pairs) for name, value in columns.items()},
        }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "table.parquet"


@pytest.fixture
def begun(out: Path) -> Path:
    """The parts of a table of which the prompts at 0 to 3 are there."""
    with pytest.raises(KeyboardInterrupt):
        make_table(out, lambda: Maker(stop_before=4), verb="make")
    return out.with_name("table.parquet.parts")


def check_whole(out: Path) -> None:
    table, maker = read_rollouts(out), Maker()
    assert table.prompt_ids.tolist() == maker.prompt_ids
    np.testing.assert_allclose(table.rewards, np.array(maker.prompt_ids)[:, None] + np.arange(4) / 10)
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name]

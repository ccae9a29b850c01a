"""The type of a column whose values are any JSON."""

from __future__ import annotations

import json
from typing import Any

from datasets import Json


class ExactJson(Json):
    """`datasets.Json` with Python's reader: that of `datasets` reads 0.207 as 0.20700000000000002."""

    def decode_example(self, example_data: str | None, token_per_repo_id: Any = None) -> Any:
        """Return the value that a cell holds."""
        return None if example_data is None else json.loads(example_data)

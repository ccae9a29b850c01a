"""What tests of serving share: tiny policies, quick breakers, calls that are closed."""

from collections.abc import Iterator
from typing import Any

import pytest

from best_of_n_servers import Make
from local_servers import quick
from tailgrad.serving import BestOfN
from tiny_policies import chat_policy, policy

__all__ = ["chat_policy", "policy", "quick"]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes calls, and closes them."""
    made: list[BestOfN] = []

    def one(*words: Any, **options: Any) -> BestOfN:
        made.append(BestOfN(*words, **options))
        return made[-1]

    yield one
    for best_of_n in made:
        best_of_n.close()

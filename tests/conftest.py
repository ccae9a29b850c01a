"""What every test shares: a quiet, offline environment, and shape annotations that are enforced."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import jaxtyping

# Under test, and only there, the core's shape annotations are checked at every call. The hook acts on what
# is imported after it, so it stands before any import of these packages.
jaxtyping.install_import_hook(["tailgrad.estimators", "tailgrad.tails", "tailgrad.evaluation"], "beartype.beartype")


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Lets a malformed argument through to the function's own check of it, for tests of that check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

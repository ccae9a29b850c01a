"""What every test shares: a quiet, offline environment, shape annotations that are enforced, a tiny policy."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import jaxtyping

from slow_tests import SLOW, SLOW_OF_CORE

# Under test, and only there, the core's shape annotations are checked at every call. The hook acts on what
# is imported after it, so it stands before any import of these packages.
CHECKED = [f"tailgrad.{room}" for room in ("estimators", "tails", "statistics", "curves", "fidelity", "planning")]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests."""
    slow = SLOW if "MUTANT_UNDER_TEST" in os.environ else (*SLOW, *SLOW_OF_CORE)  # as mutmut sets it
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(slow):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What is loaded by now stays: every training ends with a full garbage collection, which need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Lets a malformed argument through to the function's own check of it, for tests of that check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy saved to disk, with the quickstart's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    from tailgrad.quickstart.policy import build_tokenizer

    folder = tmp_path_factory.mktemp("policy")
    set_seed(0)
    tokenizer = build_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=96,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **sizes,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""What every test shares: a quiet, offline environment, shape annotations that are enforced, a tiny policy."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import jaxtyping

# Under test, and only there, the core's shape annotations are checked at every call. The hook acts on what
# is imported after it, so it stands before any import of these packages.
CHECKED = [f"tailgrad.{room}" for room in ("estimators", "tails", "statistics", "curves", "fidelity", "planning")]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")


SLOW = (
    "faults/",
    *(
        "training/",
        "cli/",
        "runner/",
        "documentation/test_commands",
        "quickstart/test_run",
        "quickstart/test_base_policy",
    ),
    *(
        "grid/test_grid_run",
        "grid/test_grid_interrupted",
        "grid/test_grid_report",
        "grid/test_preflight",
        "grid/test_grid_config.py::test_a_grid_with",
    ),
    *("experiments/", "test_arena", "test_experiments", "test_extras", "test_recipes", "test_small_instruct"),
    *("rollouts/test_interruption", "rollouts/test_prompts", "rollouts/test_sample", "rollouts/test_table_memory"),
    *("rollouts/test_launchers", "rollouts/test_many_processes", "rollouts/test_openai_engine"),
    *("judging/test_judge", "judging/test_resume", "judging/test_by_reward"),
    *("rollouts/test_train_and_sample", "rewards/test_reward_model"),
    *("fidelity/gradients/", "fidelity/test_break_even"),
    *("estimators/test_add_an_estimator", "tails/test_add_a_tail.py::test_in_the_library"),
    *("serving/test_failures", "serving/test_refused", "serving/test_server", "serving/test_behind_a_server"),
    *("rewards/test_remote", "models/test_server", "test_files.py::test_a_lock", "test_front_door.py::test_the_import"),
    *("statistics/test_intervals.py::test_of_very_many", "statistics/test_intervals.py::test_an_interval_over"),
    *("statistics/test_jackknife.py::test_it_covers", "planning/test_plan.py::test_rewards_with_ties"),
    *("planning/test_plan.py::test_a_report", "tails/test_reach", "tails/test_tails_report"),
    *("tails/test_diagnosis.py::test_few_prompts", "tails/test_far_forecasts.py::test_the_half_width"),
    *(
        "tails/test_pareto.py::test_the_pooled",
        "fidelity/test_small_pools",
        "fidelity/test_break_even.py::test_the_cosine",
    ),
    *(
        "serving/test_tail_stopping.py::test_it_finds",
        "fidelity/test_fidelity.py::test_a_gaussian_policy",
        "estimators/test_off_policy.py::test_teas_bias",
    ),
    *("estimators/test_leave_two_out.py::test_what_it_gains", "estimators/test_contract.py::test_compile"),
)
"""How the names of tests begin that train, start processes or take seconds; `make test` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests."""
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(SLOW):
            item.add_marker(pytest.mark.slow)


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

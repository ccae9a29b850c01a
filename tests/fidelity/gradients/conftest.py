"""Tiny policies saved to disk, prompts, rewards, and a sampled table."""

from pathlib import Path
from typing import Any

import pytest

from tailgrad.rollouts import SampleConfig, sample
from tiny_policies import chat_policy, dataset, make_policy, options, policy

__all__ = ["chat_policy", "dataset", "make_policy", "options", "policy"]


@pytest.fixture
def pool(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a GradientConfig for a sampled table of 5 prompts with 12 responses."""
    sample(SampleConfig(**options | {"n": 12, "temperature": 0.7}))
    out = Path(options["out"]).with_name("gradients")
    return {"table": options["out"], "model_name_or_path": options["model_name_or_path"], "out": out, "dim": 64}

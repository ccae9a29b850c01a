"""The base policy, fitted once for all tests here, as `tailgrad quickstart` fits it."""

from pathlib import Path

import pytest

from tailgrad.quickstart.policy import fit_base_policy


@pytest.fixture(scope="session")
def base_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_base_policy(tmp_path_factory.mktemp("quickstart") / "base")

"""Models that are loaded while DeepSpeed divides the policy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.integrations.deepspeed import (
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)

from tailgrad.models.loading import check_policy_weights
from tailgrad.models.whole import whole


class ZeRO3:
    """What transformers asks of DeepSpeed's configuration."""

    def is_zero3(self) -> bool:
        return True


@pytest.fixture
def zero3() -> Iterator[ZeRO3]:
    config = ZeRO3()
    set_hf_deepspeed_config(config)
    yield config
    unset_hf_deepspeed_config()


def test_what_is_whole_is_not_divided_and_the_policy_still_is(zero3: ZeRO3) -> None:
    assert is_deepspeed_zero3_enabled()
    with whole():
        assert not is_deepspeed_zero3_enabled()
    assert is_deepspeed_zero3_enabled()
    with pytest.raises(KeyError), whole():
        raise KeyError
    assert is_deepspeed_zero3_enabled()


def test_without_deepspeed_nothing_changes() -> None:
    with whole():
        assert not is_deepspeed_zero3_enabled()
    assert not is_deepspeed_zero3_enabled()


def test_the_look_at_a_policys_weights_does_not_divide_it(zero3: ZeRO3, policy: Path) -> None:
    check_policy_weights(str(policy), "policy")

"""Models that are loaded while DeepSpeed divides the policy."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification
from transformers.integrations.deepspeed import (
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)

from tailgrad.models.loading import check_policy_weights, load_policy
from tailgrad.models.whole import EMPTY_BUT_ON_THE_FIRST, whole
from tailgrad.rewards import RewardModel


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


def test_no_process_gets_weights_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    with whole():
        assert EMPTY_BUT_ON_THE_FIRST not in os.environ
    assert EMPTY_BUT_ON_THE_FIRST not in os.environ
    monkeypatch.setenv(EMPTY_BUT_ON_THE_FIRST, "true")
    with whole():
        assert EMPTY_BUT_ON_THE_FIRST not in os.environ
    assert os.environ[EMPTY_BUT_ON_THE_FIRST] == "true"


def test_the_look_at_a_policys_weights_does_not_divide_it(zero3: ZeRO3, policy: Path) -> None:
    check_policy_weights(str(policy), "policy")


def test_policies_and_reward_models_are_loaded_whole(zero3: ZeRO3, policy: Path, tmp_path: Path) -> None:
    """Without DeepSpeed installed, transformers would fail to divide them."""
    config = LlamaConfig.from_pretrained(policy, num_labels=1)
    with whole():
        LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(policy).save_pretrained(tmp_path)
    assert load_policy(str(policy))[0].get_input_embeddings().weight.numel() > 0
    scores = RewardModel(str(tmp_path))(prompts=["tell a story"], completions=["of the sea"])
    assert scores[0] is not None
